#include "generated_policy.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace fuseline {
namespace {

constexpr std::uint32_t kCodesMax = 256;

std::vector<std::uint32_t> WidthsOf(const v1::NetworkShape& shape) { return {shape.widths().begin(), shape.widths().end()}; }

Status CheckEnds(const std::string& what, const v1::NetworkShape& shape, std::size_t inputs, std::size_t outputs) {
  if (shape.widths_size() > 0 && shape.widths(0) == inputs && shape.widths(shape.widths_size() - 1) == outputs) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, what, "disagrees with the schema: it must have inputs", inputs, "and outputs", outputs);
}

}  // namespace

Result<GeneratedPolicy> GeneratedPolicy::Create(const v1::BestOfGenerated& form, std::size_t shared_width, std::size_t action_width,
                                                const TensorMap& tensors, const DenseKernel& kernel) {
  if (form.codes() == 0 || form.codes() > kCodesMax) return Error(Code::kInvalidInput, "codes are outside 1 ..", kCodesMax);
  if (!(form.rho() >= 0 && form.rho() <= 2)) return Error(Code::kInvalidInput, "rho is outside 0 .. 2:", form.rho());
  FUSELINE_FAIL_IF_ERROR(CheckWidths("decoder", WidthsOf(form.decoder())));
  if (form.decoder().widths(0) <= shared_width)
    return Error(Code::kInvalidInput, "decoder has no room for a code beside the shared columns:", form.decoder().widths(0));
  const std::uint32_t latent = form.decoder().widths(0) - static_cast<std::uint32_t>(shared_width);
  FUSELINE_FAIL_IF_ERROR(CheckEnds("decoder", form.decoder(), shared_width + latent, action_width));
  FUSELINE_FAIL_IF_ERROR(CheckEnds("perturbation", form.perturbation(), shared_width + action_width, action_width));
  FUSELINE_FAIL_IF_ERROR(CheckEnds("critic", form.critic(), shared_width + action_width, 1));

  GeneratedPolicy policy(kernel);
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* const codes, FindTensor(tensors, "codes", {form.codes(), latent}));
  FUSELINE_ASSIGN_OR_FAIL(policy.decoder_, PackedNet::Create("decoder", WidthsOf(form.decoder()), Activation::kTanh, tensors, kernel.lanes));
  FUSELINE_ASSIGN_OR_FAIL(policy.perturbation_,
                          PackedNet::Create("perturbation", WidthsOf(form.perturbation()), Activation::kTanh, tensors, kernel.lanes));
  FUSELINE_ASSIGN_OR_FAIL(policy.critic_, PackedNet::Create("critic", WidthsOf(form.critic()), Activation::kNone, tensors, kernel.lanes));
  policy.code_values_ = codes->values;
  policy.codes_ = form.codes();
  policy.latent_ = latent;
  policy.rho_ = form.rho();
  policy.widest_ = std::max({policy.decoder_.widest, policy.perturbation_.widest, policy.critic_.widest});
  return policy;
}

std::size_t GeneratedPolicy::tensor_count() const {
  return 1 + 2 * (decoder_.layers.size() + perturbation_.layers.size() + critic_.layers.size());
}

// in [K, S + more_width] = the shared columns, and a row of `more` [K, more_width].
void GeneratedPolicy::PutBeside(std::span<const float> shared, const float* more, std::size_t more_width, std::vector<float>& in) const {
  float* row = in.data();
  for (std::size_t k = 0; k < codes_; ++k) {
    row = std::copy(shared.begin(), shared.end(), row);
    row = std::copy_n(more + k * more_width, more_width, row);
  }
}

void GeneratedPolicy::Act(std::span<const float> shared, std::vector<float>& in, std::vector<float>& out, std::vector<float>& actions,
                          std::span<float> action) const {
  const std::size_t width = action.size();
  PutBeside(shared, code_values_.data(), latent_, in);
  decoder_.Forward(*kernel_, codes_, in, out);
  std::size_t columns = decoder_.layers.back().dense.columns;
  for (std::size_t k = 0; k < codes_; ++k) std::copy_n(in.data() + k * columns, width, actions.data() + k * width);

  PutBeside(shared, actions.data(), width, in);
  perturbation_.Forward(*kernel_, codes_, in, out);
  columns = perturbation_.layers.back().dense.columns;
  for (std::size_t k = 0; k < codes_; ++k) {
    for (std::size_t d = 0; d < width; ++d) {
      float& value = actions[k * width + d];
      value = std::clamp(value + rho_ * in[k * columns + d], -1.0F, 1.0F);
    }
  }

  PutBeside(shared, actions.data(), width, in);
  critic_.Forward(*kernel_, codes_, in, out);
  columns = critic_.layers.back().dense.columns;
  std::size_t best = 0;
  for (std::size_t k = 1; k < codes_; ++k) {
    if (in[k * columns] > in[best * columns]) best = k;
  }
  std::copy_n(actions.data() + best * width, width, action.begin());
}

}  // namespace fuseline
