#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/v1/policy.pb.h"

#include "packed_net.h"

namespace fuseline {

// The form BestOfGenerated of policy.proto: one action a request, the best of K that a decoder proposes (BatchRL-MTF). Immutable.
class GeneratedPolicy {
 public:
  // Tensors: those of the three nets, and codes [K, Z]. Errors: as PolicyNetwork::Create.
  static Result<GeneratedPolicy> Create(const v1::BestOfGenerated& form, std::size_t shared_width, std::size_t action_width,
                                        const TensorMap& tensors, const DenseKernel& kernel);

  std::size_t codes() const { return codes_; }
  std::size_t widest() const { return widest_; }
  std::size_t tensor_count() const;

  // shared [S], normalised → action [D]. Buffers: in, out [codes, widest], actions [codes, D].
  void Act(std::span<const float> shared, std::vector<float>& in, std::vector<float>& out, std::vector<float>& actions,
           std::span<float> action) const;

 private:
  explicit GeneratedPolicy(const DenseKernel& kernel) : kernel_(&kernel) {}
  void PutBeside(std::span<const float> shared, const float* more, std::size_t more_width, std::vector<float>& in) const;

  const DenseKernel* kernel_;
  PackedNet decoder_, perturbation_, critic_;
  std::vector<float> code_values_;  // [K, Z]
  std::size_t codes_ = 0, latent_ = 0, widest_ = 0;
  float rho_ = 0;
};

}  // namespace fuseline
