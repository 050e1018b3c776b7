#include "live_version.h"

#include <utility>

#include "fuseline/fusion/policy_keys.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

tl::unexpected<Refusal> Refuse(std::string_view reason, Status status) {
  return tl::unexpected<Refusal>(Refusal{reason, std::move(status)});
}

}  // namespace

OriginDemands::OriginDemands(std::string policy, const v1::FeatureSchema& schema)
    : policy_(std::move(policy)), schema_digest_(SchemaDigest(schema)) {}

tl::expected<void, Refusal> OriginDemands::Check(const v1::PolicyManifest& manifest) const {
  if (manifest.policy() != policy_) {
    return Refuse("policy", ErrorStatus(Code::kInvalidInput, "version is of another policy:", manifest.policy()));
  }
  // The digest that it states and the one that it has: the learner's events were chosen by the first.
  if (manifest.schema_digest() != schema_digest_ || SchemaDigest(manifest.schema()) != schema_digest_) {
    return Refuse("schema", ErrorStatus(Code::kInvalidInput, "version is of another feature schema"));
  }
  return {};
}

VersionDemands::VersionDemands(const RankerOptions& options)
    : origin_(options.policy, options.schema),
      ranges_bytes_(CanonicalBytes(options.ranges)),
      box_(options.box),
      precision_(options.precision) {}

tl::expected<LiveVersion, Refusal> VersionDemands::Admit(const PolicyVersion& version, const v1::AliasChange& change) const {
  const v1::PolicyManifest& manifest = version.manifest;
  if (auto origin = origin_.Check(manifest); !origin) return tl::unexpected(std::move(origin).error());
  if (CanonicalBytes(manifest.ranges()) != ranges_bytes_) {
    return Refuse("ranges", ErrorStatus(Code::kInvalidInput, "version has other action ranges or another static action"));
  }
  ExplorationBox box = box_;
  if (manifest.has_box()) box = {manifest.box().lower(), manifest.box().upper()};
  if (!(box.lower >= -2.0F && box.lower <= 0.0F && box.upper >= 0.0F && box.upper <= 2.0F)) {
    return Refuse("ranges", ErrorStatus(Code::kInvalidInput, "version has an impossible box:", box.lower, box.upper));
  }
  auto tensors = DecodeWeights(version.weights);
  if (!tensors) return Refuse("weights", std::move(tensors).error());
  auto network = PolicyNetwork::Create(manifest, *tensors, precision_);
  if (!network) return Refuse("weights", std::move(network).error());
  return LiveVersion{*std::move(network), box, change};
}

ScorerDemands::ScorerDemands(const RankerOptions& options) : origin_(ScorerPolicyOf(options.policy), options.schema) {}

tl::expected<LiveScorer, Refusal> ScorerDemands::Admit(const PolicyVersion& version) const {
  if (auto origin = origin_.Check(version.manifest); !origin) return tl::unexpected(std::move(origin).error());
  auto tensors = DecodeWeights(version.weights);
  if (!tensors) return Refuse("weights", std::move(tensors).error());
  auto network = ScorerNetwork::Create(version.manifest, *tensors);
  if (!network) return Refuse("weights", std::move(network).error());
  return LiveScorer{*std::move(network), version.manifest.version()};
}

}  // namespace fuseline
