#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"

namespace fuseline {

// How far one tensor moved from the first version to the second, in the L2 norm.
struct TensorDifference {
  double norm = 0;      // Of the first version's.
  double distance = 0;  // Of the difference.
  double largest = 0;   // Absolute change of one value.
};

// What two versions have different actions by, over random requests: normalised units, all dimensions and candidates together. Of two
// scorers the same of task scores, in shares of each task's range.
struct ActionDifference {
  std::uint64_t candidates = 0;
  double mean_absolute = 0;
  double largest = 0;
};

struct VersionDifference {
  std::map<std::string, TensorDifference> tensors;  // In both, in the same shape.
  std::vector<std::string> only_in_first, only_in_second;  // Tensors that the other has not, or in another shape.
  // Of two policies, and of two scorers; none where the two do not take the same features.
  std::optional<ActionDifference> actions, scores;
};

// Pure. `probes`: random requests of 20 candidates each, the same for the same two versions. Errors: kCorrupt, kInvalidInput for weights that
// are none, or do not fit their manifest.
Result<VersionDifference> CompareVersions(const PolicyVersion& first, const PolicyVersion& second, int probes);

}  // namespace fuseline
