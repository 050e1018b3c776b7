#pragma once

// Rankers, requests and versions for the tests of this room.

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/core/clock.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/fusion/sparse_rows.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/redis/connection.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/serving_bridge/ranker.h"
#include "fuseline/test_support/eventually.h"

namespace fuseline {

inline RankerOptions TestOptions(const std::string& socket_path) {
  RankerOptions options = *RankerOptionsOf(DefaultSettings());
  options.redis.address = "unix:" + socket_path;
  options.redis.command_timeout_ms = 10'000;  // Of a machine that does much else.
  options.name = "ranker-1";
  options.experiments = {LearningBesideStatic("test", 0)};
  options.seed = 5;
  options.poll_interval_ms = 20;
  options.fetch_jitter_ms = 0;
  return options;
}

// A request with `n` random candidates; owns what its view borrows.
struct OwnedRequest {
  OwnedRequest(std::size_t n, std::uint64_t seed) {
    Random random(seed, "request", n);
    const auto floats = [&](std::size_t count) {
      std::vector<float> values(count);
      for (float& value : values) value = static_cast<float>(random.NextUniform());
      return values;
    };
    request_id = "request-" + std::to_string(seed);
    user_dense = floats(8);
    context_dense = floats(3);
    user_ids = {random.NextU64()};
    for (std::size_t i = 0; i < n; ++i) {
      names.push_back("item-" + std::to_string(i));
      dense.push_back(floats(9));
      ids.push_back({random.NextU64()});
      scores.push_back(floats(5));
    }
    for (std::size_t i = 0; i < n; ++i) {
      item_ids.push_back(names[i]);
      candidates.push_back({{dense[i], ids[i]}, scores[i]});
    }
  }
  OwnedRequest(const OwnedRequest&) = delete;

  RankingRequest view(std::size_t expose_count = 0) const {
    return {.request_id = request_id, .user_id = user_id, .surface = "feed", .event_time_ms = 1'000, .user = {user_dense, user_ids},
            .context = {context_dense, {}}, .item_ids = item_ids, .candidates = candidates, .expose_count = expose_count};
  }

  // Its candidates have features alone.
  RankingRequest unscored(std::size_t expose_count = 0) {
    for (CandidateView& candidate : bare = candidates) candidate.task_scores = {};
    RankingRequest request = view(expose_count);
    request.candidates = bare;
    return request;
  }

  std::string request_id, user_id = "u42";
  std::vector<float> user_dense, context_dense;
  std::vector<std::uint64_t> user_ids;
  std::vector<std::string> names;
  std::vector<std::vector<float>> dense, scores;
  std::vector<std::vector<std::uint64_t>> ids;
  std::vector<std::string_view> item_ids;
  std::vector<CandidateView> candidates, bare;
};

// What every dimension of every action of version `number` is: so a mixture of two versions would show.
inline float ActionOf(std::uint64_t number) { return static_cast<float>(std::tanh(static_cast<double>(number % 89) / 89.0 - 0.5)); }

// Its layers do not look at the request: only the last one's bias is not 0.
inline PolicyVersion VersionThatSays(std::uint64_t number, const RankerOptions& options, const std::vector<std::uint32_t>& hidden = {}) {
  PolicyVersion version;
  v1::PolicyManifest& manifest = version.manifest;
  const FeatureEncoder encoder(options.schema);
  const auto inputs = static_cast<std::uint32_t>(encoder.state_width());
  const auto outputs = static_cast<std::uint32_t>(encoder.action_width());
  manifest.set_version(number);
  manifest.set_policy(options.policy);
  *manifest.mutable_schema() = options.schema;
  manifest.set_schema_digest(SchemaDigest(options.schema));
  std::vector<std::uint32_t> widths{inputs};
  widths.insert(widths.end(), hidden.begin(), hidden.end());
  widths.push_back(outputs);
  manifest.mutable_actor()->mutable_widths()->Add(widths.begin(), widths.end());
  *manifest.mutable_ranges() = options.ranges;
  TensorMap tensors{{"normaliser.mean", {{inputs}, std::vector<float>(inputs, 0.0F)}},
                    {"normaliser.scale", {{inputs}, std::vector<float>(inputs, 1.0F)}}};
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    const std::string name = "actor." + std::to_string(i);
    const float bias = i + 2 < widths.size() ? 0.0F : static_cast<float>(number % 89) / 89.0F - 0.5F;
    tensors[name + ".weight"] = {{widths[i + 1], widths[i]}, std::vector<float>(std::size_t{widths[i + 1]} * widths[i], 0.0F)};
    tensors[name + ".bias"] = {{widths[i + 1]}, std::vector<float>(widths[i + 1], bias)};
  }
  version.weights = EncodeWeights(tensors);
  SealManifest(manifest, version.weights, /*part_bytes=*/500);
  return version;
}

// What version `number` of a scorer says of every task of every item, as a share of the task's range.
inline float ShareOf(std::uint64_t number) { return static_cast<float>(1 / (1 + std::exp(0.5 - static_cast<double>(number % 89) / 89.0))); }

