// Proven of the learner alone, for each thing that changes what its checkpoint must hold: a process that is killed with SIGKILL twenty
// times, at random moments, ends with the weights of one that was left alone, and made the same versions on the way. (run_crash_test
// proves it of the whole program, with one setting.)
// Method: this program is its own child. The child learns a fixed stream of three partitions, behind an outbox that offers again what no
// checkpoint covers, and says on standard output how far it is; its parent kills it there. A child that is to be killed stands still after
// its share of the steps, so that no machine is too fast for twenty kills. The seed of the moments is printed.

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/child_process.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/learner/learner.h"
#include "fuseline/proto/schema.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/temp_dir.h"
#include "learner_world.h"
#include "stream_world.h"

namespace fuseline {
namespace {

constexpr std::int32_t kPartitions = 3;
constexpr int kSessions = 150;  // Of each partition.
constexpr int kKills = 20;
constexpr std::size_t kBurst = 1;  // Sessions that a partition brings between two calls of Advance: few, for many moments to die at.
constexpr int kOfferedAgainDifferently = 9;

struct Variant {
  const char* name;
  void (*change)(v1::Config& config);
};
constexpr Variant kVariants[] = {
    {"prioritised_stale_and_acted_on",
     [](v1::Config& config) {
       config.mutable_learner()->set_replay("prioritised");
       config.mutable_learner()->set_max_staleness_versions(2);
       config.mutable_learner()->set_stale_weight(0.5);
     }},
    {"td3", [](v1::Config& config) { config.mutable_learner()->set_algorithm("td3"); }},
    {"with_a_scorer", [](v1::Config& config) { config = test::SmallScorerConfig({"scorer.weights=linear"}); }},
};

v1::Config ConfigOf(const std::string& variant) {
  v1::Config config = test::SmallConfig();
  for (const Variant& known : kVariants) {
    if (variant == known.name) known.change(config);
  }
  return config;
}

// --- the child ---

// What a version is but for who made it when: its weights' digest, then that of the manifest.
std::string Describe(const PolicyVersion& version) {
  v1::PolicyManifest manifest = version.manifest;
  manifest.clear_created_ms();
  manifest.mutable_lineage()->clear_root();
  return ToHex(manifest.weights_sha256()) + " " + ToHex(Sha256Of(CanonicalBytes(manifest)));
}

// What an archive does: a version that it has already must come again as it came.
Status Store(const std::filesystem::path& folder, const PolicyVersion& version) {
  const char* const kind = version.manifest.has_scorer() ? "made-scorer-" : "made-";
  const auto file = folder / (kind + std::to_string(version.manifest.version()));
  const std::string text = Describe(version);
  const auto known = ReadFile(file);
  if (known && *known != text) ::_exit(kOfferedAgainDifferently);
  return WriteFileAtomically(file, text);
}

class Outbox {
 public:
  Outbox(const v1::Config& config, Learner& learner) : learner_(learner), stream_(test::Sessions(config, kPartitions, kSessions)) {
    for (const auto& [partition, name] : learner.DurableNames()) next_[partition] = static_cast<std::size_t>(name.offset() / 10 + 1);
  }

  Status Offer() {
    for (std::int32_t p = 0; p < kPartitions; ++p) {
      const auto& sessions = stream_[static_cast<std::size_t>(p)];
      for (std::size_t i = 0; i < kBurst && next_[p] < sessions.size(); ++i)
        FUSELINE_RETURN_IF_ERROR(learner_.Offer(test::Record(sessions[next_[p]++])));
      if (next_[p] == sessions.size()) FUSELINE_RETURN_IF_ERROR(learner_.Offer(test::Mark(p, kEndOfTimeMs)));
    }
    return OkStatus();
  }

  bool empty() {
    for (std::int32_t p = 0; p < kPartitions; ++p) {
      if (next_[p] < stream_[static_cast<std::size_t>(p)].size()) return false;
    }
    return true;
  }

