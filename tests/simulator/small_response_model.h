#pragma once

#include <cstdint>

#include "fuseline/fusion/weights_file.h"

namespace fuseline::test {

// Two experts of one column, towers of one column: W = 2 + 2 * 7.
inline TensorMap SmallModel(std::uint32_t users, std::uint32_t items) {
  const auto filled = [](std::vector<std::uint32_t> shape, auto value_of) {
    Tensor tensor;
    std::size_t size = 1;
    for (const auto side : shape) size *= side;
    tensor.shape = std::move(shape);
    for (std::size_t i = 0; i < size; ++i) tensor.values.push_back(static_cast<float>(value_of(i)));
    return tensor;
  };
  constexpr std::uint32_t kColumns = 16;
  TensorMap model;
  model["user.first"] = filled({users, kColumns}, [](std::size_t i) { return i % kColumns < 2 ? 0.1 * static_cast<double>(i / kColumns % 5) : 0; });
  model["item.first"] = filled({items, kColumns}, [](std::size_t i) { return i % kColumns == 0 ? 0.2 * static_cast<double>(i / kColumns % 7) : 0; });
  model["first.bias"] = filled({kColumns}, [](std::size_t i) { return i == 1 ? -0.25 : 0; });
  model["tower.hidden.weight"] = filled({7, 1, 1}, [](std::size_t i) { return 1 + 0.1 * static_cast<double>(i); });
  model["tower.hidden.bias"] = filled({7, 1}, [](std::size_t) { return 0.05; });
  model["tower.out.weight"] = filled({7, 1}, [](std::size_t i) { return i == 6 ? 2.0 : 1.5; });
  model["tower.out.bias"] = filled({7}, [](std::size_t i) { return i == 0 ? 0.5 : i == 6 ? 2.0 : -1.0; });
  model["user.profile"] = filled({users, 2}, [](std::size_t i) { return 0.1 * static_cast<double>(i); });
  model["item.profile"] = filled({items, 3}, [](std::size_t i) { return 0.01 * static_cast<double>(i); });
  model["user.play_s"] = filled({users}, [](std::size_t i) { return 1'000.0 * static_cast<double>(i); });
  model["item.duration_s"] = filled({items}, [](std::size_t i) { return 10.0 + static_cast<double>(i); });
  model["watch.spread"] = filled({1}, [](std::size_t) { return 0.8; });
  return model;
}

}  // namespace fuseline::test
