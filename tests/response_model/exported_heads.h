#pragma once

#include <array>
#include <cstddef>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"

namespace fuseline::test {

// What the simulator's reader of a response model says of a pair: probabilities of six tasks, then the watch head. Apart
// from the tests of fitting, as both sides name the tasks.
Result<std::array<float, 7>> ExportedHeads(const TensorMap& file, std::size_t user, std::size_t item);

}  // namespace fuseline::test
