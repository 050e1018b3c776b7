#include "torch/torch_algorithm.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/stack.h>
#include <c10/util/accumulate.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "torch/losses.h"

namespace fuseline {
namespace {

constexpr double kLeastReach = 0.02;       // Of exploration, in normalised units, that critics resolve.
constexpr float kStartMax = 0.95F;         // A start at +-1 would sit where tanh has no slope.
constexpr double kStartWeightScale = 0.1;  // Of the last layers: the actor starts near the static action for every state, critics near their level.
constexpr std::uint64_t kCountBase = 1ULL << 20U;  // A count travels as two float32, each exact.

std::vector<float> Counted(std::uint64_t updates) {
  return {static_cast<float>(updates / kCountBase), static_cast<float>(updates % kCountBase)};
}

}  // namespace

TorchAlgorithm::TorchAlgorithm(const v1::Config& config, const Problem& problem, Compute compute)
    : config_(config),
      settings_(config_.learner()),
      levelled_(settings_.start() == "levelled"),
      traits_(AlgorithmTraitsOf(settings_.algorithm()).value()),
      shared_(Size(problem.shared_width)),
      width_(Size(problem.shared_width + problem.item_width)),
      action_(Size(problem.static_action.size())),
      tasks_(Size(problem.tasks)),
      compute_(std::move(compute)),
      omega_(FromHost(std::array{static_cast<float>(settings_.omega_engagement()), static_cast<float>(settings_.omega_watch())},
                      {static_cast<std::int64_t>(kRewardGroups)}, compute_.device)),
      static_action_(problem.static_action) {}

Trained& TorchAlgorithm::Add(std::string name, DenseEnsemble net, const at::Tensor& initial, Target target) {
  const at::Tensor flat = initial.to(compute_.device);
  return parts_.emplace_back(
      Trained{std::move(name), std::move(net), flat, target == Target::kKept ? flat.clone() : at::Tensor(), FlatAdam(flat)});
}

std::vector<std::int64_t> TorchAlgorithm::Widths(std::int64_t inputs, std::int64_t outputs) const {
  std::vector<std::int64_t> widths = SizesOf(settings_).hidden;
  widths.insert(widths.begin(), inputs);
  widths.push_back(outputs);
  return widths;
}

Trained& TorchAlgorithm::AddActor(std::int64_t outputs, Target target) {
  DenseEnsemble net(1, Widths(width_, outputs), compute_.kernels);
  const at::Tensor initial = net.Initial(config_.fuseline().seed(), "weights.actor");
  BlindToItems(net, initial);
  StartAtStatic(net, initial);
  actor_ = &Add("actor", std::move(net), initial, target);
  return *actor_;
}

Trained& TorchAlgorithm::AddCritics(const std::string& name, std::int64_t members, std::int64_t more, Target target) {
  DenseEnsemble net(members, Widths(width_ + more, 1), compute_.kernels);
  const at::Tensor initial = net.Initial(config_.fuseline().seed(), "weights." + name + "s");
  BlindToItems(net, initial);
  Trained& critics = Add(name, std::move(net), initial, target);
  StartSmall(critics, more == action_);
  return critics;
}

void TorchAlgorithm::StartSmall(Trained& critics, bool sees_action) const {
  if (!levelled_) return;
  for (const at::Tensor& parameters : {critics.flat, critics.target}) {
    if (parameters.defined()) critics.net.Layer(parameters, critics.net.layers() - 1).first.mul_(kStartWeightScale);  // A view; see StartAtLevel.
  }
  if (sees_action) ScaleActions(critics);
}

// Actions as they are have a mean far from 0 and a spread of a tenth: while critics learn how large Q is at all, they load it onto
// these inputs as onto a bias, and the actor climbs that slope into a corner before what exploration shows has worn it down.
void TorchAlgorithm::ScaleActions(Trained& critics) const {
  std::vector<float> mean, scale;
  for (const float fixed : static_action_) {
    const double low = std::max(-1.0, fixed + config_.policy().box_lower()), high = std::min(1.0, fixed + config_.policy().box_upper());
    mean.push_back(static_cast<float>((low + high) / 2));
    scale.push_back(static_cast<float>(1 / std::max(kLeastReach, (high - low) / 2)));
  }
  critics.action_mean = FromHost(mean, {action_}, compute_.device);
  critics.action_scale = FromHost(scale, {action_}, compute_.device);
}

Trained& TorchAlgorithm::AddNet(const std::string& name, std::int64_t members, std::int64_t inputs, std::int64_t outputs, Target target) {
  DenseEnsemble net(members, Widths(inputs, outputs), compute_.kernels);
  const at::Tensor initial = net.Initial(config_.fuseline().seed(), "weights." + name);
  return Add(name, std::move(net), initial, target);
}

// What an action changes is a hundredth of what a session is worth. A network that must grow to that worth by itself has slopes of its
// making in every direction long before it has those of the data, and the actor climbs them into a corner.
void TorchAlgorithm::StartAtLevel(Trained& critics, const DeviceBatch& t, const at::Tensor& reward, double gamma) {
  if (!levelled_ || critics.adam.updates > 0) return;
  const at::NoGradGuard no_gradient;
  const at::Tensor worth = reward / (1 - gamma * WeightedMean(1 - t.terminated, t.weight));  // [G], of a state or of one of a list's pairs.
  if (fixed_) fixed_->DoneOnce();
  for (at::Tensor* const parameters : {&critics.flat, &critics.target}) {
    if (!parameters->defined()) continue;
    if (!fixed_) {
      const at::Tensor before = Renew(*parameters);
      parameters->copy_(before);
    }
    const at::Tensor biases = critics.net.Layer(*parameters, critics.net.layers() - 1).second;  // [M, 1], a view.
    biases.add_(worth.repeat_interleave(critics.net.members() / worth.size(0)).view_as(biases));
  }
}

void TorchAlgorithm::StartAtLevel(Trained& critics, const DeviceBatch& t, double gamma) {
  StartAtLevel(critics, t, WeightedMean(Earned(t), t.weight).view({1}), gamma);
}

void TorchAlgorithm::StartAtStatic(const DenseEnsemble& net, const at::Tensor& flat) const {
  if (!levelled_) return;
  auto [weights, biases] = net.Layer(flat, net.layers() - 1);  // Views: what is written goes into `flat`.
  weights.mul_(kStartWeightScale);
  for (std::size_t d = 0; d < static_action_.size(); ++d)
    biases[0][Size(d)].fill_(std::atanh(std::clamp(static_action_[d], -kStartMax, kStartMax)));
}

void TorchAlgorithm::BlindToItems(const DenseEnsemble& net, const at::Tensor& initial) const {
  if (!traits_.per_request) return;
  auto [weights, biases] = net.Layer(initial, 0);  // [members, out, in]
  weights.narrow(2, shared_, width_ - shared_).zero_();
}

Result<StepFigures> TorchAlgorithm::Step(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step) {
  return CatchTorch("update step failed:", [&]() -> Result<StepFigures> {
    if (fixed_) return StepFixed(critics, actor, step);
    std::vector<std::uint64_t> updates;
    for (const Trained& part : parts_) updates.push_back(part.adam.updates);

    StepFigures figures;
    const bool sound = Update(critics, actor, step, figures);
    for (auto change = changes_.rbegin(); change != changes_.rend(); ++change) {
      if (!sound) std::swap(*change->handle, change->before);
      spares_.push_back(std::move(change->before));
    }
    changes_.clear();
    if (sound) return figures;
    for (std::size_t i = 0; i < updates.size(); ++i) parts_[i].adam.updates = updates[i];
    return StepFigures{.undone = true};
  });
}

Status TorchAlgorithm::StepInFixedMemory(std::unique_ptr<StepRunner> runner) {
  if (runner == nullptr) return ErrorStatus(Code::kInvalidInput, "learner.cuda_graph is true, but this build or device has no CUDA: take false");
  if (!StepKind({}, 0)) return ErrorStatus(Code::kInvalidInput, "learner.cuda_graph is not for", settings_.algorithm() + ": take false");
  std::vector<at::Tensor> state;
  for (const auto& [name, tensor] : Named()) state.push_back(tensor);
  fixed_ = std::make_unique<FixedStep>(std::move(runner), std::move(state), parts_.size());
  return OkStatus();
}

StepFigures TorchAlgorithm::StepFixed(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step) {
  std::vector<double> counts;
  for (const Trained& part : parts_) counts.push_back(static_cast<double>(part.adam.updates + 1));
  const FixedStep::Outcome outcome = fixed_->Run(StepKind(actor, step).value(), critics, actor, counts,
                                                 [&](StepFigures& figures) { Update(critics, actor, step, figures); });
  if (!outcome.sound) return {.undone = true};
  for (const std::size_t part : outcome.moved) ++parts_[part].adam.updates;
  return outcome.figures;
}

void TorchAlgorithm::Tell(const at::Tensor& values, std::vector<float>* to) {
  if (fixed_) return fixed_->Tell(values, to);
  *to = ToHost(values).values;
}

at::Tensor TorchAlgorithm::Renew(at::Tensor& handle) {
  const auto spare = std::ranges::find_if(spares_, [&](const at::Tensor& tensor) { return tensor.numel() == handle.numel(); });
  at::Tensor fresh = spare == spares_.end() ? at::empty_like(handle) : *spare;
  if (spare != spares_.end()) spares_.erase(spare);
  changes_.push_back({&handle, handle});
  handle = std::move(fresh);
  return changes_.back().before;
}

Result<std::vector<float>> TorchAlgorithm::ActAs(std::span<const float> actor, std::span<const float> states) const {
  return ActWith(FromHost(actor, {Size(actor.size())}, compute_.device), states);
}

Result<std::vector<float>> TorchAlgorithm::ActWith(const at::Tensor& parameters, std::span<const float> states) const {
  return CatchTorch("acting failed:", [&]() -> Result<std::vector<float>> {
    const at::NoGradGuard no_gradient;
    return ToHost(Serve(parameters, FromHost(states, {Size(states.size()) / width_, width_}, compute_.device))).values;
  });
}

Result<CriticValues> TorchAlgorithm::Values(std::span<const float> states, std::span<const float> actions) const {
  return CatchTorch("judging pairs failed:", [&]() -> Result<CriticValues> {
    const at::NoGradGuard no_gradient;
    const std::int64_t n = Size(states.size()) / width_;
    const at::Tensor q = CriticsOf(FromHost(states, {n, width_}, compute_.device), FromHost(actions, {n, action_}, compute_.device));
    const Tensor deviation = ToHost(EnsembleStd(q, groups()).reshape({groups(), -1}).mean(1));
    return CriticValues{.mean = ToHost(q.reshape({groups(), -1, n}).mean(1)).values,
                        .deviation = {deviation.values.begin(), deviation.values.end()}};
  });
}

void TorchAlgorithm::DescribePolicy(v1::PolicyManifest& manifest) const {
  std::vector<std::int64_t> widths = actor_->net.widths();
  widths.back() = action_;
  for (const std::int64_t width : widths) manifest.mutable_actor()->add_widths(static_cast<std::uint32_t>(width));
}

TensorMap TorchAlgorithm::PolicyTensors() const {
  TensorMap tensors;
  PutLayers(actor_->net, actor_->flat, "actor", tensors, action_);
  return tensors;
}

void TorchAlgorithm::PutLayers(const DenseEnsemble& net, const at::Tensor& parameters, const std::string& name, TensorMap& tensors,
                               std::int64_t outputs) {
  for (std::int64_t layer = 0; layer < net.layers(); ++layer) {
    const auto [weights, biases] = net.Layer(parameters, layer);
    const std::int64_t rows = outputs == 0 || layer + 1 < net.layers() ? weights.size(1) : outputs;
    tensors[name + "." + std::to_string(layer) + ".weight"] = ToHost(weights[0].narrow(0, 0, rows));
    tensors[name + "." + std::to_string(layer) + ".bias"] = ToHost(biases[0].narrow(0, 0, rows));
  }
}

// Everything that moves but the counts, by name. A tensor is a handle: writing to these writes to the algorithm's own.
std::vector<std::pair<std::string, at::Tensor>> TorchAlgorithm::Named() const {
  std::vector<std::pair<std::string, at::Tensor>> named;
  for (const Trained& part : parts_) {
    named.emplace_back(part.name, part.flat);
    if (part.target.defined()) named.emplace_back(part.name + ".target", part.target);
    if (part.action_mean.defined()) {  // As the critics have learned to see an action, whatever the box is now.
      named.emplace_back(part.name + ".action_mean", part.action_mean);
      named.emplace_back(part.name + ".action_scale", part.action_scale);
    }
    named.emplace_back(part.name + ".first", part.adam.first);
    named.emplace_back(part.name + ".second", part.adam.second);
  }
  return named;
}

TensorMap TorchAlgorithm::Save() const {
  TensorMap tensors;
  for (const auto& [name, tensor] : Named()) tensors[name] = ToHost(tensor);
  for (const Trained& part : parts_) tensors[part.name + ".updates"] = {{2}, Counted(part.adam.updates)};
  return tensors;
}

Status TorchAlgorithm::Restore(const TensorMap& tensors) {
  const auto find = [&](const std::string& name, std::int64_t size) -> Result<const Tensor*> {
    const auto found = tensors.find(name);
    if (found != tensors.end() && Size(found->second.values.size()) == size) return &found->second;
    return Error(Code::kCorrupt, "tensor of the checkpoint is absent or of another size:", name);
  };
  for (const auto& [name, tensor] : Named()) {
    FUSELINE_ASSIGN_OR_RETURN(const Tensor* const saved, find(name, tensor.numel()));
    tensor.copy_(FromHost(saved->values, {tensor.numel()}, compute_.device));
  }
  for (Trained& part : parts_) {
    FUSELINE_ASSIGN_OR_RETURN(const Tensor* const count, find(part.name + ".updates", 2));
    part.adam.updates = static_cast<std::uint64_t>(count->values[0]) * kCountBase + static_cast<std::uint64_t>(count->values[1]);
  }
  return OkStatus();
}

std::string TorchAlgorithm::WeightsSha256() const {
  Sha256 digest;
  for (const Trained& part : parts_) {
    for (const at::Tensor& tensor : {part.flat, part.target}) {
      if (!tensor.defined()) continue;
      const Tensor host = ToHost(tensor);
      digest.Update({reinterpret_cast<const char*>(host.values.data()), host.values.size() * sizeof(float)});
    }
  }
  return ToHex(digest.Finish());
}

std::string TorchAlgorithm::description() const {
  std::string text = settings_.algorithm();
  for (const Trained& part : parts_) {
    text += " " + part.name + " " + std::to_string(part.net.members()) + " x";
    for (const std::int64_t width : part.net.widths()) text += " " + std::to_string(width);
  }
  return text;
}

bool TorchAlgorithm::Descend(Trained& part, double rate, const std::function<at::Tensor(const at::Tensor&)>& loss, double* figure) {
  return Descend(std::vector<Trained*>{&part}, rate, [&](const Parameters& parameters) { return loss(parameters[0]); }, figure);
}

bool TorchAlgorithm::Descend(const std::vector<Trained*>& parts, double rate, const std::function<at::Tensor(const Parameters&)>& loss,
                             double* figure) {
  Parameters parameters;
  for (const Trained* part : parts) parameters.push_back(part->flat.detach().requires_grad_());
  const at::Tensor value = loss(parameters);
  if (fixed_) return DescendFixed(parts, rate, value, torch::autograd::grad({value}, parameters), figure);
  const double measured = value.item<double>();
  if (figure != nullptr) *figure = measured;
  if (!std::isfinite(measured)) return false;
  const std::vector<at::Tensor> gradients = torch::autograd::grad({value}, parameters);
  double norm = 0;  // Of all parts' gradients as one.
  for (const at::Tensor& gradient : gradients) norm = std::hypot(norm, gradient.norm().item<double>());
  if (!std::isfinite(norm)) return false;
  const double scale = norm > settings_.max_gradient_norm() ? settings_.max_gradient_norm() / norm : 1;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Trained& part = *parts[i];
    const FlatAdam::State from{Renew(part.flat), Renew(part.adam.first), Renew(part.adam.second)};
    if (!part.adam.Update(from, gradients[i], scale, rate, part.flat)) return false;
  }
  return true;
}

