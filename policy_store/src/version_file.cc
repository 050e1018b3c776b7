#include "fuseline/policy_store/version_file.h"

#include <utility>
#include <vector>

#include "fuseline/core/digest.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

constexpr std::string_view kMagic = "FUSELINE VERSION 1\n";
constexpr std::size_t kDigestBytes = 32;

// The parts that a manifest speaks of, cut from the whole. Errors: kCorrupt if the sizes differ.
Result<std::vector<std::string>> PartsOf(const v1::PolicyManifest& manifest, std::string_view weights) {
  std::vector<std::string> parts;
  for (const v1::Part& part : manifest.parts()) {
    if (part.size_bytes() > weights.size()) return Error(Code::kCorrupt, "version file: the weights are shorter than the manifest says");
    parts.emplace_back(weights.substr(0, part.size_bytes()));
    weights.remove_prefix(part.size_bytes());
  }
  if (!weights.empty()) return Error(Code::kCorrupt, "version file: the weights are longer than the manifest says");
  return parts;
}

}  // namespace

std::string EncodeVersionFile(const ArchivedVersion& version) {
  v1::ExportedVersion exported;
  exported.set_manifest(version.manifest_bytes);
  exported.set_weights(version.version.weights);
  exported.set_signature(version.version.signature);
  const std::string body = CanonicalBytes(exported);
  return std::string(kMagic) + Sha256Of(body) + body;
}

Result<ArchivedVersion> DecodeVersionFile(std::string_view bytes, const PublicKeys& trusted) {
  const std::size_t head = kMagic.size() + kDigestBytes;
  if (!bytes.starts_with(kMagic) || bytes.size() < head) return Error(Code::kCorrupt, "this is no exported version (versions export)");
  const std::string_view body = bytes.substr(head);
  if (Sha256Of(body) != bytes.substr(kMagic.size(), kDigestBytes)) return Error(Code::kCorrupt, "version file: its digest differs");
  v1::ExportedVersion exported;
  v1::PolicyManifest head_only;
  if (!exported.ParseFromArray(body.data(), static_cast<int>(body.size())) || !head_only.ParseFromString(exported.manifest())) {
    return Error(Code::kCorrupt, "version file: it does not decode");
  }
  if (!trusted.empty() && !trusted.Verify(exported.manifest(), exported.signature())) {
    return Error(Code::kCorrupt, "version file: no key of policy_store.public_keys signed it");
  }
  ArchivedVersion result;
  FUSELINE_ASSIGN_OR_FAIL(v1::PolicyManifest manifest, DecodeManifest(exported.manifest(), {}, head_only.version()));
  if (manifest.version() == 0) return Error(Code::kCorrupt, "version file: version 0 is never stored");
  // An archive writes them anew: a signature must still be of these bytes then.
  if (CanonicalBytes(manifest) != exported.manifest())
    return Error(Code::kCorrupt, "version file: its manifest is not in canonical form");
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::string> parts, PartsOf(manifest, exported.weights()));
  FUSELINE_ASSIGN_OR_FAIL(result.version, AssembleVersion(std::move(manifest), parts));
  FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const TensorMap tensors, DecodeWeights(result.version.weights));
  result.manifest_bytes = std::move(*exported.mutable_manifest());
  result.version.signature = std::move(*exported.mutable_signature());
  return result;
}

}  // namespace fuseline
