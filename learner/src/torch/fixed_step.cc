#include "torch/fixed_step.h"

#include <array>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

class PlainRunner final : public StepRunner {
 public:
  void Run(std::uint64_t, const std::function<bool()>& body) override { (void)body(); }
};

constexpr std::array kTensorsOfABatch{&DeviceBatch::state,         &DeviceBatch::action,    &DeviceBatch::baseline,
                                      &DeviceBatch::mask,          &DeviceBatch::reward,    &DeviceBatch::next_state,
                                      &DeviceBatch::next_baseline, &DeviceBatch::next_mask, &DeviceBatch::terminated,
                                      &DeviceBatch::trains_actor,  &DeviceBatch::box,       &DeviceBatch::next_box,
                                      &DeviceBatch::weight,        &DeviceBatch::scores};

// Into memory that stays from the first time on.
void Take(const TransitionBatch& batch, at::Device device, DeviceBatch& into) {
  const auto b = static_cast<std::int64_t>(batch.batch), l = static_cast<std::int64_t>(batch.items);
  const std::int64_t pairs = b * l;
  const DeviceBatch host =
      ToDevice(batch, Size(batch.state.size()) / pairs, Size(batch.action.size()) / pairs, at::kCPU);
  for (const auto tensor : kTensorsOfABatch) {
    if (!(host.*tensor).defined()) continue;
    at::Tensor& stays = into.*tensor;
    if (!stays.defined()) stays = at::empty_like(host.*tensor, at::TensorOptions(device));
    FUSELINE_CHECK(stays.sizes() == (host.*tensor).sizes());
    stays.copy_(host.*tensor);
  }
}

}  // namespace

std::unique_ptr<StepRunner> MakePlainRunner() { return std::make_unique<PlainRunner>(); }

#ifndef FUSELINE_TORCH_CUDA  // Else cuda/cuda_graph.cc has it.
std::unique_ptr<StepRunner> MakeCudaGraphRunner() { return nullptr; }
#endif

FixedStep::FixedStep(std::unique_ptr<StepRunner> runner, std::vector<at::Tensor> state, std::size_t parts)
    : runner_(std::move(runner)), state_(std::move(state)) {
  for (const at::Tensor& tensor : state_) before_.push_back(at::empty_like(tensor));
  counts_ = at::zeros({Size(parts)}, state_.front().options().dtype(at::kDouble));
}

FixedStep::Outcome FixedStep::Run(std::uint64_t kind, const TransitionBatch& critics, const TransitionBatch& actor,
                                  const std::vector<double>& counts, const std::function<void(StepFigures&)>& body) {
  const at::Device device = state_.front().device();
  critics_host_ = &critics;
  Take(critics, device, critics_);
  if (actor.batch > 0 && &actor != &critics) Take(actor, device, actor_);
  counts_.copy_(at::from_blob(const_cast<double*>(counts.data()), {Size(counts.size())}, at::kDouble));

  const std::uint64_t key = 2 * kind + (&actor == &critics ? 1 : 0);  // What reads another buffer is another kind.
  now_ = &kinds_[key];
  runner_->Run(key, [&] {
    *now_ = {};
    repeats_ = true;
    sound_ = at::ones({1}, counts_.options().dtype(at::kBool));
    for (std::size_t i = 0; i < state_.size(); ++i) before_[i].copy_(state_[i]);
    body(now_->outcome.figures);
    for (std::size_t i = 0; i < state_.size(); ++i) state_[i].copy_(at::where(sound_, state_[i], before_[i]));
    std::vector<at::Tensor> said{sound_.to(at::kDouble)};
    for (const Told& told : now_->told) said.push_back(told.values);
    now_->said = at::cat(said);
    return repeats_;
  });

  const at::Tensor said = now_->said.to(at::kCPU);
  const double* next = said.const_data_ptr<double>();
  Outcome& outcome = now_->outcome;
  outcome.sound = *next++ != 0;
  for (const Told& told : now_->told) {
    if (told.number != nullptr) *told.number = *next;
    if (told.numbers != nullptr) told.numbers->assign(next, next + told.values.numel());
    next += told.values.numel();
  }
  return outcome;
}

}  // namespace fuseline