// A scorer (mmoe) whose layers do not look at the request: only the towers' biases are not 0.
inline PolicyVersion ScorerThatSays(std::uint64_t number, const RankerOptions& options, std::uint32_t hidden = 8) {
  PolicyVersion version;
  v1::PolicyManifest& manifest = version.manifest;
  manifest.set_version(number);
  manifest.set_policy(ScorerPolicyOf(options.policy));
  *manifest.mutable_schema() = options.schema;
  manifest.set_schema_digest(SchemaDigest(options.schema));
  v1::ScorerForm& form = *manifest.mutable_scorer();
  form.set_backbone("mmoe");
  for (const v1::Task& task : options.schema.tasks()) form.add_tasks(task.name());
  v1::ScorerShape& shape = *form.mutable_shape();
  for (const v1::FeatureScope scope : {v1::USER, v1::CONTEXT, v1::ITEM}) {
    for (const v1::Feature& feature : options.schema.features()) {
      if (feature.scope() != scope) continue;
      if (feature.has_categorical()) shape.add_buckets(feature.categorical().buckets());
      shape.set_dense_width(shape.dense_width() + feature.dense().width());
    }
  }
  shape.add_buckets(50);
  shape.set_item_id(true);
  shape.set_embedding_width(3);
  shape.add_bottom(hidden);
  shape.set_experts(2);
  shape.set_task_experts(1);
  const auto fields = static_cast<std::uint32_t>(shape.buckets_size()), tasks = static_cast<std::uint32_t>(form.tasks_size());
  const std::uint32_t inputs = 3 * fields + shape.dense_width();
  TensorMap tensors;
  const auto put = [&](const std::string& name, std::vector<std::uint32_t> extents, float value) {
    std::size_t values = 1;
    for (const std::uint32_t extent : extents) values *= extent;
    tensors[name] = {std::move(extents), std::vector<float>(values, value)};
  };
  PackRows("embedding", {}, 3, &tensors);
  PackRows("frequency", {}, 1, &tensors);
  put("normaliser.mean", {shape.dense_width()}, 0);
  put("normaliser.scale", {shape.dense_width()}, 1);
  put("experts.0.weight", {2, hidden, inputs}, 0);
  put("experts.0.bias", {2, hidden}, 0);
  put("gates.0.weight", {tasks, 2, inputs}, 0);
  put("gates.0.bias", {tasks, 2}, 0);
  for (std::uint32_t k = 0; k < tasks; ++k) {
    put("tower_" + std::to_string(k) + ".0.weight", {1, 1, hidden}, 0);
    put("tower_" + std::to_string(k) + ".0.bias", {1, 1}, static_cast<float>(number % 89) / 89.0F - 0.5F);
  }
  version.weights = EncodeWeights(tensors);
  SealManifest(manifest, version.weights, /*part_bytes=*/4'000);
  return version;
}

// As a publisher sees the scorer of `options`' policy.
inline RankerOptions OfScorer(RankerOptions options) {
  options.policy = ScorerPolicyOf(options.policy);
  return options;
}

// Writes versions as the layout of policy_keys.h says, with faults where a test wants them.
class HandPublisher {
 public:
  HandPublisher(const RankerOptions& options) : keys_(options.policy), redis_(*RedisConnection::Connect(options.redis)) {}

  void PutParts(const PolicyVersion& version, int flipped_part = -1) {
    Do({"SET", keys_.manifest(version.manifest.version()), CanonicalBytes(version.manifest)});
    for (int i = 0; i < version.manifest.parts_size(); ++i) {
      std::string part(PartOf(version.manifest, version.weights, static_cast<std::size_t>(i)));
      if (i == flipped_part) part[part.size() / 2] = static_cast<char>(part[part.size() / 2] ^ 1);
      Do({"SET", keys_.part(version.manifest.version(), static_cast<std::size_t>(i)), part});
    }
  }
  void Point(const PolicyVersion& version, std::uint64_t epoch, std::uint64_t change, std::string_view name = kLiveAlias) {
    v1::AliasChange alias;
    alias.set_epoch(epoch);
    alias.set_change(change);
    alias.set_alias(std::string(name));
    alias.set_to_version(version.manifest.version());
    alias.set_manifest_sha256(Sha256Of(CanonicalBytes(version.manifest)));
    const std::string bytes = CanonicalBytes(alias);
    Do({"HSET", keys_.aliases(), std::string(name), bytes});
    Do({"XADD", keys_.changes(), "*", std::string(kChangeField), bytes});
  }
  void Publish(const PolicyVersion& version, std::uint64_t epoch, std::uint64_t change) {
    PutParts(version);
    Point(version, epoch, change);
  }
  std::string AckOf(const std::string& ranker) { return Do({"HGET", keys_.acks(), ranker}).text; }

 private:
  RedisReply Do(const std::vector<std::string>& command) {
    const auto reply = redis_.Command(RedisCommand(command.begin(), command.end()));
    FUSELINE_CHECK(reply.has_value());
    return *reply;
  }

  PolicyKeys keys_;
  RedisConnection redis_;
};

}  // namespace fuseline