bool TorchAlgorithm::DescendFixed(const std::vector<Trained*>& parts, double rate, const at::Tensor& value,
                                  const std::vector<at::Tensor>& gradients, double* figure) {
  const at::NoGradGuard no_gradient;
  if (figure != nullptr) fixed_->Tell(value, figure);
  std::vector<at::Tensor> norms;
  for (const at::Tensor& gradient : gradients) norms.push_back(gradient.norm());
  const at::Tensor norm = at::stack(norms).norm();
  const at::Tensor scale = (settings_.max_gradient_norm() / norm).clamp_max(1);
  fixed_->Require(value.isfinite().logical_and(norm.isfinite()));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto index = static_cast<std::size_t>(std::ranges::find_if(parts_, [&](const Trained& part) { return &part == parts[i]; }) - parts_.begin());
    fixed_->Require(parts[i]->adam.UpdateFixed(gradients[i] * scale, rate, fixed_->Count(index), parts[i]->flat));
    fixed_->Moved(index);
  }
  return true;
}

void TorchAlgorithm::Follow(Trained& part, double rate) {
  if (fixed_) return void(part.target.lerp_(part.flat, rate));
  const at::Tensor before = Renew(part.target);
  at::lerp_out(part.target, before, part.flat, rate);
}

at::Tensor TorchAlgorithm::Serve(const at::Tensor& parameters, const at::Tensor& states) const { return Mu(parameters, states); }

