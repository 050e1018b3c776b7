#pragma once

// Sessions of a small world for the learner's tests: two tasks (four action dimensions), one dense feature each of user and item.

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline::test {

inline constexpr std::size_t kActionWidth = 4;
using Action = std::array<float, kActionWidth>;

inline v1::FeatureSchema SmallSchema() {
  v1::FeatureSchema schema;
  for (const auto& [name, scope] : {std::pair("taste", v1::USER), {"quality", v1::ITEM}}) {
    v1::Feature& feature = *schema.add_features();
    feature.set_name(name);
    feature.set_scope(scope);
    feature.mutable_dense()->set_width(1);
  }
  for (const char* name : {"click", "valid"}) {
    v1::Task& task = *schema.add_tasks();
    task.set_name(name);
    task.set_max(1);
  }
  return schema;
}

// Small networks, eager counts, a gate that judges but lets pass: each test sets what it is about.
inline v1::Config SmallConfig() {
  v1::Config config = DefaultSettings();
  *config.mutable_schema() = SmallSchema();
  config.mutable_policy()->set_bias_min(0.01);
  for (int task = 0; task < 2; ++task) {
    config.mutable_policy()->add_static_powers(1);
    config.mutable_policy()->add_static_biases(0.5);
  }
  v1::Learner& learner = *config.mutable_learner();
  learner.add_hidden(16);
  learner.set_critics_per_group(2);
  learner.set_batch(16);
  learner.set_max_items(2);
  learner.set_warmup_transitions(40);
  learner.set_steps_per_transition(0.3);
  learner.set_version_every_steps(20);
  learner.set_checkpoint_every_trajectories(17);
  learner.set_replay_transitions(150);
  config.mutable_gate()->set_max_outside_share(1);
  config.mutable_gate()->set_min_sessions(5);
  config.mutable_gate()->set_max_sessions(20);
  config.mutable_gate()->set_gauc_tolerance(1);
  config.mutable_gate()->set_ncis_tolerance(10);
  config.mutable_gate()->set_static_gauc_tolerance(1);
  config.mutable_gate()->set_static_ncis_tolerance(10);
  return config;
}

inline v1::TrajectoryName Name(std::int32_t partition, std::int64_t offset) {
  v1::TrajectoryName name;
  name.set_partition(partition);
  name.set_offset(offset);
  return name;
}

// One explored request with `items` items; `watch_ms` says what an item's executed action earns.
inline v1::Step ExploredStep(const v1::Config& config, Random& random, int items,
                             const std::function<std::int64_t(const Action&)>& watch_ms) {
  const auto ranges = ActionRangesOf(config.policy(), SchemaOf(config)).value();
  Action noise{};
  v1::Step step;
  v1::Exposure& exposure = *step.mutable_exposure();
  exposure.set_schema_digest(SchemaDigest(SchemaOf(config)));
  exposure.mutable_user_features()->add_dense(static_cast<float>(random.NextNormal()));
  const auto bound = static_cast<float>(config.policy().box_upper());
  exposure.mutable_box()->set_lower(-bound);
  exposure.mutable_box()->set_upper(bound);
  exposure.set_log_density(-static_cast<double>(kActionWidth) * std::log(2.0 * bound));
  for (float& value : noise) value = static_cast<float>(random.NextUniform(-bound, bound));
  for (int j = 0; j < items; ++j) {
    v1::ExposedItem& item = *exposure.add_items();
    item.set_item_id("i" + std::to_string(j));
    item.set_position(static_cast<std::uint32_t>(j));
    item.mutable_item_features()->add_dense(static_cast<float>(random.NextNormal()));
    Action executed;
    for (std::size_t d = 0; d < kActionWidth; ++d) {
      item.add_baseline_action(ranges.static_action(static_cast<int>(d)));
      executed[d] = ranges.static_action(static_cast<int>(d)) + noise[d];
      item.add_executed_action(executed[d]);
    }
    for (int task = 0; task < 2; ++task) item.add_task_scores(static_cast<float>(random.NextUniform()));
    step.add_rewards()->set_watch_ms(watch_ms(executed));
  }
  return step;
}

inline v1::Trajectory Session(const v1::TrajectoryName& name, const v1::TrajectoryName* predecessor, const std::string& user,
                              std::int64_t stream_time_ms, v1::SessionEnd end, std::vector<v1::Step> steps) {
  v1::Trajectory trajectory;
  *trajectory.mutable_name() = name;
  if (predecessor != nullptr) *trajectory.mutable_predecessor() = *predecessor;
  trajectory.set_user_id(user);
  trajectory.set_stream_time_ms(stream_time_ms);
  trajectory.set_end(end);
  for (v1::Step& step : steps) *trajectory.add_steps() = std::move(step);
  return trajectory;
}

// Sessions of so many partitions: all ends, lists of one to three items, some requests of the static arm, some stubs.
// Session s of a partition has the offset 10 s.
inline std::vector<std::vector<v1::Trajectory>> Sessions(const v1::Config& config, std::int32_t partitions, int sessions) {
  Random random(7, "stream", 0);
  std::vector<std::vector<v1::Trajectory>> stream(static_cast<std::size_t>(partitions));
  for (std::int32_t p = 0; p < partitions; ++p) {
    std::vector<v1::Trajectory>& partition = stream[static_cast<std::size_t>(p)];
    std::int64_t time_ms = 0;
    for (int s = 0; s < sessions; ++s) {
      time_ms += static_cast<std::int64_t>(random.NextBelow(3)) * 1000;
      std::vector<v1::Step> steps;
      for (std::uint64_t t = 0, n = 1 + random.NextBelow(4); t < n; ++t) {
        steps.push_back(ExploredStep(config, random, 1 + static_cast<int>(random.NextBelow(3)),
                                     [&](const Action&) { return static_cast<std::int64_t>(random.NextBelow(30'000)); }));
        if (random.NextBelow(8) == 0) steps.back().mutable_exposure()->clear_log_density();
      }
      constexpr std::array kEnds{v1::TERMINATED, v1::TRUNCATED, v1::FLUSHED};
      const v1::SessionEnd end = kEnds[random.NextBelow(3)];
      const v1::TrajectoryName* last = partition.empty() ? nullptr : &partition.back().name();
      v1::Trajectory trajectory =
          Session(Name(p, 10 * s), last, "u" + std::to_string(random.NextBelow(40)), time_ms, end, std::move(steps));
      if (end == v1::TRUNCATED && random.NextBelow(3) > 0)
        *trajectory.mutable_next_step() = ExploredStep(config, random, 2, [](const Action&) { return 0; });
      if (random.NextBelow(20) == 0) {
        trajectory.clear_steps();
        trajectory.set_stub_reason("too large");
      }
      partition.push_back(std::move(trajectory));
    }
  }
  return stream;
}

inline v1::TrajectoryRecord Record(v1::Trajectory trajectory) {
  v1::TrajectoryRecord record;
  *record.mutable_trajectory() = std::move(trajectory);
  return record;
}

inline v1::TrajectoryRecord Mark(std::int32_t partition, std::int64_t stream_time_ms) {
  v1::TrajectoryRecord record;
  record.mutable_progress()->set_partition(partition);
  record.mutable_progress()->set_stream_time_ms(stream_time_ms);
  return record;
}

}  // namespace fuseline::test
