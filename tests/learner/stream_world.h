#pragma once

// The learner's small world with a scorer beside the policy: what is watched hangs on user and item, so there is something to learn.

#include <string>
#include <vector>

#include "learner_world.h"

namespace fuseline::test {

// Small, eager, every phase within some hundred impressions; of the tasks, click is a watch beyond 12 s and valid one beyond 20 s.
inline v1::Config SmallScorerConfig(const std::vector<std::string>& sets) {
  v1::Config config = SmallConfig();
  SettingsSources sources;
  sources.flags = {"scorer.learn=true",          "scorer.tasks=click,valid",           "scorer.outcomes=click=long_view",
                   "scorer.user_buckets=64",     "scorer.item_buckets=16",             "scorer.embedding_width=4",
                   "scorer.bottom=8",            "scorer.tower=5",                     "scorer.batch=32",
                   "scorer.dropout=0.2",         "scorer.critic_hidden=8",             "scorer.experts=2",
                   "scorer.min_frequency=2",     "scorer.pretraining_impressions=100", "scorer.critic_impressions=100",
                   "scorer.version_every_steps=3", "scorer.gate_min_impressions=10",   "scorer.gate_impressions=60",
                   "scorer.gate_tolerance=10",   "rewards.valid_watch_ms=20000",       "scorer.rate=0.01",
                   "scorer.embedding_rate=0.01"};
  sources.flags.insert(sources.flags.end(), sets.begin(), sets.end());
  *config.mutable_scorer() = LoadSettings(sources).value().scorer();
  return config;
}

}  // namespace fuseline::test
