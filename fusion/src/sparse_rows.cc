#include "fuseline/fusion/sparse_rows.h"

#include <algorithm>

namespace fuseline {

void PackRows(const std::string& name, std::span<const float> table, std::size_t width, TensorMap* tensors) {
  Tensor numbers, values;
  for (std::size_t begin = 0; begin < table.size(); begin += width) {
    const std::span<const float> row = table.subspan(begin, width);
    if (std::ranges::all_of(row, [](float value) { return value == 0; })) continue;
    numbers.values.push_back(static_cast<float>(begin / width));
    values.values.insert(values.values.end(), row.begin(), row.end());
  }
  numbers.shape = {static_cast<std::uint32_t>(numbers.values.size())};
  values.shape = {numbers.shape[0], static_cast<std::uint32_t>(width)};
  (*tensors)[name + ".rows"] = std::move(numbers);
  (*tensors)[name] = std::move(values);
}

Result<std::vector<std::uint32_t>> PackedRows(const TensorMap& tensors, const std::string& name, std::size_t rows, std::size_t width) {
  const auto numbers = tensors.find(name + ".rows"), values = tensors.find(name);
  if (numbers == tensors.end() || values == tensors.end() || values->second.values.size() != numbers->second.values.size() * width)
    return Error(Code::kCorrupt, "weights lack the rows of a table, or they are of another size:", name);
  std::vector<std::uint32_t> packed;
  packed.reserve(numbers->second.values.size());
  for (const float number : numbers->second.values) {
    const bool below = number >= 0 && number < static_cast<float>(rows);
    const auto row = below ? static_cast<std::uint32_t>(number) : 0;
    if (!below || static_cast<float>(row) != number || (!packed.empty() && row <= packed.back()))
      return Error(Code::kCorrupt, "weights number the rows of a table impossibly:", name);
    packed.push_back(row);
  }
  return packed;
}

Result<std::vector<float>> UnpackRows(const TensorMap& tensors, const std::string& name, std::size_t rows, std::size_t width) {
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint32_t> packed, PackedRows(tensors, name, rows, width));
  std::vector<float> table(rows * width, 0.0F);
  auto from = tensors.find(name)->second.values.begin();
  for (const std::uint32_t row : packed) {
    std::copy_n(from, width, table.begin() + static_cast<std::ptrdiff_t>(row * width));
    from += static_cast<std::ptrdiff_t>(width);
  }
  return table;
}

}  // namespace fuseline
