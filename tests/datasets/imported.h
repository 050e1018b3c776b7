#pragma once

#include <string>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/datasets/kuairand.h"
#include "kuairand_log.h"
#include "kuairand_scores.h"

namespace fuseline::test {

// All events of one import, in memory.
struct Imported {
  std::vector<v1::Event> events;
  KuaiRandSummary summary;
};

inline Result<Imported> Import(const KuaiRandFiles& files, const KuaiRandOptions& options = {}) {
  Imported imported;
  const auto keep = [&](const v1::Event& event) {
    imported.events.push_back(event);
    return OkStatus();
  };
  FUSELINE_ASSIGN_OR_FAIL(imported.summary, ImportKuaiRand(files, options, keep));
  return imported;
}

// Returns `rows` with all that was not yet known at `now_ms` made up anew: the outcomes of rows whose feedback was not
// complete before, exposures later than that included.
inline std::vector<KuaiRandRow> WithAnotherFuture(std::vector<KuaiRandRow> rows, std::int64_t now_ms, Random random) {
  for (auto& row : rows) {
    if (row.feedback_ms() < now_ms) continue;
    row.click = random.NextBelow(2) != 0;
    row.long_view = random.NextBelow(2) != 0;
    row.like = random.NextBelow(2) != 0;
    row.comment = random.NextBelow(2) != 0;
    row.forward = random.NextBelow(2) != 0;
    row.play_ms += static_cast<std::int64_t>(random.NextBelow(60'000));  // Never completes before now_ms.
  }
  return rows;
}

// How many scores of exposures at or before a random moment change when all after it is made up anew. Must be 0.
inline std::size_t CountLookAhead(const std::vector<KuaiRandRow>& rows, std::uint64_t seed, std::size_t* compared) {
  Random random(seed, "look-ahead", 0);
  const auto now_ms = rows[rows.size() / 4 + random.NextBelow(rows.size() / 2)].time_ms;
  const auto scores = ScoreFromThePast(rows, {});
  const auto others = ScoreFromThePast(WithAnotherFuture(rows, now_ms, random), {});
  std::size_t changed = 0;
  *compared = 0;
  for (std::size_t i = 0; i < rows.size() && rows[i].time_ms <= now_ms; ++i, ++*compared) {
    changed += scores[i] == others[i] ? 0 : 1;
  }
  return changed;
}

}  // namespace fuseline::test
