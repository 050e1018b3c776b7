#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bf16_layer.h"
#include "packed_net.h"

namespace fuseline {

// The candidates' layers of an actor in bfloat16. Immutable.
class Bf16Net {
 public:
  // `layers` as packed for the float32 kernel of this machine. Nothing where it has no bfloat16.
  // `stride`: of the first layer's rows, zeros behind their inputs. REQUIRES: it is a multiple of the kernel's lanes.
  static std::optional<Bf16Net> Create(const std::vector<PackedLayer>& layers, std::size_t stride);

  // Reused from call to call; grows once.
  struct Buffers {
    std::vector<std::uint16_t> in, out;
  };
  // in [rows, stride] → out [rows, columns of the last]; `first_bias` [columns of the first] stands for that layer's.
  void Forward(std::size_t rows, const float* in, const float* first_bias, Buffers& buffers, float* out) const;

 private:
  struct Layer {
    std::vector<std::uint16_t> weights;
    std::vector<float> bias;
    Bf16Layer dense{};

    Bf16Layer View() const { return {weights.data(), dense.pairs, dense.columns, dense.activation}; }
  };
  static Layer Narrow(const PackedLayer& from, const Bf16Kernel& kernel);

  explicit Bf16Net(const Bf16Kernel& kernel) : kernel_(&kernel) {}

  const Bf16Kernel* kernel_;
  std::vector<Layer> layers_;
  std::size_t stride_ = 0;
  std::size_t widest_ = 0;
};

}  // namespace fuseline
