#include "priority_tree.h"

#include <bit>

#include "fuseline/core/check.h"

namespace fuseline {

PriorityTree::PriorityTree(std::size_t slots) : leaves_(std::bit_ceil(slots)), sums_(2 * leaves_) {}

void PriorityTree::Set(std::size_t slot, float priority) {
  FUSELINE_CHECK(slot < leaves_ && priority >= 0);
  std::size_t node = leaves_ + slot;
  sums_[node] = priority;
  while ((node /= 2) > 0) sums_[node] = sums_[2 * node] + sums_[2 * node + 1];
}

std::size_t PriorityTree::Find(double mass) const {
  FUSELINE_CHECK(total() > 0);
  std::size_t node = 1;
  while (node < leaves_) {
    const double left = sums_[2 * node];
    const bool goes_left = left > 0 && (mass < left || sums_[2 * node + 1] <= 0);
    if (!goes_left) mass -= left;
    node = 2 * node + (goes_left ? 0 : 1);
  }
  return node - leaves_;
}

}  // namespace fuseline
