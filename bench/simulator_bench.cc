// Events per second of the closed loop on one core, ranking included: static weights beside a small actor (64-64) over the
// default 60 candidates.

#include <benchmark/benchmark.h>

#include "fuseline/core/check.h"
#include "fuseline/core/random.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/simulator/local_rankers.h"

namespace fuseline {
namespace {

constexpr std::int64_t kStartMs = 1'700'000'000'000;

class Nowhere final : public EventSink {
 public:
  Status Append(v1::Event&& event) override {
    benchmark::DoNotOptimize(event);
    return OkStatus();
  }
};

void AddTensor(TensorMap& tensors, const std::string& name, std::vector<std::uint32_t> shape, double deviation) {
  Random random(1, name, 0);
  std::size_t size = 1;
  for (const auto side : shape) size *= side;
  auto& tensor = tensors[name];
  tensor.shape = std::move(shape);
  for (std::size_t i = 0; i < size; ++i) tensor.values.push_back(static_cast<float>(deviation * random.NextNormal()));
}

PolicyNetwork SmallActor() {
  v1::PolicyManifest manifest;
  manifest.set_version(1);
  *manifest.mutable_schema() = DefaultSchema();
  manifest.set_schema_digest(SchemaDigest(manifest.schema()));
  *manifest.mutable_ranges() = ActionRangesOf(DefaultSettings().policy(), manifest.schema()).value();
  manifest.mutable_box()->set_lower(-0.15F);
  manifest.mutable_box()->set_upper(0.15F);
  const FeatureEncoder encoder(manifest.schema());
  const auto state = static_cast<std::uint32_t>(encoder.state_width());
  const std::vector<std::uint32_t> widths = {state, 64, 64, static_cast<std::uint32_t>(encoder.action_width())};
  manifest.mutable_actor()->mutable_widths()->Add(widths.begin(), widths.end());
  TensorMap tensors;
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    AddTensor(tensors, "actor." + std::to_string(i) + ".weight", {widths[i + 1], widths[i]}, 0.1);
    AddTensor(tensors, "actor." + std::to_string(i) + ".bias", {widths[i + 1]}, 0.1);
  }
  tensors["normaliser.mean"] = {{state}, std::vector<float>(state, 0)};
  tensors["normaliser.scale"] = {{state}, std::vector<float>(state, 1)};
  auto network = PolicyNetwork::Create(manifest, tensors);
  FUSELINE_CHECK(network.has_value());
  return *std::move(network);
}

void Run(benchmark::State& state, const World& world, RankService& ranker) {
  Nowhere nowhere;
  Simulation simulation(world, ranker, nowhere, kStartMs);
  SimulationLimits limits;
  limits.max_events = 10'000;
  for (auto _ : state) {
    if (!simulation.RunUntil(limits)) state.SkipWithError("the simulation stopped");
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(simulation.events()));
}

std::unique_ptr<World> DefaultWorld() {
  const auto config = DefaultSettings();
  return CreateFeedWorld(config.simulator(), config.rewards(), 1, DefaultSchema()).value();
}

void BM_EventsWithStaticWeights(benchmark::State& state) {
  const auto world = DefaultWorld();
  auto space = ActionSpace::Create(ActionRangesOf(DefaultSettings().policy(), DefaultSchema()).value()).value();
  const std::vector<float> action(space.static_action().begin(), space.static_action().end());
  FixedActionRanker ranker(*world, space, {action}, "static");
  Run(state, *world, ranker);
}
BENCHMARK(BM_EventsWithStaticWeights)->Unit(benchmark::kMillisecond);

void BM_EventsWithSmallActor(benchmark::State& state) {
  const auto world = DefaultWorld();
  const PolicyNetwork network = SmallActor();
  NetworkRanker ranker(*world, network, "learning");
  Run(state, *world, ranker);
}
BENCHMARK(BM_EventsWithSmallActor)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fuseline

BENCHMARK_MAIN();
