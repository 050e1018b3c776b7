#pragma once

#include <cstdint>

#include "fuseline/simulator/world.h"

namespace fuseline {

// How a user meets one item: opens it or not, watches for an exponential time cut at the item's end, and, once it is open,
// may like or share it.
struct Viewing {
  double click = 0;        // Probability.
  double patience_s = 1;   // Mean of the exponential time until the user leaves a clicked item; > 0.
  double like = 0, share = 0;  // Probabilities once clicked.
  double duration_s = 0;
  std::int64_t duration_ms = 0;
};

// What lifts and lowers satisfaction: a valid watch, 30 s watched, a like; an item passed over, one left within seconds; and what
// any item gives.
struct Pleasure {
  double valid = 0, watch = 0, like = 0;
  double skip_bores = 0, bait_bores = 0;
  double any = 0;
};

TrueResponse ExpectViewing(const Viewing& viewing, const Pleasure& pleasure, const v1::Rewards& rewards);
Response DrawViewing(const Viewing& viewing, const Pleasure& pleasure, const v1::Rewards& rewards, Random& random);

}  // namespace fuseline
