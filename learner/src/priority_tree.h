#pragma once

#include <cstddef>
#include <vector>

namespace fuseline {

// Draws a slot in proportion to its priority. A binary tree of sums in which every sum is that of its two children and nothing else:
// so it is a function of the priorities alone, whatever the order in which they were set, and a restored one draws the same to the bit.
// Thread-compatible. Cost: Set and Find O(log slots); 16 bytes a slot, rounded up to a power of two.
class PriorityTree {
 public:
  explicit PriorityTree(std::size_t slots);

  void Set(std::size_t slot, float priority);  // REQUIRES: priority >= 0 and finite.
  float At(std::size_t slot) const { return static_cast<float>(sums_[leaves_ + slot]); }
  double total() const { return sums_[1]; }
  // The slot in which `mass` falls when the priorities are laid one after another. REQUIRES: 0 <= mass, total() > 0.
  // Never one of priority 0, whatever was rounded.
  std::size_t Find(double mass) const;

 private:
  std::size_t leaves_ = 1;
  std::vector<double> sums_;  // [1] the root, [2 i] and [2 i + 1] below i, [leaves_ + slot] the slots.
};

}  // namespace fuseline
