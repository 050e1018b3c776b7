// Update steps a second of EnhancedRL, `small` and `paper`, beside a naive version of the same step (a loop over critic modules,
// torch::nn and torch::optim::Adam) and the sgemm ceiling, interleaved in one run. One thread.

#include <torch/torch.h>

#include <benchmark/benchmark.h>

#include "algorithm.h"
#include "fuseline/core/random.h"
#include "fuseline/proto/settings.h"

namespace fuseline {
namespace {

constexpr std::int64_t kState = 49, kAction = 10, kItems = 5;

v1::Config ConfigOf(const char* preset) {
  v1::Config config = DefaultSettings();
  config.mutable_learner()->set_preset(preset);
  config.mutable_learner()->set_device("cpu");
  return config;
}

TransitionBatch RandomBatch(std::size_t batch) {
  Random random(1, "bench", 0);
  TransitionBatch b{.batch = batch, .items = kItems};
  const auto fill = [&](std::vector<float>& values, std::size_t width) {
    values.resize(batch * width);
    for (float& value : values) value = static_cast<float>(random.NextUniform(-0.15, 0.15));
  };
  fill(b.state, kItems * kState);
  fill(b.next_state, kItems * kState);
  fill(b.action, kItems * kAction);
  fill(b.reward, kRewardGroups * kItems);
  b.baseline.assign(batch * kItems * kAction, 0);
  b.next_baseline = b.baseline;
  b.mask.assign(batch * kItems, 1);
  b.next_mask = b.mask;
  b.terminated.assign(batch, 0);
  b.trains_actor.assign(batch, 1);
  b.weight.assign(batch, 1);
  b.log_density.assign(batch, 0);
  for (std::size_t i = 0; i < batch; ++i) b.box.insert(b.box.end(), {-0.15F, 0.15F});
  b.next_box = b.box;
  return b;
}

// Multiply-adds of one step's matrix products, times two: critics 1 target + 3 own forward and backward, 1 forward and 1 backward
// towards the action in the actor's step; actor 1 target + 3.
double FlopsOfStep(const NetworkSizes& sizes) {
  const auto macs = [&](std::int64_t in, std::int64_t out) {
    double sum = 0;
    std::int64_t last = in;
    for (const std::int64_t width : sizes.hidden) sum += static_cast<double>(last * width), last = width;
    return sum + static_cast<double>(last * out);
  };
  const double pairs = static_cast<double>(sizes.batch * kItems), members = static_cast<double>(2 * sizes.critics_per_group);
  return 2 * pairs * (6 * members * macs(kState + kAction, 1) + 4 * macs(kState, kAction));
}

void Report(benchmark::State& state, const char* preset) {
  const NetworkSizes sizes = SizesOf(ConfigOf(preset).learner());
  state.counters["steps/s"] = benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * FlopsOfStep(sizes) * 1e-9, benchmark::Counter::kIsRate);
}

void BatchedStep(benchmark::State& state, const char* preset) {
  const v1::Config config = ConfigOf(preset);
  const std::vector<float> start(kAction, 0.0F);
  const auto algorithm = CreateAlgorithm(config, {kState - 1, 1, start}).value();
  const TransitionBatch batch = RandomBatch(static_cast<std::size_t>(SizesOf(config.learner()).batch));
  std::uint64_t step = 0;
  for (auto _ : state) benchmark::DoNotOptimize(algorithm->Step(batch, step++));
  Report(state, preset);
}

torch::nn::Sequential Mlp(std::int64_t in, const std::vector<std::int64_t>& hidden, std::int64_t out) {
  torch::nn::Sequential net;
  for (const std::int64_t width : hidden) {
    net->push_back(torch::nn::Linear(in, width));
    net->push_back(torch::nn::ReLU());
    in = width;
  }
  net->push_back(torch::nn::Linear(in, out));
  return net;
}

void NaiveStep(benchmark::State& state, const char* preset) {
  at::set_num_threads(1);
  const NetworkSizes sizes = SizesOf(ConfigOf(preset).learner());
  const std::int64_t members = 2 * sizes.critics_per_group, batch = sizes.batch;
  std::vector<torch::nn::Sequential> critics, targets;
  std::vector<torch::Tensor> parameters;
  for (std::int64_t m = 0; m < members; ++m) {
    critics.push_back(Mlp(kState + kAction, sizes.hidden, 1));
    targets.push_back(Mlp(kState + kAction, sizes.hidden, 1));
    for (const auto& parameter : critics.back()->parameters()) parameters.push_back(parameter);
  }
  auto actor = Mlp(kState, sizes.hidden, kAction), actor_target = Mlp(kState, sizes.hidden, kAction);
  torch::optim::Adam critic_adam(parameters, 2e-4), actor_adam(actor->parameters(), 1e-4);
  const auto states = torch::rand({batch * kItems, kState}), next_states = torch::rand({batch * kItems, kState});
  const auto actions = torch::rand({batch * kItems, kAction}) * 0.1, rewards = torch::rand({2, batch, kItems});
  for (auto _ : state) {
    torch::Tensor loss = torch::zeros({});
    {
      torch::Tensor next;
      {
        const torch::NoGradGuard no_gradient;
        next = torch::cat({next_states, actor_target->forward(next_states).tanh()}, 1);
      }
      for (std::int64_t m = 0; m < members; ++m) {
        const auto at = static_cast<std::size_t>(m);
        torch::Tensor target;
        {
          const torch::NoGradGuard no_gradient;
          target = rewards[m / sizes.critics_per_group].sum(1) + 0.9 * targets[at]->forward(next).view({batch, kItems}).sum(1);
        }
        const auto q = critics[at]->forward(torch::cat({states, actions}, 1)).view({batch, kItems}).sum(1);
        loss = loss + (q - target).square().mean();
      }
    }
    critic_adam.zero_grad();
    loss.backward();
    torch::nn::utils::clip_grad_norm_(parameters, 10);
    critic_adam.step();

    const auto mu = actor->forward(states).tanh();
    std::vector<torch::Tensor> q;
    for (auto& critic : critics) q.push_back(critic->forward(torch::cat({states, mu}, 1)));
    const auto groups = torch::stack(q).view({2, sizes.critics_per_group, batch, kItems});
    const auto actor_loss = (0.2 * (groups.var(1, false) + 1e-8).sqrt() - groups.mean(1)).sum(0).mean() +
                            1.2 * ((mu.abs() - 0.15).clamp_min(0) / 0.09).clamp_max(6).expm1().sum(1).mean();
    actor_adam.zero_grad();
    actor_loss.backward();
    actor_adam.step();
  }
  Report(state, preset);
}

void Sgemm(benchmark::State& state) {
  at::set_num_threads(1);
  const auto a = torch::rand({1024, 1024}), b = torch::rand({1024, 1024});
  auto c = torch::mm(a, b);
  for (auto _ : state) torch::mm_out(c, a, b);
  state.counters["GFLOP/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * 2 * 1024.0 * 1024 * 1024 * 1e-9, benchmark::Counter::kIsRate);
}

BENCHMARK_CAPTURE(BatchedStep, small, "small")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(NaiveStep, small, "small")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BatchedStep, paper, "paper")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(NaiveStep, paper, "paper")->Unit(benchmark::kMillisecond);
BENCHMARK(Sgemm)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fuseline

BENCHMARK_MAIN();
