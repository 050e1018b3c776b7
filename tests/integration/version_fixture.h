#pragma once

// Versions and rankers for tests that join the policy store and the serving bridge.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/serving_bridge/ranker.h"
#include "fuseline/test_support/eventually.h"

namespace fuseline {

inline RankerOptions OptionsOfRanker(const std::string& address, const std::string& name) {
  RankerOptions options = *RankerOptionsOf(DefaultSettings());
  options.redis.address = address;
  options.redis.command_timeout_ms = 10'000;  // Of a machine that does much else.
  options.name = name;
  options.explore = false;
  return options;
}

// What every dimension of every action of version `number` is: so a mixture of two versions would show.
inline float ActionOfVersion(std::uint64_t number) {
  return static_cast<float>(std::tanh(static_cast<double>(number % 89) / 89.0 - 0.5));
}

inline PolicyVersion AcceptedVersion(std::uint64_t number) {
  const RankerOptions options = *RankerOptionsOf(DefaultSettings());
  const FeatureEncoder encoder(options.schema);
  const auto inputs = static_cast<std::uint32_t>(encoder.state_width()), outputs = static_cast<std::uint32_t>(encoder.action_width());
  const float bias = static_cast<float>(number % 89) / 89.0F - 0.5F;
  PolicyVersion version;
  v1::PolicyManifest& manifest = version.manifest;
  manifest.set_version(number);
  manifest.set_policy(options.policy);
  *manifest.mutable_schema() = options.schema;
  manifest.set_schema_digest(SchemaDigest(options.schema));
  *manifest.mutable_ranges() = options.ranges;
  manifest.mutable_actor()->add_widths(inputs);
  manifest.mutable_actor()->add_widths(outputs);
  manifest.mutable_gate()->set_passed(true);
  version.weights = EncodeWeights({{"normaliser.mean", {{inputs}, std::vector<float>(inputs, 0.0F)}},
                                   {"normaliser.scale", {{inputs}, std::vector<float>(inputs, 1.0F)}},
                                   {"actor.0.weight", {{outputs, inputs}, std::vector<float>(inputs * outputs, 0.0F)}},
                                   {"actor.0.bias", {{outputs}, std::vector<float>(outputs, bias)}}});
  return version;
}

}  // namespace fuseline
