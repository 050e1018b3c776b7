#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/Version.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <mutex>
#include <optional>

#include "algorithm.h"
#include "fuseline/core/digest.h"
#include "torch/catch_torch.h"
#include "torch/losses.h"
#include "torch/networks.h"

namespace fuseline {
namespace {

constexpr float kStartMax = 0.95F;         // A start at +-1 would sit where tanh has no slope.
constexpr double kStartWeightScale = 0.1;  // Of the actor's last layer: it starts near the static action for every state.
constexpr auto kGroups = static_cast<std::int64_t>(kRewardGroups);

std::int64_t Size(std::size_t value) { return static_cast<std::int64_t>(value); }

// Parameters with their target and moments.
struct Trained {
  DenseEnsemble net;
  at::Tensor flat, target;
  FlatAdam adam;

  Trained(DenseEnsemble shape, const at::Tensor& initial)
      : net(std::move(shape)), flat(initial), target(initial.clone()), adam(initial) {}
};

// How fast this build multiplies: netlib's reference BLAS stays near 2 GFLOP/s, a real one is above 20. Informs, decides nothing.
double MeasureSgemm() {
  const at::Tensor a = at::full({256, 256}, 0.5F), b = at::full({256, 256}, 0.25F);
  at::Tensor c = at::mm(a, b);
  double best_s = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    at::mm_out(c, a, b);
    best_s = std::min(best_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return 2.0 * 256 * 256 * 256 / best_s * 1e-9;
}

// What the build says of its BLAS, with MKL's own version where it has it.
std::string BlasName() {
  const std::string config = at::show_config();
  const auto field = config.find("BLAS_INFO=");
  std::string name = field == std::string::npos ? "unknown" : config.substr(field + 10, config.find(',', field) - field - 10);
  if (!at::hasMKL()) return name;
  const std::string version = at::get_mkl_version();
  return name + ": " + version.substr(0, version.find(" for "));
}

void SetThreads(int threads) {
  at::set_num_threads(threads);
  static std::once_flag once;  // LibTorch allows it once a process, before its first parallel work.
  std::call_once(once, [] {
    try {
      at::set_num_interop_threads(1);
    } catch (const std::exception&) {  // Somebody in this process was first; nothing of ours runs between operations.
    }
  });
}

Tensor ToHost(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().to(at::kCPU).contiguous();
  Tensor result;
  for (const std::int64_t extent : host.sizes()) result.shape.push_back(static_cast<std::uint32_t>(extent));
  result.values.assign(host.data_ptr<float>(), host.data_ptr<float>() + host.numel());
  return result;
}

// A batch on the device; states and actions flattened to [B L, …].
struct DeviceBatch {
  at::Tensor state, action, baseline, mask, reward, next_state, next_baseline, next_mask, terminated, trains_actor, box, next_box;
  std::int64_t size() const { return mask.size(0); }
};

class EnhancedRl final : public Algorithm {
 public:
  EnhancedRl(const v1::Config& config, std::size_t shared_width, std::size_t item_width, std::span<const float> static_action,
             at::Device device, ComputeFacts facts)
      : settings_(config.learner()),
        shared_(Size(shared_width)),
        width_(Size(shared_width + item_width)),
        action_(Size(static_action.size())),
        device_(device),
        facts_(std::move(facts)),
        form_{.gamma = settings_.gamma(),
              .alpha_d = settings_.alpha_d(),
              .phi = settings_.target_form() == "phi",
              .literal = settings_.box_penalty() == "literal",
              .per_item = settings_.td() == "item"},
        actor_(MakeActor(config, static_action)),
        critic_(MakeCritic(config)),
        omega_(FromHost(std::array{static_cast<float>(settings_.omega_engagement()), static_cast<float>(settings_.omega_watch())},
                        {kGroups})) {}

  using Algorithm::Step;
  Result<StepFigures> Step(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step) override {
    return CatchTorch("update step failed:", [&]() -> Result<StepFigures> { return GuardedStep(critics, actor, step); });
  }

  Result<std::vector<float>> Act(std::span<const float> states) const override {
    return CatchTorch("acting failed:", [&] { return ActWith(actor_.flat, states); });
  }
  Result<std::vector<float>> ActAs(std::span<const float> actor, std::span<const float> states) const override {
    return CatchTorch("acting failed:", [&] { return ActWith(FromHost(actor, {Size(actor.size())}), states); });
  }
  std::vector<float> actor_parameters() const override { return ToHost(actor_.flat).values; }

  Result<CriticValues> Values(std::span<const float> states, std::span<const float> actions) const override {
    return CatchTorch("judging pairs failed:", [&]() -> Result<CriticValues> {
      const at::NoGradGuard no_gradient;
      const std::int64_t n = Size(states.size()) / width_;
      const at::Tensor q = Q(critic_.flat, FromHost(states, {n, width_}), FromHost(actions, {n, action_}), n);
      const Tensor deviation = ToHost(EnsembleStd(q, kGroups).reshape({kGroups, -1}).mean(1));
      return CriticValues{.mean = ToHost(q.reshape({kGroups, -1, n}).mean(1)).values,
                          .deviation = {deviation.values.begin(), deviation.values.end()}};
    });
  }

  v1::NetworkShape actor_shape() const override {
    v1::NetworkShape shape;
    for (const std::int64_t width : actor_.net.widths()) shape.add_widths(static_cast<std::uint32_t>(width));
    return shape;
  }

  TensorMap ActorTensors() const override {
    TensorMap tensors;
    for (std::int64_t layer = 0; layer < actor_.net.layers(); ++layer) {
      const auto [weights, biases] = actor_.net.Layer(actor_.flat, layer);
      tensors["actor." + std::to_string(layer) + ".weight"] = ToHost(weights[0]);
      tensors["actor." + std::to_string(layer) + ".bias"] = ToHost(biases[0]);
    }
    return tensors;
  }

  TensorMap Save() const override {
    TensorMap tensors;
    for (const auto& [name, tensor] : Named()) tensors[name] = ToHost(tensor);
    return tensors;
  }
  OptimiserCounts optimiser_counts() const override { return {critic_.adam.updates, actor_.adam.updates}; }

  Status Restore(const TensorMap& tensors, const OptimiserCounts& counts) override {
    for (auto& [name, tensor] : Named()) {
      const auto found = tensors.find(name);
      if (found == tensors.end() || Size(found->second.values.size()) != tensor.numel())
        return ErrorStatus(Code::kCorrupt, "tensor of the checkpoint is absent or of another size:", name);
      tensor.copy_(FromHost(found->second.values, {tensor.numel()}));
    }
    critic_.adam.updates = counts.critic_updates;
    actor_.adam.updates = counts.actor_updates;
    return OkStatus();
  }

  std::string WeightsSha256() const override {
    Sha256 digest;
    for (const at::Tensor& tensor : {actor_.flat, actor_.target, critic_.flat, critic_.target}) {
      const Tensor host = ToHost(tensor);
      digest.Update({reinterpret_cast<const char*>(host.values.data()), host.values.size() * sizeof(float)});
    }
    return ToHex(digest.Finish());
  }

  std::string description() const override {
    std::string text = settings_.algorithm() + " actor";
    for (const std::int64_t width : actor_.net.widths()) text += " " + std::to_string(width);
    text += " critics " + std::to_string(critic_.net.members()) + " x";
    for (const std::int64_t width : critic_.net.widths()) text += " " + std::to_string(width);
    return text;
  }
  const ComputeFacts& facts() const override { return facts_; }

 private:
  Trained MakeActor(const v1::Config& config, std::span<const float> static_action) const {
    std::vector<std::int64_t> widths = SizesOf(config.learner()).hidden;
    widths.insert(widths.begin(), width_);
    widths.push_back(action_);
    DenseEnsemble net(1, widths);
    at::Tensor initial = net.Initial(config.fuseline().seed(), "weights.actor");
    auto [weights, biases] = net.Layer(initial, net.layers() - 1);  // Views: what is written goes into `initial`.
    weights.mul_(kStartWeightScale);
    BlindToItems(net, initial);
    for (std::size_t d = 0; d < static_action.size(); ++d)
      biases[0][Size(d)].fill_(std::atanh(std::clamp(static_action[d], -kStartMax, kStartMax)));
    return {net, initial.to(device_)};
  }

  Trained MakeCritic(const v1::Config& config) const {
    const NetworkSizes sizes = SizesOf(config.learner());
    std::vector<std::int64_t> widths = sizes.hidden;
    widths.insert(widths.begin(), width_ + action_);
    widths.push_back(1);
    DenseEnsemble net(kGroups * sizes.critics_per_group, widths);
    const at::Tensor initial = net.Initial(config.fuseline().seed(), "weights.critics");
    BlindToItems(net, initial);
    return {net, initial.to(device_)};
  }

  // One action a request: no network may see an item.
  void BlindToItems(const DenseEnsemble& net, const at::Tensor& initial) const {
    if (!IsPerRequest(settings_)) return;
    auto [weights, biases] = net.Layer(initial, 0);  // [members, out, in]
    weights.narrow(2, shared_, width_ - shared_).zero_();
  }

  // Everything that moves, by name. A tensor is a handle: writing to these writes to the learner's own.
  std::vector<std::pair<std::string, at::Tensor>> Named() const {
    return {{"actor", actor_.flat},
            {"actor.target", actor_.target},
            {"actor.first", actor_.adam.first},
            {"actor.second", actor_.adam.second},
            {"critic", critic_.flat},
            {"critic.target", critic_.target},
            {"critic.first", critic_.adam.first},
            {"critic.second", critic_.adam.second}};
  }

  at::Tensor FromHost(std::span<const float> values, at::IntArrayRef shape) const {
    return at::from_blob(const_cast<float*>(values.data()), shape, at::kFloat).to(device_, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  }

  DeviceBatch ToDevice(const TransitionBatch& batch) const {
    const std::int64_t b = Size(batch.batch), l = Size(batch.items);
    return {.state = FromHost(batch.state, {b * l, width_}),
            .action = FromHost(batch.action, {b * l, action_}),
            .baseline = FromHost(batch.baseline, {b, l, action_}),
            .mask = FromHost(batch.mask, {b, l}),
            .reward = FromHost(batch.reward, {kGroups, b, l}),
            .next_state = FromHost(batch.next_state, {b * l, width_}),
            .next_baseline = FromHost(batch.next_baseline, {b, l, action_}),
            .next_mask = FromHost(batch.next_mask, {b, l}),
            .terminated = FromHost(batch.terminated, {b}),
            .trains_actor = FromHost(batch.trains_actor, {b}),
            .box = FromHost(batch.box, {b, 2}),
            .next_box = FromHost(batch.next_box, {b, 2})};
  }

  Result<std::vector<float>> ActWith(const at::Tensor& parameters, std::span<const float> states) const {
    const at::NoGradGuard no_gradient;
    return ToHost(Mu(parameters, FromHost(states, {Size(states.size()) / width_, width_}))).values;
  }

  // mu(s): states [N, W] → [N, D].
  at::Tensor Mu(const at::Tensor& parameters, const at::Tensor& states) const {
    return actor_.net.Forward(parameters, states)[0].tanh();
  }

  // Q of all members: states [B L, W], actions [B L, D] → [M, B, L].
  at::Tensor Q(const at::Tensor& parameters, const at::Tensor& states, const at::Tensor& actions, std::int64_t batch) const {
    return critic_.net.Forward(parameters, at::cat({states, actions}, 1)).reshape({critic_.net.members(), batch, -1});
  }

  at::Tensor Target(const DeviceBatch& t) const {
    const at::NoGradGuard no_gradient;
    const at::Tensor next_action = Mu(actor_.target, t.next_state);
    const at::Tensor next_q = Q(critic_.target, t.next_state, next_action, t.size());
    const at::Tensor excess = BoxExcess(next_action.view_as(t.next_baseline), t.next_baseline, t.next_box, settings_.beta());
    return TdTarget(t.reward, t.mask, t.terminated, next_q, excess, t.next_mask, form_);
  }

  // Gradient of `loss` in `parameters`, scaled down to the largest norm; absent when loss or gradient is not finite.
  std::optional<at::Tensor> Gradient(const at::Tensor& loss, const at::Tensor& parameters) const {
    if (!std::isfinite(loss.item<float>())) return std::nullopt;
    const at::Tensor gradient = torch::autograd::grad({loss}, {parameters})[0];
    const double norm = gradient.norm().item<double>();
    if (!std::isfinite(norm)) return std::nullopt;
    return norm > settings_.max_gradient_norm() ? gradient * (settings_.max_gradient_norm() / norm) : gradient;
  }

  bool UpdateCritics(const DeviceBatch& t, StepFigures& figures) {
    const at::Tensor target = Target(t);
    const at::Tensor parameters = critic_.flat.detach().requires_grad_();
    const at::Tensor loss = CriticLoss(Q(parameters, t.state, t.action, t.size()), t.mask, target, form_.per_item);
    figures.critic_loss = loss.item<double>();
    const auto gradient = Gradient(loss, parameters);
    if (gradient) critic_.adam.Update(critic_.flat, *gradient, settings_.critic_rate());
    return gradient.has_value();
  }

  bool UpdateActor(const DeviceBatch& t, StepFigures& figures) {
    figures.box_share = t.trains_actor.mean().item<double>();
    if (figures.box_share == 0) return true;
    const at::Tensor parameters = actor_.flat.detach().requires_grad_();
    const at::Tensor mu = Mu(parameters, t.state);
    const at::Tensor excess = BoxExcess(mu.view_as(t.baseline), t.baseline, t.box, settings_.beta());
    const at::Tensor weight = t.mask * t.trains_actor.unsqueeze(1);
    const at::Tensor loss = ActorLoss(Q(critic_.flat, t.state, mu, t.size()), omega_, BoxPenalty(excess, form_.literal), weight,
                                      settings_.eta(), settings_.lambda());
    figures.actor_loss = loss.item<double>();
    figures.actor_moved = true;
    const auto gradient = Gradient(loss, parameters);
    if (gradient) actor_.adam.Update(actor_.flat, *gradient, settings_.actor_rate());
    return gradient.has_value();
  }

  // All or nothing: a step that meets a number which is not finite leaves everything as it was.
  StepFigures GuardedStep(const TransitionBatch& critics, const TransitionBatch& actor, std::uint64_t step) {
    auto named = Named();
    std::vector<at::Tensor> before;
    for (const auto& [name, tensor] : named) before.push_back(tensor.clone());
    const OptimiserCounts counts = optimiser_counts();

    StepFigures figures;
    bool sound = UpdateCritics(ToDevice(critics), figures) && (actor.batch == 0 || UpdateActor(ToDevice(actor), figures));
    if (sound && (step + 1) % static_cast<std::uint64_t>(settings_.soft_update_every()) == 0) {
      for (Trained* trained : {&actor_, &critic_}) trained->target.lerp_(trained->flat, settings_.soft_update());
    }
    for (const auto& [name, tensor] : named) sound = sound && std::isfinite(tensor.norm().item<float>());
    if (sound) return figures;

    for (std::size_t i = 0; i < named.size(); ++i) named[i].second.copy_(before[i]);
    critic_.adam.updates = counts.critic_updates;
    actor_.adam.updates = counts.actor_updates;
    return {.undone = true};
  }

  v1::Learner settings_;
  std::int64_t shared_, width_, action_;
  at::Device device_;
  ComputeFacts facts_;
  TargetForm form_;
  Trained actor_, critic_;
  at::Tensor omega_;
};

}  // namespace

Result<std::unique_ptr<Algorithm>> CreateEnhancedRl(const v1::Config& config, std::size_t shared_width, std::size_t item_width,
                                                    std::span<const float> static_action) {
  return CatchTorch("learner cannot be made:", [&]() -> Result<std::unique_ptr<Algorithm>> {
    const std::string& wanted = config.learner().device();
    if (wanted == "cuda" && !at::hasCUDA())
      return Error(Code::kInvalidInput, "learner.device is cuda, but this build or machine has no usable GPU: take auto or cpu");
    SetThreads(static_cast<int>(config.learner().threads()));
    const bool cuda = wanted != "cpu" && at::hasCUDA();
    ComputeFacts facts{.device = cuda ? "cuda" : "cpu",
                       .blas = BlasName(),
                       .threads = static_cast<int>(config.learner().threads()),
                       .sgemm_gflops = MeasureSgemm()};
    return std::make_unique<EnhancedRl>(config, shared_width, item_width, static_action, at::Device(cuda ? at::kCUDA : at::kCPU),
                                        std::move(facts));
  });
}

}  // namespace fuseline
