#pragma once

#include "fuseline/fusion/action_space.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/simulator/local_rankers.h"

namespace fuseline::test {

inline std::unique_ptr<World> MakeWorld(std::int64_t users, std::uint64_t seed) {
  auto config = DefaultSettings();
  config.mutable_simulator()->set_users(users);
  return CreateFeedWorld(config.simulator(), config.rewards(), seed, DefaultSchema()).value();
}

inline ActionSpace DefaultSpace() {
  return ActionSpace::Create(ActionRangesOf(DefaultSettings().policy(), DefaultSchema()).value()).value();
}

inline FixedActionRanker StaticRanker(const World& world) {
  auto space = DefaultSpace();
  const auto action = space.static_action();
  return {world, space, {std::vector<float>(action.begin(), action.end())}, "static"};
}

}  // namespace fuseline::test
