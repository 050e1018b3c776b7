#pragma once

#include <algorithm>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"
#include "torch/compute.h"
#include "torch/networks.h"

namespace fuseline {

// FlatAdam as tensors "adam.first", "adam.second" [P] and "adam.updates" [2]: a count travels as two float32, each
// exact.
inline constexpr std::uint64_t kAdamCountBase = 1ULL << 20U;

inline void SaveAdam(const FlatAdam& adam, TensorMap* tensors) {
  (*tensors)["adam.first"] = ToHost(adam.first);
  (*tensors)["adam.second"] = ToHost(adam.second);
  (*tensors)["adam.updates"] = {
      {2}, {static_cast<float>(adam.updates / kAdamCountBase), static_cast<float>(adam.updates % kAdamCountBase)}};
}

inline Status RestoreAdam(const TensorMap& tensors, FlatAdam* adam) {
  const auto first = tensors.find("adam.first"), second = tensors.find("adam.second"), updates = tensors.find("adam.updates");
  if (first == tensors.end() || second == tensors.end() || updates == tensors.end() || updates->second.values.size() != 2 ||
      Size(first->second.values.size()) != adam->first.numel() || Size(second->second.values.size()) != adam->first.numel())
    return ErrorStatus(Code::kCorrupt, "moments are absent, or of another size");
  adam->first = FromHost(first->second.values, {adam->first.numel()}, at::kCPU);
  adam->second = FromHost(second->second.values, {adam->second.numel()}, at::kCPU);
  const auto& count = updates->second.values;
  adam->updates = static_cast<std::uint64_t>(count[0]) * kAdamCountBase + static_cast<std::uint64_t>(count[1]);
  return OkStatus();
}

}  // namespace fuseline
