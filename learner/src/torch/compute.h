#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "algorithm.h"
#include "fuseline/fusion/weights_file.h"

namespace fuseline {

struct DenseKernels;

// Where tensors live, and what is said of it in lineages.
struct Compute {
  at::Device device = at::kCPU;
  const DenseKernels* kernels = nullptr;  // Of networks on a CPU; null: LibTorch's own operations.
  ComputeFacts facts;
};

// Device and threads of the settings; measures how fast this build multiplies, which informs and decides nothing.
// LibTorch's thread counts are those of the whole process. Errors: kInvalidInput for learner.device=cuda where there is none, and for
// learner.precision=bfloat16 where no kernel has it.
Result<Compute> ChooseCompute(const v1::Learner& settings);

inline std::int64_t Size(std::size_t value) { return static_cast<std::int64_t>(value); }

at::Tensor FromHost(std::span<const float> values, at::IntArrayRef shape, at::Device device);  // A copy.
Tensor ToHost(const at::Tensor& tensor);

// A TransitionBatch on the device; states and actions flattened to [B L, …]. On the CPU it is the batch itself, which must outlive it.
struct DeviceBatch {
  at::Tensor state, action, baseline, mask, reward, next_state, next_baseline, next_mask, terminated, trains_actor, box, next_box,
      weight;
  at::Tensor scores;  // [B, L, k]; undefined where the batch has none.
  std::int64_t size() const { return mask.size(0); }
};
DeviceBatch ToDevice(const TransitionBatch& batch, std::int64_t state_width, std::int64_t action_width, at::Device device);

}  // namespace fuseline
