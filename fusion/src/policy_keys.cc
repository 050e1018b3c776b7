#include "fuseline/fusion/policy_keys.h"

#include <algorithm>
#include <cctype>
#include <tuple>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr std::size_t kNameMax = 128;
constexpr std::size_t kDigestBytes = 32;

bool IsNameCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
}

}  // namespace

PolicyKeys::PolicyKeys(std::string_view policy) : prefix_("fuseline:{" + std::string(policy) + "}:") {
  FUSELINE_CHECK(ValidatePolicyName(policy).ok());
}

std::string PolicyKeys::manifest(std::uint64_t version) const { return prefix_ + "v:" + std::to_string(version) + ":manifest"; }

std::string PolicyKeys::signature(std::uint64_t version) const { return prefix_ + "v:" + std::to_string(version) + ":signature"; }

std::string PolicyKeys::part(std::uint64_t version, std::size_t index) const {
  return prefix_ + "v:" + std::to_string(version) + ":parts:" + std::to_string(index);
}

Status ValidatePolicyName(std::string_view policy) {
  if (!policy.empty() && policy.size() <= kNameMax && std::all_of(policy.begin(), policy.end(), IsNameCharacter)) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, "policy.name must be 1 to 128 letters, digits, '_', '-' or '.':", policy);
}

std::string PolicyKeys::delta(std::uint64_t version) const { return prefix_ + "v:" + std::to_string(version) + ":delta"; }

std::string ScorerPolicyOf(std::string_view policy) { return std::string(policy) + ".scorer"; }

bool IsNewer(const v1::AliasChange& next, const v1::AliasChange& last) {
  return std::tuple(next.epoch(), next.change()) > std::tuple(last.epoch(), last.change());
}

Result<v1::AliasChange> DecodeAliasChange(std::string_view bytes) {
  v1::AliasChange change;
  const bool parsed = change.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (!parsed || change.alias().empty() || change.to_version() == 0 || change.manifest_sha256().size() != kDigestBytes) {
    return Error(Code::kCorrupt, "not an alias change, bytes:", bytes.size());
  }
  return change;
}

void SealManifest(v1::PolicyManifest& manifest, std::string_view weights, std::uint64_t part_bytes) {
  FUSELINE_CHECK(part_bytes > 0);
  manifest.clear_parts();
  for (std::uint64_t from = 0; from < weights.size(); from += part_bytes) {
    const std::string_view bytes = weights.substr(from, part_bytes);
    v1::Part& part = *manifest.add_parts();
    part.set_name(std::to_string(manifest.parts_size() - 1));
    part.set_size_bytes(bytes.size());
    part.set_sha256(Sha256Of(bytes));
  }
  manifest.set_weights_sha256(Sha256Of(weights));
}

std::string_view PartOf(const v1::PolicyManifest& manifest, std::string_view weights, std::size_t index) {
  std::uint64_t from = 0;
  for (std::size_t i = 0; i < index; ++i) from += manifest.parts(static_cast<int>(i)).size_bytes();
  const std::uint64_t size = manifest.parts(static_cast<int>(index)).size_bytes();
  FUSELINE_CHECK(from <= weights.size() && size <= weights.size() - from);
  return weights.substr(from, size);
}

Result<v1::PolicyManifest> DecodeManifest(std::string_view bytes, std::string_view manifest_sha256, std::uint64_t version,
                                          std::uint64_t max_weights_bytes) {
  if (!manifest_sha256.empty() && Sha256Of(bytes) != manifest_sha256) {
    return Error(Code::kCorrupt, "manifest's SHA-256 differs from the one promised, version:", version);
  }
  v1::PolicyManifest manifest;
  if (!manifest.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || manifest.version() != version) {
    return Error(Code::kCorrupt, "not the manifest of version:", version);
  }
  std::uint64_t sum = 0;
  for (const v1::Part& part : manifest.parts()) {
    if (part.size_bytes() == 0 || part.size_bytes() > kPartBytesMax || part.size_bytes() > max_weights_bytes - sum) {
      return Error(Code::kCorrupt, "manifest's parts are empty or larger than the limit, version and bytes:", version,
                   part.size_bytes());
    }
    sum += part.size_bytes();
  }
  return manifest;
}

Result<PolicyVersion> AssembleVersion(v1::PolicyManifest manifest, const std::vector<std::string>& parts) {
  if (parts.size() != static_cast<std::size_t>(manifest.parts_size())) {
    return Error(Code::kCorrupt, "number of parts differs from the manifest's, version:", manifest.version());
  }
  PolicyVersion version;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const v1::Part& promised = manifest.parts(static_cast<int>(i));
    if (parts[i].size() != promised.size_bytes() || Sha256Of(parts[i]) != promised.sha256()) {
      return Error(Code::kCorrupt, "part differs from the manifest's digest, version and part:", manifest.version(), i);
    }
    version.weights += parts[i];
  }
  if (Sha256Of(version.weights) != manifest.weights_sha256()) {
    return Error(Code::kCorrupt, "weights differ from the manifest's digest, version:", manifest.version());
  }
  version.manifest = std::move(manifest);
  return version;
}

}  // namespace fuseline
