#pragma once

// Versions with random weights and requests with random values, for the tests of this room.

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

struct Version {
  v1::PolicyManifest manifest;
  TensorMap tensors;
};

// A version of the default schema with random weights: of deviation 1.5 / sqrt(inputs), so that actions fill their
// range.
inline Version RandomVersion(const std::vector<std::uint32_t>& hidden, std::uint64_t seed) {
  Version version;
  *version.manifest.mutable_schema() = DefaultSchema();
  const FeatureEncoder encoder(version.manifest.schema());
  const auto states = static_cast<std::uint32_t>(encoder.state_width());
  auto& widths = *version.manifest.mutable_actor()->mutable_widths();
  widths.Add(states);
  for (const std::uint32_t width : hidden) widths.Add(width);
  widths.Add(static_cast<std::uint32_t>(encoder.action_width()));
  for (std::size_t d = 0; d < encoder.action_width(); ++d) {
    version.manifest.mutable_ranges()->add_lower(0.1F);
    version.manifest.mutable_ranges()->add_upper(2.0F);
    version.manifest.mutable_ranges()->add_static_action(0.0F);
  }

  Random random(seed, "weights", 0);
  const auto fill = [&](const std::string& name, std::vector<std::uint32_t> shape, double middle, double deviation) {
    std::size_t values = 1;
    for (const std::uint32_t extent : shape) values *= extent;
    Tensor& tensor = version.tensors[name];
    tensor.shape = std::move(shape);
    for (std::size_t i = 0; i < values; ++i)
      tensor.values.push_back(static_cast<float>(middle + deviation * random.NextNormal()));
  };
  fill("normaliser.mean", {states}, 0, 0.5);
  fill("normaliser.scale", {states}, 1, 0.2);
  for (int i = 0; i + 1 < widths.size(); ++i) {
    fill("actor." + std::to_string(i) + ".weight", {widths[i + 1], widths[i]}, 0, 1.5 / std::sqrt(widths[i]));
    fill("actor." + std::to_string(i) + ".bias", {widths[i + 1]}, 0, 0.3);
  }
  return version;
}

// A request with random values; owns what its views borrow.
struct Request {
  std::vector<float> user_dense, context_dense;
  std::vector<std::uint64_t> user_ids;
  std::vector<std::vector<float>> item_dense, scores;
  std::vector<std::vector<std::uint64_t>> item_ids;
  std::vector<CandidateView> candidates;

  Request(std::size_t n, std::uint64_t seed) {
    Random random(seed, "request", 0);
    const auto floats = [&](std::size_t count) {
      std::vector<float> values(count);
      for (float& value : values) value = static_cast<float>(2 * random.NextNormal());
      return values;
    };
    user_dense = floats(8);
    user_ids = {random.NextU64()};
    context_dense = floats(3);
    for (std::size_t i = 0; i < n; ++i) {
      item_dense.push_back(floats(9));
      item_ids.push_back({random.NextU64()});
      scores.push_back(floats(5));
    }
    for (std::size_t i = 0; i < n; ++i) candidates.push_back({{item_dense[i], item_ids[i]}, scores[i]});
  }
  FeatureView user() const { return {user_dense, user_ids}; }
  FeatureView context() const { return {context_dense, {}}; }
};

}  // namespace fuseline
