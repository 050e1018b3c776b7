#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// A named array of float32, row-major.
struct Tensor {
  std::vector<std::uint32_t> shape;
  std::vector<float> values;
};
using TensorMap = std::map<std::string, Tensor>;  // By name: the file's order.

// The safetensors layout: 8 bytes little-endian header length, a JSON header {name: {dtype: "F32", shape, data_offsets}}, data.
// The same tensors give the same bytes.
std::string EncodeWeights(const TensorMap& tensors);

// Errors: kCorrupt when lengths, offsets, shapes or the header contradict each other, data is not F32 or not finite, or the
// file is larger than `max_bytes`. Hostile input is expected.
Result<TensorMap> DecodeWeights(std::string_view bytes, std::size_t max_bytes = std::size_t{1} << 30);

}  // namespace fuseline
