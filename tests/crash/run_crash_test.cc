// Proven: a SIGKILL of `fuseline run`, again and again at random moments while it reads a fixed topic, changes nothing. No
// session is lost and none is taken twice: in the end the account of every partition, the names taken, the digest of the
// weights and that of every version ever made, of the policy and of the scorer that is learned beside it, are those of a run that was
// left alone.
// Method: the real program against a real broker and a real Redis. The moments are random and spread over the whole of the work,
// reading and learning, and over the opening of the state folder; their seed is printed. Takes a minute or two on two cores, of which
// it prints the time, and fails beyond ten.

#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"
#include "loop_harness.h"

namespace fuseline::test {
namespace {

constexpr std::uint64_t kEvents = 100'000;
constexpr int kPartitions = 3;
constexpr int kKills = 20;
constexpr std::int64_t kPatienceMs = 240'000;

// Commits, checkpoints and versions often, so that kills fall on all of them.
std::vector<std::string> Settings() {
  return {"learner.warmup_transitions=200",
          "learner.checkpoint_every_trajectories=40",
          "learner.version_every_steps=50",
          "policy_store.keep_versions=1000",
          "sessionizer.commit_records=1500",
          "sessionizer.commit_interval_ms=50",
          "scorer.learn=true",
          "scorer.weights=linear",
          "scorer.tasks=click,valid,watch",
          "scorer.user_buckets=1024",
          "scorer.item_buckets=1024",
          "scorer.embedding_width=4",
          "scorer.bottom=16",
          "scorer.tower=8",
          "scorer.experts=2",
          "scorer.critic_hidden=8",
          "scorer.pretraining_impressions=2000",
          "scorer.critic_impressions=2000",
          "scorer.version_every_steps=10",
          "scorer.rate=0.01",
          "scorer.embedding_rate=0.005",
          "fuseline.log_level=warn"};
}

// As a network would deliver them: out of order, some later than the rules allow, some twice. So whenever the process is killed there
// are late records and resends just behind and just ahead of it.
std::vector<v1::Event> Disordered(std::vector<v1::Event> events, std::uint64_t seed) {
  Random random(seed, "disorder", 0);
  const auto lateness_ms = static_cast<std::uint64_t>(DefaultSettings().sessionizer().lateness_ms());
  std::vector<std::pair<std::int64_t, v1::Event>> arrivals;
  for (v1::Event& event : events) {
    const bool late = random.NextBelow(50) == 0;
    const std::uint64_t delay_ms = random.NextBelow(lateness_ms / 2) + (late ? 2 * lateness_ms : 0);
    const std::int64_t time_ms = event.event_time_ms();
    if (random.NextBelow(50) == 0) arrivals.emplace_back(time_ms + static_cast<std::int64_t>(random.NextBelow(lateness_ms)), event);
    arrivals.emplace_back(time_ms + static_cast<std::int64_t>(delay_ms), std::move(event));
  }
  std::ranges::stable_sort(arrivals, {}, [](const auto& arrival) { return arrival.first; });
  events.clear();
  for (auto& arrival : arrivals) events.push_back(std::move(arrival.second));
  return events;
}

// How much of the work is done: records read and sessions learned from, each as a share of all; 0 … 2.
double ProgressOf(const nlohmann::json& status, double trajectories) {
  return status["accounting"]["read"].get<double>() / static_cast<double>(kEvents) +
         status["learner"]["trajectories"].get<double>() / trajectories;
}

// Every fifth falls on the opening, wherever the work stands; the others on a progress of their own.
void KillAtRandomMoments(LoopProcess& process, double trajectories, Random& random) {
  std::vector<double> moments;
  for (int kill = 0; kill < kKills; ++kill) moments.push_back(2 * random.NextUniform());
  std::ranges::sort(moments);
  int reading = 0, learning = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    ASSERT_THAT(process.Start(), IsOk());
    const auto reached = [&](const nlohmann::json& status) {
      const double progress = ProgressOf(status, trajectories);
      if (progress < moments[static_cast<std::size_t>(kill)]) return false;
      reading += status["accounting"]["read"] < kEvents ? 1 : 0;
      learning += status["learner"]["trajectories"] < trajectories ? 1 : 0;
      return true;
    };
    const bool opening = kill % 5 == 4;
    if (!opening) {
      ASSERT_THAT(process.WaitUntil(reached, kPatienceMs), IsOk());
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random.NextBelow(opening ? 1'000'000 : 30'000)));
    ASSERT_TRUE(process.running()) << process.log();
    process.Kill();
  }
  std::cout << kKills << " kills: " << reading << " while records were being read, " << learning << " before the last session was learned from, "
            << kKills / 5 << " in the first second\n";
  EXPECT_GE(learning, kKills / 4);
}

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Version → SHA-256 of its weights, then of its manifest but for who made it when.
std::map<std::uint64_t, std::string> VersionsIn(const std::string& folder) {
  DiskFileSystem files;
  const Archive archive = Archive::OpenReadOnly(folder, files);
  std::map<std::uint64_t, std::string> versions;
  for (const std::uint64_t version : archive.List().value_or(std::vector<std::uint64_t>())) {
    const auto found = archive.Get(version);
    if (!found) continue;
    v1::PolicyManifest manifest = found->version.manifest;
    manifest.clear_created_ms();
    manifest.mutable_lineage()->clear_root();
    versions[version] = ToHex(manifest.weights_sha256()) + " " + ToHex(Sha256Of(CanonicalBytes(manifest)));
  }
  return versions;
}

// Without what was published: the last version may have been made in the last instant.
nlohmann::json LearnedOf(nlohmann::json scorer) {
  scorer.erase("live_version");
  scorer.erase("publication");
  return scorer;
}

TEST(RunCrashTest, TwentyKillsAtRandomMomentsChangeNothing) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  const std::uint64_t seed = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  std::cout << "seed of the moments: " << seed << '\n';
  Random random(seed, "kills", 0);

  // Given: a fixed topic, and what an undisturbed run makes of it.
  ASSERT_OK_AND_ASSIGN(auto simulated, SimulatedEvents(/*seed=*/5, kEvents));
  auto events = Disordered(std::move(simulated), /*seed=*/5);
  events.resize(kEvents);
  ASSERT_THAT(MakeEventsTopic(*kafka, "crash.events", kPartitions, events), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  LoopProcess undisturbed(*kafka, *redis, "crash.events", Settings());
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_THAT(undisturbed.Start(), IsOk());
  ASSERT_THAT(undisturbed.WaitUntilLearned(kEvents, kPatienceMs), IsOk());
  std::cout << "undisturbed: " << SecondsSince(begin) << " s\n";
  ASSERT_EQ(undisturbed.Interrupt(), 130) << undisturbed.log();
  ASSERT_OK_AND_ASSIGN(const auto expected, undisturbed.StoredStatus());
  ASSERT_GT(expected["learner"]["versions"], 0) << expected;
  ASSERT_GT(expected["scorer"]["versions_accepted"], 0) << expected["scorer"];
  ASSERT_GT(expected["scorer"]["versions"], 3) << expected["scorer"];
  ASSERT_EQ(expected["scorer"]["phase"], "weighted training") << expected["scorer"];
  ASSERT_GT(expected["accounting"]["late"], kEvents / 1'000) << expected;
  ASSERT_GT(expected["accounting"]["duplicate"], kEvents / 1'000) << expected;

  // When: the same is done by a process that is killed again and again.
  ASSERT_OK_AND_ASSIGN(const auto other_redis, RedisProcess::Start());
  LoopProcess killed(*kafka, *other_redis, "crash.events", Settings());
  const auto first_kill = std::chrono::steady_clock::now();
  ASSERT_NO_FATAL_FAILURE(KillAtRandomMoments(killed, expected["trajectories"].get<double>(), random));
  ASSERT_THAT(killed.Start(), IsOk());
  ASSERT_THAT(killed.WaitUntilLearned(kEvents, kPatienceMs), IsOk());
  std::cout << "with kills: " << SecondsSince(first_kill) << " s\n";
  ASSERT_EQ(killed.Interrupt(), 130) << killed.log();

  // Then: nothing tells the two apart. All of it is compared: what is read from a state folder counts data, not processes.
  ASSERT_OK_AND_ASSIGN(const auto actual, killed.StoredStatus());
  std::cout << "learned: " << expected["learner"].dump() << '\n';
  EXPECT_EQ(actual["partitions"], expected["partitions"]);
  EXPECT_EQ(actual["accounting_balanced"], true) << actual["accounting"];
  EXPECT_EQ(actual["trajectories"], expected["trajectories"]);
  EXPECT_EQ(actual["learner"], expected["learner"]);
  EXPECT_EQ(actual["live_version"], expected["live_version"]);
  EXPECT_EQ(LearnedOf(actual["scorer"]), LearnedOf(expected["scorer"]));
  std::cout << "scorer: " << expected["scorer"].dump() << '\n';
  for (const auto& [archive, made] : {std::pair("/policy", expected["learner"]["versions"]), {"/scorer", expected["scorer"]["versions"]}}) {
    const auto versions = VersionsIn(undisturbed.state() + archive);
    EXPECT_EQ(versions.size(), made.get<std::size_t>());
    EXPECT_EQ(VersionsIn(killed.state() + archive), versions) << archive;
  }
}

}  // namespace
}  // namespace fuseline::test
