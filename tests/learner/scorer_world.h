#pragma once

// A small world of impressions for scorers: two user features, a context, one item feature; what is clicked hangs
// on user and item ids.

#include <cmath>
#include <string>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/settings.h"
#include "scorer/input_statistics.h"

namespace fuseline::test {

inline v1::Config ScorerConfig(const std::vector<std::string>& sets = {}) {
  v1::Config config = DefaultSettings();
  auto& schema = *config.mutable_schema();
  const auto dense = [&](const char* name, v1::FeatureScope scope) {
    auto& feature = *schema.add_features();
    feature.set_name(name);
    feature.set_scope(scope);
    feature.mutable_dense()->set_width(1);
  };
  dense("age", v1::USER);
  auto& kind = *schema.add_features();
  kind.set_name("kind");
  kind.set_scope(v1::ITEM);
  kind.mutable_categorical()->set_buckets(7);
  dense("hour", v1::CONTEXT);
  for (const char* name : {"click", "long_view"}) {
    auto& task = *schema.add_tasks();
    task.set_name(name);
    task.set_max(1);
  }
  SettingsSources sources;
  sources.flags = {"scorer.user_buckets=64", "scorer.item_buckets=64", "scorer.embedding_width=4", "scorer.bottom=8,6",
                   "scorer.tower=5",         "scorer.batch=32",        "scorer.dropout=0",         "scorer.critic_hidden=8",
                   "scorer.experts=3",       "scorer.task_experts=2",  "scorer.min_frequency=1"};
  sources.flags.insert(sources.flags.end(), sets.begin(), sets.end());
  *config.mutable_scorer() = LoadSettings(sources).value().scorer();
  return config;
}

// Users and items have a taste and a quality from their numbers; long views happen only where there was a click.
inline ScorerRows RandomRows(const ScorerFields& fields, std::size_t n, std::uint64_t seed) {
  Random random(seed, "rows", 0);
  ScorerRows rows = fields.NoRows();
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t user = random.NextBelow(12), item = random.NextBelow(10);
    const std::vector<float> age{static_cast<float>(user)}, hour{static_cast<float>(random.NextUniform(0, 24))};
    const std::vector<std::uint64_t> kind{item % 3};
    EXPECT_TRUE(fields.Append({age, {}}, {hour, {}}, {{}, kind}, "u" + std::to_string(user), "i" + std::to_string(item), &rows).ok());
    const double odds = 1.5 * std::sin(static_cast<double>(user)) + 1.5 * std::cos(static_cast<double>(item));
    const bool click = random.NextUniform() < 1 / (1 + std::exp(-odds));
    rows.labels.push_back(click ? 1.0F : 0.0F);
    rows.labels.push_back(click && random.NextUniform() < 0.5 ? 1.0F : 0.0F);
    rows.session.push_back(static_cast<std::uint32_t>(user * 100 + i / 40));
    rows.time_ms.push_back(static_cast<std::int64_t>(i) * 1'000);
    rows.known_ms.push_back(rows.time_ms.back() + 500);
  }
  return rows;
}

// Rows [begin, end), each shown when everything is known of those before it.
inline void Count(const ScorerRows& rows, std::size_t begin, std::size_t end, InputStatistics* inputs) {
  for (std::size_t row = begin; row < end; ++row) {
    std::vector<float> numbers;
    inputs->Numbers(rows, row, &numbers);
    inputs->CountInput(rows, row, numbers);
    if (!rows.labels.empty()) inputs->CountOutcome(rows, row);
  }
}

}  // namespace fuseline::test