 private:
  Learner& learner_;
  const std::vector<std::vector<v1::Trajectory>> stream_;
  std::map<std::int32_t, std::size_t> next_;
};

// A rollback to version 2 behind version 4, and its end behind version 7: at a moment that is the same for everybody only because the
// act log says so. Asked for again in every life, as a publication does.
Status Act(Learner& learner) {
  const LearnerProgress progress = learner.progress();
  v1::Act act;
  if (progress.versions >= 4 && progress.versions_accepted >= 4) {
    act.set_number(1);
    act.set_incumbent(2);
    act.set_holds(true);
    FUSELINE_RETURN_IF_ERROR(learner.Act(act));
  }
  if (progress.versions < 7) return OkStatus();
  act.set_number(2);
  act.set_incumbent(7);
  act.set_holds(false);
  return learner.Act(act);
}

// Stands still after `steps`, to be killed there if it was not before.
Status Learn(const std::filesystem::path& folder, const v1::Config& config, std::uint64_t steps) {
  Log log(Severity::kError);
  Metrics metrics;
  const SystemClock clock;
  FUSELINE_ASSIGN_OR_RETURN(const auto learner, Learner::Open(folder / "learner", config, "test build", log, metrics, clock));
  learner->ExpectPartitions(kPartitions);
  Outbox outbox(config, *learner);
  do {
    FUSELINE_RETURN_IF_ERROR(Act(*learner));
    for (; steps == 0; ::pause()) {}
    --steps;
    if (::write(STDOUT_FILENO, ".", 1) != 1) return ErrorStatus(Code::kUnavailable, "nobody listens");
    FUSELINE_RETURN_IF_ERROR(outbox.Offer());
    FUSELINE_ASSIGN_OR_RETURN(const auto made, learner->Advance());
    if (const auto pending = learner->PendingVersion()) {
      FUSELINE_RETURN_IF_ERROR(Store(folder, *pending));
      FUSELINE_RETURN_IF_ERROR(learner->MarkStored(pending->manifest.version()));
    }
    if (const auto pending = learner->PendingScorerVersion()) {
      FUSELINE_RETURN_IF_ERROR(Store(folder, *pending));
      FUSELINE_RETURN_IF_ERROR(learner->MarkScorerStored(pending->manifest.version()));
    }
  } while (!outbox.empty() || !learner->idle() || learner->PendingVersion() || learner->PendingScorerVersion());
  return WriteFileAtomically(folder / "weights", learner->WeightsSha256());
}

// --- the parent ---

struct Outcome {
  std::string weights;
  std::map<std::string, std::string> versions;  // File → what Describe says.
};

Outcome OutcomeIn(const std::filesystem::path& folder) {
  Outcome outcome{.weights = ReadFile(folder / "weights").value_or("")};
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("made-")) outcome.versions[name] = ReadFile(entry.path()).value_or("");
  }
  return outcome;
}

class LearnerKillTest : public ::testing::TestWithParam<Variant> {
 protected:
  static constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();

  static Result<ChildProcess> Start(const test::TempDir& dir, std::uint64_t steps) {
    return ChildProcess::Start({std::filesystem::read_symlink("/proc/self/exe").string(), "--learn", dir.path(), GetParam().name,
                                std::to_string(steps)},
                               dir / "said");
  }

  static std::uintmax_t SaidIn(const test::TempDir& dir) {
    std::error_code absent;
    const auto size = std::filesystem::file_size(dir / "said", absent);
    return absent ? 0 : size;
  }
};

TEST_P(LearnerKillTest, TwentyKillsAtRandomMomentsChangeNoWeightAndNoVersion) {
  const auto seed = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  std::cout << "seed of the moments: " << seed << '\n';
  Random random(seed, "kills", 0);

  // Given
  const test::TempDir calm;
  ASSERT_OK_AND_ASSIGN(ChildProcess undisturbed, Start(calm, kAll));
  ASSERT_EQ(undisturbed.Wait(), 0) << ReadFile(calm / "said").value_or("");
  const std::uint64_t share = SaidIn(calm) / (kKills + 1);
  ASSERT_GE(share, 5U);
  const Outcome expected = OutcomeIn(calm.path());
  ASSERT_GE(expected.versions.size(), 5U);

  // When: some die while they open their folder, the others on their way.
  const test::TempDir dir;
  for (int kill = 0; kill < kKills; ++kill) {
    const std::uint64_t begin = SaidIn(dir), way = random.NextBelow(share);
    ASSERT_OK_AND_ASSIGN(ChildProcess child, Start(dir, share));
    const bool opening = kill % 5 == 4;
    while (!opening && child.running() && SaidIn(dir) < begin + way) std::this_thread::sleep_for(std::chrono::microseconds(200));
    std::this_thread::sleep_for(std::chrono::microseconds(random.NextBelow(opening ? 500'000 : 5'000)));
    ASSERT_TRUE(child.running()) << "it ended by itself, kill " << kill << ", exit " << child.Wait();
    child.Kill();
  }
  ASSERT_OK_AND_ASSIGN(ChildProcess last, Start(dir, kAll));
  ASSERT_EQ(last.Wait(), 0);

  // Then
  const Outcome actual = OutcomeIn(dir.path());
  EXPECT_EQ(actual.weights, expected.weights);
  EXPECT_EQ(actual.versions, expected.versions);
  std::cout << "weights " << actual.weights << ", " << actual.versions.size() << " versions\n";
}

INSTANTIATE_TEST_SUITE_P(Variants, LearnerKillTest, ::testing::ValuesIn(kVariants),
                         [](const auto& variant) { return std::string(variant.param.name); });

}  // namespace
}  // namespace fuseline

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "--learn") {
    const fuseline::Status learned = fuseline::Learn(argv[2], fuseline::ConfigOf(argv[3]), std::stoull(argv[4]));
    if (!learned.ok()) std::cerr << learned.message << '\n';
    return learned.ok() ? 0 : 1;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
