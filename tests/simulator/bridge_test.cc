// Proven with the real ranker client and event log, Redis away: the simulated app's requests are fused by the client, its arms
// are the client's, and every event reaches the log's file.

#include <filesystem>
#include <fstream>
#include <map>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/simulator/bridge.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "test_world.h"

namespace fuseline {
namespace {

TEST(BridgeTest, TheLoopRunsThroughTheRankerClientAndItsEventLog) {
  const test::TempDir folder;
  Log log(Severity::kError);
  Metrics metrics;
  const SystemClock clock;
  auto config = DefaultSettings();
  config.mutable_redis()->set_address("unix:" + (folder / "nobody.sock"));
  ASSERT_OK_AND_ASSIGN(RankerOptions options, RankerOptionsOf(config));
  options.name = "simulator";
  options.experiments = {LearningBesideStatic("simulated", 0.2)};
  ASSERT_OK_AND_ASSIGN(const auto ranker, Ranker::Open(options, log, metrics, clock));
  ASSERT_OK_AND_ASSIGN(auto file, OpenFileSink(folder / "events.jsonl", log));
  EventLog event_log({}, std::move(file), log, metrics);
  const auto owned = test::MakeWorld(200, 3);
  const World& world = *owned;
  BridgeRankService service(*ranker);
  BridgeEventSink sink(event_log);
  Simulation simulation(world, service, sink, 1'700'000'000'000);
  SimulationLimits limits;
  limits.max_events = 8'000;

  ASSERT_THAT(simulation.RunUntil(limits), IsOk());
  ASSERT_THAT(event_log.Close(), IsOk());

  std::map<std::string, std::string> arm_of;
  std::size_t lines = 0, without_density = 0, exposures = 0, of_static = 0;
  v1::Event event;
  std::ifstream written(folder / "events.jsonl");
  for (std::string line; std::getline(written, line); ++lines) {
    ASSERT_THAT(DecodeEvent(line, EventLimits{}, &event), IsOk()) << line;
    if (!event.has_exposure()) continue;
    const auto& exposure = event.exposure();
    ++exposures;
    of_static += exposure.arm() == "static" ? 1 : 0;
    without_density += exposure.has_log_density() ? 0 : 1;
    EXPECT_EQ(arm_of.emplace(event.user_id(), exposure.arm()).first->second, exposure.arm()) << event.user_id();
    EXPECT_EQ(exposure.schema_digest(), world.schema_digest());
    EXPECT_EQ(exposure.items_size(), 5);
  }
  EXPECT_EQ(lines, simulation.events());
  EXPECT_EQ(without_density, of_static) << "the learning arm logs its density, the static arm none";
  std::size_t static_users = 0;
  for (const auto& [user, arm] : arm_of) static_users += arm == "static" ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(static_users) / static_cast<double>(arm_of.size()), 0.2, 0.1);
  EXPECT_GT(exposures, 500U);
}

}  // namespace
}  // namespace fuseline