at::Tensor TorchAlgorithm::Mu(const at::Tensor& parameters, const at::Tensor& states) const {
  return actor_->net.Forward(parameters, states)[0].narrow(1, 0, action_).tanh();
}

at::Tensor TorchAlgorithm::Q(const Trained& critics, const at::Tensor& parameters, const at::Tensor& states, const at::Tensor& actions,
                             std::int64_t batch) {
  const at::Tensor seen = critics.action_mean.defined() ? (actions - critics.action_mean) * critics.action_scale : actions;
  return critics.net.Forward(parameters, states, seen).reshape({critics.net.members(), batch, -1});
}

at::Tensor TorchAlgorithm::Pairs(const Trained& critics, const at::Tensor& parameters, const at::Tensor& states, const at::Tensor& actions) {
  return Q(critics, parameters, states, actions, states.size(0)).squeeze(2);
}

bool TorchAlgorithm::DescendTd(Trained& critics, double rate, const DeviceBatch& t, const at::Tensor& target, StepFigures& figures) {
  at::Tensor difference;
  const auto loss = [&](const at::Tensor& parameters) {
    difference = Pairs(critics, parameters, t.state, t.action) - target;
    return CriticLoss(difference, t.weight);
  };
  const bool sound = Descend(critics, rate, loss, &figures.critic_loss);
  Tell(MeanTdError(difference), &figures.td_error);
  return sound;
}

at::Tensor TorchAlgorithm::WeightedSum(const at::Tensor& reward) const { return (reward * omega_.view({-1, 1, 1})).sum(0, /*keepdim=*/true); }

at::Tensor TorchAlgorithm::Earned(const DeviceBatch& batch) const { return (WeightedSum(batch.reward)[0] * batch.mask).sum(-1); }

at::Tensor TorchAlgorithm::Normals(at::IntArrayRef shape, const std::string& purpose, std::uint64_t step) const {
  Random random(config_.fuseline().seed(), purpose, step);
  std::vector<float> draws(static_cast<std::size_t>(c10::multiply_integers(shape)));
  for (float& draw : draws) draw = static_cast<float>(random.NextNormal());
  return FromHost(draws, shape, compute_.device);
}

at::Tensor TorchAlgorithm::Uniforms(at::IntArrayRef shape, const std::string& purpose, std::uint64_t step) const {
  Random random(config_.fuseline().seed(), purpose, step);
  std::vector<float> draws(static_cast<std::size_t>(c10::multiply_integers(shape)));
  for (float& draw : draws) draw = static_cast<float>(random.NextUniform(-1, 1));
  return FromHost(draws, shape, compute_.device);
}

}  // namespace fuseline
