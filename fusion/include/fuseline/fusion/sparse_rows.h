#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"

namespace fuseline {

// A table of which most rows hold nothing, as two tensors: "NAME.rows" [M], their numbers, ascending, and "NAME" [M, width].
// A number is a float32 there, so a table has at most so many rows:
inline constexpr std::size_t kSparseRowsMax = std::size_t{1} << 24U;

// Of the table [rows, width] the rows that are not all 0.
void PackRows(const std::string& name, std::span<const float> table, std::size_t width, TensorMap* tensors);

// The numbers M. Errors: kCorrupt unless they are whole, ascending and below `rows`, and as many as the rows of `width` in "NAME".
Result<std::vector<std::uint32_t>> PackedRows(const TensorMap& tensors, const std::string& name, std::size_t rows, std::size_t width);

// The table [rows, width], 0 where nothing was packed. Errors: as PackedRows.
Result<std::vector<float>> UnpackRows(const TensorMap& tensors, const std::string& name, std::size_t rows, std::size_t width);

}  // namespace fuseline
