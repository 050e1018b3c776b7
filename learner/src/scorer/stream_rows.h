#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/learner/scorer.h"

namespace fuseline {

// What comes after an impression in its session. Part of the checkpoint.
enum class Follows : std::uint8_t {
  kNext = 0,     // The next row.
  kNothing = 1,  // The session has ended.
  kUnknown = 2,  // It was cut off here.
  kNotOurs = 3,  // This row is only the next of the one before it: nothing is known of its outcome.
};

// Impressions of a stream, whole sessions one behind another. Of `rows` nobody has asked for times: they are empty. What is counted of
// a row's ids is taken when its session is merged, so it knows of other sessions that closed since the row was shown; of its own, nothing.
struct StreamRows {
  ScorerRows rows;
  std::vector<float> numbers;    // [n, D], as they were when its session was merged (InputStatistics::Numbers); empty: nobody needs them.
  std::vector<Follows> follows;  // [n]

  std::size_t size() const { return rows.size(); }
  void DropFront(std::size_t count);  // REQUIRES: count <= size().

  std::string Encode() const;  // ScorerRowsState, canonical bytes.
  // REQUIRES: empty rows of the right widths; a row has `numbers_wide`, or 0 of them; ids are below `table_rows`. Errors: kCorrupt.
  Status Decode(const std::string& bytes, std::size_t numbers_wide, std::size_t table_rows);
};

}  // namespace fuseline
