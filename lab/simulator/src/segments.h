#pragma once

#include <array>
#include <cstddef>

namespace fuseline {

// The constants of the world that say how its users differ and how its scorer errs; docs/simulator.md tells their story.

inline constexpr std::size_t kScoredTasks = 5;  // click, valid, watch, like, share: the default schema's.
inline constexpr std::size_t kWatchTask = 2;

// One kind of user.
struct Segment {
  double patience;  // Factor on how long a clicked item is watched.
  double like;      // Shift of the log-odds of a like,
  double share;     // and of a share.
  double valid_pleases, watch_pleases, like_pleases;  // What lifts satisfaction: a valid watch, 30 s, a like.
  // Factor on the scorer's own error, per task: whom it knows well in what.
  std::array<double, kScoredTasks> own_error;
};

inline constexpr std::array<Segment, 8> kSegments = {{
    {1.2, -0.4, -0.5, 0.40, 0.35, 0.2, {1.0, 0.7, 0.6, 1.5, 1.5}},
    {0.8, 0.6, 0.0, 0.30, 0.15, 0.9, {1.0, 1.3, 1.5, 0.5, 1.2}},
    {1.0, 0.0, 0.6, 0.35, 0.25, 0.4, {1.2, 1.0, 1.0, 1.2, 0.5}},
    {1.3, -0.6, -0.2, 0.30, 0.45, 0.1, {0.8, 1.2, 0.5, 1.6, 1.4}},
    {0.7, 0.4, 0.3, 0.50, 0.10, 0.6, {1.3, 0.6, 1.6, 0.7, 1.0}},
    {1.0, 0.2, -0.4, 0.35, 0.25, 0.7, {1.0, 1.0, 1.0, 0.6, 1.6}},
    {1.1, 0.0, 0.0, 0.40, 0.30, 0.3, {0.7, 0.8, 0.8, 1.0, 1.0}},
    {0.9, -0.2, 0.2, 0.35, 0.20, 0.4, {1.4, 1.1, 1.2, 1.1, 0.7}},
}};

inline constexpr double kSkipBores = 0.1;  // An item passed over,
inline constexpr double kBaitBores = 0.8;  // and one clicked and left within seconds, lower satisfaction by so much.

// How the upstream scorer distorts one task: scale of the truth, shift, and standard deviations of its errors.
struct Scorer {
  double slope, shift;
  double shared_error;    // The same draw for all tasks of a pair: a scorer is wrong about pairs, not tasks alone.
  double own_error;       // Of the pair and task.
  double category_error;  // Of a category and task.
};

inline constexpr std::array<Scorer, kScoredTasks> kScorer = {{
    {1.0, 0.2, 0.2, 0.3, 0.15},
    {0.9, -0.1, 0.3, 0.5, 0.2},
    {0.85, 0.3, 0.25, 0.4, 0.15},
    {0.9, 0.4, 0.3, 1.0, 0.5},
    {0.9, 0.8, 0.3, 1.6, 0.8},
}};

}  // namespace fuseline
