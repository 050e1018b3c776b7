#pragma once

#include <cstddef>
#include <vector>

#include "fuseline/fusion/weights_file.h"
#include "response_rows.h"

namespace fuseline {

// Puts into the file who its users, items and tabs are in the log, and their features in KuaiRandSchema's encoding:
// what a world needs whose rankers shall see what the log's would have seen. lab/simulator's log_catalogue.h draws the
// tensors. `users`, `items`: which of the data's, in the order of the file's rows.
void PutLogPart(const ResponseRows& data, const std::vector<std::size_t>& users, const std::vector<std::size_t>& items,
                TensorMap* file);

}  // namespace fuseline
