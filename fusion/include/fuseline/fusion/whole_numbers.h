#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"

namespace fuseline {

// What is no measure, in files whose tensors are float32 (weights_file.h): an id of 64 bits is four parts of 16 bits,
// the lowest first; a byte is one number. float32 holds both exactly.

// [n / columns, 4 columns]. REQUIRES: columns >= 1 divides the number of ids.
Tensor TensorOfIds(std::span<const std::uint64_t> ids, std::size_t columns);
Tensor TensorOfBytes(std::string_view bytes);  // [n].

// Errors: kCorrupt when a value is no such part, or the last extent of the ids' tensor is no multiple of four.
Result<std::vector<std::uint64_t>> IdsOf(const Tensor& tensor);
Result<std::string> BytesOf(const Tensor& tensor);

}  // namespace fuseline
