// Microseconds of one request through the ranker, beside the obvious way of doing the same, and the share of the
// machine's multiply-add peak that the actor reaches, all in one run. BENCHMARKS.md says how it is run and what came of it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "fuseline/fusion/policy_network.h"
#include "fuseline/serving_bridge/ranker.h"
#include "fuseline/test_support/redis_process.h"

#include "ranker_fixture.h"

namespace fuseline {
namespace {

constexpr std::size_t kExposed = 5;
const std::vector<std::uint32_t> kHidden[] = {{64, 64}, {256, 128, 64}};
const char* const kPresets[] = {"small", "paper"};

struct RandomVersion {
  PolicyVersion version;
  TensorMap tensors;
};

RandomVersion MakeVersion(const RankerOptions& options, const std::vector<std::uint32_t>& hidden) {
  RandomVersion result;
  v1::PolicyManifest& manifest = result.version.manifest;
  manifest = VersionThatSays(1, options).manifest;
  std::vector<std::uint32_t> widths{manifest.actor().widths(0)};
  widths.insert(widths.end(), hidden.begin(), hidden.end());
  widths.push_back(manifest.actor().widths(1));
  manifest.mutable_actor()->clear_widths();
  for (const std::uint32_t width : widths) manifest.mutable_actor()->add_widths(width);
  Random random(1, "bench", hidden.size());
  const auto fill = [&](const std::string& name, std::vector<std::uint32_t> shape, std::size_t count, double deviation) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(deviation * random.NextNormal());
    result.tensors[name] = {std::move(shape), std::move(values)};
  };
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    const std::string name = "actor." + std::to_string(i);
    fill(name + ".weight", {widths[i + 1], widths[i]}, std::size_t{widths[i + 1]} * widths[i], 1 / std::sqrt(widths[i]));
    fill(name + ".bias", {widths[i + 1]}, widths[i + 1], 0.1);
  }
  result.tensors["normaliser.mean"] = {{widths[0]}, std::vector<float>(widths[0], 0.1F)};
  result.tensors["normaliser.scale"] = {{widths[0]}, std::vector<float>(widths[0], 1.5F)};
  result.version.weights = EncodeWeights(result.tensors);
  SealManifest(manifest, result.version.weights, 8 << 20);
  return result;
}

// A ranker that serves a version of one preset, and that version.
struct Served {
  explicit Served(std::size_t preset) {
    redis = *test::RedisProcess::Start();
    options = TestOptions(redis->socket_path());
    random = MakeVersion(options, kHidden[preset]);
    HandPublisher(options).Publish(random.version, 1, 1);
    ranker = *Ranker::Open(options, log, metrics, clock);
    FUSELINE_CHECK(Eventually([&] { return ranker->status().version == 1; }));
  }
  Log log{Severity::kError};
  Metrics metrics;
  SystemClock clock;
  std::unique_ptr<test::RedisProcess> redis;
  RankerOptions options;
  RandomVersion random;
  std::unique_ptr<Ranker> ranker;
};

Served& ServedPreset(std::size_t preset) {
  static std::unique_ptr<Served> served[2];
  if (served[preset] == nullptr) served[preset] = std::make_unique<Served>(preset);
  return *served[preset];
}

void RankBench(benchmark::State& state, std::size_t preset) {
  Served& served = ServedPreset(preset);
  const OwnedRequest request(static_cast<std::size_t>(state.range(0)), 1);
  auto reader = served.ranker->NewReader();
  for (auto _ : state) benchmark::DoNotOptimize(served.ranker->Rank(request.view(kExposed), reader));
}

// The actor alone; `gflops` counts what it must multiply and add.
void ActBench(benchmark::State& state, std::size_t preset) {
  const Served& served = ServedPreset(preset);
  const auto network = PolicyNetwork::Create(served.random.version.manifest, served.random.tensors);
  const OwnedRequest request(static_cast<std::size_t>(state.range(0)), 1);
  const RankingRequest view = request.view();
  ActorWorkspace workspace;
  std::vector<float> actions(view.candidates.size() * network->action_space().width());
  for (auto _ : state) {
    benchmark::DoNotOptimize(network->Act(view.user, view.context, view.candidates, workspace, actions));
  }
  const auto& widths = served.random.version.manifest.actor().widths();
  double flops = 2.0 * static_cast<double>(network->encoder().item_width()) * widths[1];
  for (int i = 1; i + 1 < widths.size(); ++i) flops += 2.0 * widths[i] * widths[i + 1];
  state.counters["gflops"] = benchmark::Counter(flops * static_cast<double>(state.range(0)) * 1e-9,
                                                benchmark::Counter::kIsIterationInvariantRate);
}

// The obvious way: the full state of every candidate, layer by layer in plain loops, then a sort.
void NaiveBench(benchmark::State& state, std::size_t preset) {
  const Served& served = ServedPreset(preset);
  const TensorMap& tensors = served.random.tensors;
  const auto& widths = served.random.version.manifest.actor().widths();
  const FeatureEncoder encoder(served.options.schema);
  const ActionSpace space = *ActionSpace::Create(served.options.ranges);
  const OwnedRequest request(static_cast<std::size_t>(state.range(0)), 1);
  const Normaliser normaliser{tensors.at("normaliser.mean").values, tensors.at("normaliser.scale").values};
  for (auto _ : state) {
    std::vector<std::pair<double, std::size_t>> ranked;
    for (std::size_t i = 0; i < request.candidates.size(); ++i) {
      std::vector<float> values(encoder.state_width());
      const std::span<float> columns(values);
      FUSELINE_CHECK(encoder.EncodeShared(request.view().user, request.view().context, columns.first(encoder.shared_width())).ok());
      FUSELINE_CHECK(encoder.EncodeItem(request.candidates[i], columns.subspan(encoder.shared_width())).ok());
      normaliser.Apply(values);
      for (int layer = 0; layer + 1 < widths.size(); ++layer) {
        const std::string name = "actor." + std::to_string(layer);
        const Tensor& weight = tensors.at(name + ".weight");
        std::vector<float> next = tensors.at(name + ".bias").values;
        for (std::size_t out = 0; out < next.size(); ++out) {
          for (std::size_t in = 0; in < values.size(); ++in) next[out] += weight.values[out * values.size() + in] * values[in];
          next[out] = layer + 2 < widths.size() ? std::max(next[out], 0.0F) : std::tanh(next[out]);
        }
        values = std::move(next);
      }
      ranked.emplace_back(-space.FusedScore(request.scores[i], values), i);
    }
    std::sort(ranked.begin(), ranked.end());
    benchmark::DoNotOptimize(ranked);
  }
}

// Sixteen independent chains of multiply-adds in registers: the ceiling of one core. Nothing where there is no AVX-512.
using Wide = float __attribute__((vector_size(64)));
__attribute__((target("avx512f"))) float MultiplyAdd(int rounds) {
  Wide sums[16];
  for (int chain = 0; chain < 16; ++chain) sums[chain] = Wide{} + static_cast<float>(chain);  // Equal chains would become one.
  const Wide factor = Wide{} + 0.999F;
  for (int i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (Wide& sum : sums) sum = sum * factor + factor;
  }
  Wide total = {};
  for (const Wide& sum : sums) total += sum;
  return total[0];
}

void PeakBench(benchmark::State& state) {
  if (!__builtin_cpu_supports("avx512f")) {
    state.SkipWithError("no AVX-512: the peak is not measured");
    return;
  }
  constexpr int kRounds = 10'000;
  int rounds = kRounds;
  for (auto _ : state) {
    benchmark::DoNotOptimize(rounds);  // Else the call is one value, computed once.
    benchmark::DoNotOptimize(MultiplyAdd(rounds));
  }
  state.counters["gflops"] = benchmark::Counter(2.0 * 16 * 16 * kRounds * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void RegisterAll() {
  benchmark::RegisterBenchmark("peak", PeakBench)->Unit(benchmark::kMicrosecond);
  for (std::size_t preset = 0; preset < 2; ++preset) {
    const std::string name = kPresets[preset];
    const auto add = [&](const char* what, void (*body)(benchmark::State&, std::size_t)) {
      benchmark::RegisterBenchmark((what + ("/" + name)).c_str(), body, preset)->Arg(1)->Arg(300)->Arg(1'000)->Unit(benchmark::kMicrosecond);
    };
    add("rank", RankBench);
    add("act", ActBench);
    add("naive", NaiveBench);
  }
}

}  // namespace
}  // namespace fuseline

int main(int argc, char** argv) {
  fuseline::RegisterAll();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
