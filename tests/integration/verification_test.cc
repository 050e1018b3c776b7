// `fuseline replay --verify` derives a version again from its lineage, with the real program on
// files, on the events topic and on the topic of trajectories: equal from a kept checkpoint and
// from the beginning, with history before a live topic and with a rollback in between; what differs
// is named; what is gone is said, each with its exit code. A rollback by somebody else is followed,
// through a SIGKILL.

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/core/http.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/redis/connection.h"
#include "fuseline/test_support/matchers.h"
#include "trajectories_harness.h"

namespace fuseline::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr std::uint64_t kEvents = 16'000;
// Within the minutes that the events last most sessions close.
constexpr char kShortGap[] = "sessionizer.gap_ms=120000";
constexpr char kShortLateness[] = "sessionizer.lateness_ms=60000";
constexpr std::int64_t kPatienceMs = 120'000;

// Many small versions, every third with its full checkpoint; a gate that judges but lets pass.
std::vector<std::string> Settings() {
  return {"fuseline.log_level=warn",
          kShortGap,
          kShortLateness,
          "learner.warmup_transitions=100",
          "learner.steps_per_transition=0.3",
          "policy_store.keep_versions=1000",
          "learner.version_every_steps=10",
          "learner.hidden=16",
          "learner.critics_per_group=2",
          "learner.batch=16",
          "learner.checkpoint_every_trajectories=20",
          "learner.keep_checkpoint_every_versions=3",
          "learner.actor_delay_steps=0",
          "gate.max_outside_share=1",
          "gate.gauc_tolerance=1",
          "gate.ncis_tolerance=10",
          "gate.static_gauc_tolerance=1",
          "gate.static_ncis_tolerance=10"};
}

// A scorer beside the policy, small and eager too.
std::vector<std::string> ScorerSettings() {
  return {"scorer.learn=true",       "scorer.weights=linear",    "scorer.tasks=click,valid",     "scorer.user_buckets=256",
          "scorer.item_buckets=256", "scorer.embedding_width=4", "scorer.bottom=8",              "scorer.tower=5",
          "scorer.experts=2",        "scorer.critic_hidden=8",   "scorer.batch=64",              "scorer.pretraining_impressions=500",
          "scorer.critic_impressions=500", "scorer.version_every_steps=5", "scorer.gate_min_impressions=20",
          "scorer.rate=0.01",        "scorer.embedding_rate=0.001"};
}

std::vector<std::string> With(std::vector<std::string> arguments,
                              const std::vector<std::string>& settings) {
  for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
  return arguments;
}

struct Answer {
  int code = 0;
  std::string output;
  json last() const {
    const std::size_t end = output.find_last_not_of('\n');
    if (end == std::string::npos) return {};
    return json::parse(output.substr(output.find_last_of('\n', end) + 1), nullptr,
                       /*allow_exceptions=*/false);
  }
};

Answer Fuseline(const std::vector<std::string>& arguments) {
  Answer answer;
  answer.code = RunFuseline(arguments, &answer.output);
  return answer;
}

// With what it says on standard error.
Answer FuselineWithLog(const std::vector<std::string>& arguments) {
  const TempDir dir;
  Answer answer;
  testing::internal::CaptureStderr();
  answer.code = RunFuseline(arguments, &answer.output);
  answer.output += testing::internal::GetCapturedStderr();
  return answer;
}

Answer Verify(std::uint64_t version, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"replay", "--json", "--verify", std::to_string(version)});
  return Fuseline(With(std::move(arguments), {"fuseline.log_level=error"}));
}

const std::vector<v1::Event>& Events() {
  static const std::vector<v1::Event> events = SimulatedEvents(/*seed=*/21, kEvents).value();
  return events;
}

std::string WriteEvents(const std::string& path, std::size_t begin, std::size_t end) {
  std::ofstream file(path);
  for (std::size_t i = begin; i < end; ++i) file << EncodeEventJson(Events()[i]) << '\n';
  return path;
}

TEST(VerificationTest, AVersionOfAFileIsDerivedAgainAndWhatDiffersOrIsGoneIsSaid) {
  // Given
  const TempDir dir;
  const std::string log = WriteEvents(dir / "log.jsonl", 0, Events().size()), state = dir / "state";
  const Answer made = Fuseline(With({"replay", "--json", "--state", state, log}, Settings()));
  ASSERT_EQ(made.code, 0);
  const auto versions = made.last()["versions"].get<std::uint64_t>();
  ASSERT_GE(versions, 8U) << made.output;

  // Then: from the kept checkpoint before it, and from the beginning.
  const Answer newest = Verify(versions, {"--state", state, log});
  EXPECT_EQ(newest.code, 0) << newest.output;
  EXPECT_EQ(newest.last()["equal"], true);
  EXPECT_EQ(newest.last()["base"], (versions - 1) / 3 * 3);
  EXPECT_EQ(newest.last()["differences"], json::array()) << newest.output;
  const Answer archived = Verify(2, {"--archive", state + "/policy", log});
  EXPECT_EQ(archived.code, 0) << archived.output;
  EXPECT_EQ(archived.last()["base"], 0);

  // What the log says of a version of the archive is told by the same folder.
  const Answer judged = Fuseline({"evaluate", "policy", "--json", "--state", state, "--version", "0", "--version", std::to_string(versions), log});
  EXPECT_EQ(judged.code, 0) << judged.output;
  const json policies = judged.last()["policies"];
  ASSERT_EQ(policies.size(), 2U) << judged.output;
  EXPECT_EQ(policies[1]["version"], versions);
  EXPECT_GT(policies[1]["mtf_gauc"]["value"].get<double>(), 0.3);
  EXPECT_NE(policies[1]["mtf_gauc"]["value"], policies[0]["mtf_gauc"]["value"]);
  EXPECT_GT(policies[1]["clipped_ips"]["value"].get<double>(), 0);
  EXPECT_EQ(Fuseline({"evaluate", "policy", "--state", state, "--version", std::to_string(versions + 50), log}).code, 2);

  // Other settings are named, and not used.
  const Answer other = Verify(2, {"--archive", state + "/policy", "--set", "rewards.like=9", log});
  EXPECT_EQ(other.code, 0) << other.output;
  std::string named;
  const json report = other.last();
  for (const json& difference : report["differences"])
    named += difference["what"].get<std::string>() + " ";
  EXPECT_EQ(named, "settings rewards ");

  // What made it is named before anything is opened: a build, a BLAS and a thread count that are not these, whether or not it can be
  // derived in the end.
  DiskFileSystem disk;
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion second, Archive::OpenReadOnly(state + "/policy", disk).Get(2));
  PolicyVersion forged{second.version.manifest, second.version.weights};
  v1::Lineage& lineage = *forged.manifest.mutable_lineage();
  lineage.set_build("another build");
  lineage.set_blas("another BLAS");
  lineage.set_threads(17);
  const auto forge = [&](const std::string& folder) {
    forged.manifest.clear_parts();
    ASSERT_OK_AND_ASSIGN(Archive archive, Archive::Open(folder, 1 << 20, disk));
    ASSERT_THAT(archive.Put(forged), IsOk());
  };
  ASSERT_NO_FATAL_FAILURE(forge(dir / "doctored"));
  const Answer doctored = Verify(2, {"--archive", dir / "doctored", log});
  EXPECT_EQ(doctored.code, 0) << doctored.output << "what it computes is the same all the same";
  std::vector<std::string> what;
  const json doctored_report = doctored.last();
  for (const json& difference : doctored_report["differences"]) what.push_back(difference["what"]);
  EXPECT_THAT(what, testing::ElementsAre("settings", "build", "blas", "threads")) << "settings: there is no state";
  v1::Config of_gpu;
  ASSERT_TRUE(of_gpu.ParseFromString(lineage.settings()));
  of_gpu.mutable_learner()->set_device("cuda");
  lineage.set_settings(CanonicalBytes(of_gpu));
  lineage.set_settings_sha256(Sha256Of(lineage.settings()));
  lineage.set_device("cuda");
  ASSERT_NO_FATAL_FAILURE(forge(dir / "of_gpu"));
  const Answer without_gpu = FuselineWithLog({"replay", "--verify", "2", "--archive", dir / "of_gpu", log});
  if (without_gpu.code == 4) {  // Here is no GPU.
    EXPECT_THAT(without_gpu.output, HasSubstr("what=build"));
    EXPECT_THAT(without_gpu.output, HasSubstr("what=device"));
    EXPECT_LT(without_gpu.output.find("what=device"), without_gpu.output.find("fuseline: "));
  }

  // Another log: what was learned from is not in it.
  const std::string shorter = WriteEvents(dir / "shorter.jsonl", 0, Events().size() / 4);
  EXPECT_EQ(Verify(versions, {"--archive", state + "/policy", shorter}).code, 4);
  const std::string altered = WriteEvents(dir / "altered.jsonl", 40, Events().size());
  const Answer unequal = Verify(2, {"--archive", state + "/policy", altered});
  EXPECT_EQ(unequal.code, 5) << unequal.output;
  EXPECT_EQ(unequal.last()["equal"], false);

  EXPECT_EQ(Verify(versions + 50, {"--state", state, log}).code, 4);
  EXPECT_EQ(Verify(2, {"--state", state}).code, 4) << "its files are not named";
  EXPECT_EQ(Verify(2, {"--state", state, "--archive", state, log}).code, 2);
  EXPECT_EQ(Verify(2, {"--state", dir / "nobody", log}).code, 2);
  EXPECT_EQ(Fuseline({"replay", "--verify", "2", "--state", state, "--topic"}).code, 2);
}

TEST(VerificationTest, AVersionOfTheScorerIsDerivedAgainByItsOwnArchive) {
  // Given: a scorer beside the policy, small and eager.
  const TempDir dir;
  const std::string log = WriteEvents(dir / "log.jsonl", 0, Events().size()), state = dir / "state";
  auto settings = Settings();
  for (const std::string& setting : ScorerSettings()) settings.push_back(setting);
  const Answer made = Fuseline(With({"replay", "--json", "--state", state, log}, settings));
  ASSERT_EQ(made.code, 0);
  const json scorer = made.last()["scorer"];
  const auto versions = scorer["versions"].get<std::uint64_t>();
  ASSERT_GE(versions, 8U) << made.output;
  ASSERT_EQ(scorer["phase"], "weighted training") << made.output;

  // Then: from a checkpoint that was kept with a version of the policy, and from the beginning.
  const Answer newest = Verify(versions, {"--scorer", "--state", state, log});
  EXPECT_EQ(newest.code, 0) << newest.output;
  EXPECT_EQ(newest.last()["differences"], json::array()) << newest.output;
  EXPECT_GT(newest.last()["base_trajectories"], 0) << newest.output;
  const Answer archived = Verify(2, {"--scorer", "--archive", state + "/scorer", log});
  EXPECT_EQ(archived.code, 0) << archived.output;
  EXPECT_EQ(archived.last()["base"], 0);
  const Answer of_policy = Verify(2, {"--state", state, log});
  EXPECT_EQ(of_policy.code, 0) << of_policy.output;
  const std::string altered = WriteEvents(dir / "altered.jsonl", 40, Events().size());
  EXPECT_EQ(Verify(2, {"--scorer", "--archive", state + "/scorer", altered}).code, 5);
  EXPECT_EQ(Verify(versions + 50, {"--scorer", "--state", state, log}).code, 4);

  // Where versions of a scorer lie already, imported or another's, its numbers go on behind them.
  const std::string behind = dir / "behind";
  std::filesystem::create_directories(behind);
  std::filesystem::copy(state + "/scorer", behind + "/scorer", std::filesystem::copy_options::recursive);
  const Answer later = Fuseline(With({"replay", "--json", "--state", behind, log}, settings));
  ASSERT_EQ(later.code, 0) << later.output;
  EXPECT_EQ(later.last()["scorer"]["versions"], 2 * versions);
  EXPECT_EQ(Verify(2 * versions, {"--scorer", "--state", behind, log}).code, 0);
  EXPECT_EQ(Verify(versions + 1, {"--scorer", "--archive", behind + "/scorer", log}).code, 0);

  // What an operator sees of it.
  const Answer status = Fuseline({"status", "--state", state});
  EXPECT_EQ(status.code, 0);
  EXPECT_THAT(status.output, HasSubstr("made " + std::to_string(versions)));
  EXPECT_THAT(status.output, HasSubstr("weighted training, impressions " + std::to_string(scorer["impressions"].get<std::uint64_t>())));
  EXPECT_THAT(status.output, testing::ContainsRegex("scorer +click +plain auc 0\\.[0-9]+, log loss 0\\.[0-9]+ +weighted auc 0"));

  // The policy's weights do not know of it; what it cannot learn is refused before anything is read.
  const Answer alone = Fuseline(With({"replay", "--json", log}, Settings()));
  EXPECT_EQ(alone.last()["weights_sha256"], made.last()["weights_sha256"]);
  const Answer unknown = FuselineWithLog(With({"replay", log}, {"scorer.learn=true"}));
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.output, HasSubstr("long_view")) << "the default schema has no such task";
  EXPECT_EQ(Fuseline({"replay", "--scorer", log}).code, 2);
}

class LiveVerificationTest : public testing::Test {
 protected:
  static Result<RedisConnection> Connect(const RedisProcess& redis) {
    RedisOptions options;
    options.address = "unix:" + redis.socket_path();
    return RedisConnection::Connect(options);
  }

  static Status PointLiveAt(const RedisProcess& redis, std::uint64_t version, bool pinned) {
    FUSELINE_ASSIGN_OR_RETURN(auto connection, Connect(redis));
    const PolicyKeys keys("default");
    FUSELINE_ASSIGN_OR_RETURN(const auto seen, ReadAliases(connection, keys));
    const AliasMove move{.alias = std::string(kLiveAlias), .to_version = version, .who = "operator", .why = "a test", .pinned = pinned};
    const auto moved = MoveAlias(connection, keys, seen, move, /*changes_kept=*/100);
    return moved ? OkStatus() : moved.error();
  }
};

TEST_F(LiveVerificationTest, HistoryThenALiveTopicThenARollbackThroughASigkillIsDerivedAgain) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  // Given: a run that learned from a file first.
  const TempDir dir;
  const std::size_t third = Events().size() / 3;
  const std::string history = WriteEvents(dir / "history.jsonl", 0, third);
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  const std::vector<v1::Event> live(Events().begin() + static_cast<std::ptrdiff_t>(third),
                                    Events().end());
  const std::vector<v1::Event> first(live.begin(), live.begin() + std::ssize(live) / 2),
      second(live.begin() + std::ssize(live) / 2, live.end());
  ASSERT_THAT(MakeEventsTopic(*kafka, "verify.events", 3, first), IsOk());
  LoopProcess run(*kafka, *redis, "verify.events", Settings());
  const std::vector<std::string> warm{"--warm-start", history};
  ASSERT_THAT(run.Start(warm), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(first.size(), kPatienceMs), IsOk());
  const auto published = [](const json& status) {
    return status["live_version"] == status["learner"]["incumbent"];
  };
  ASSERT_THAT(run.WaitUntil(published, kPatienceMs), IsOk());
  const auto before = run.Ask();
  ASSERT_TRUE(before);
  ASSERT_GT((*before)["learner"]["incumbent"], 3) << *before;

  // When: somebody goes back to an older version, and the process dies at once.
  ASSERT_THAT(PointLiveAt(*redis, 2, /*pinned=*/true), IsOk());
  const auto followed = [](const json& status) { return status["learner"]["incumbent"] == 2; };
  ASSERT_THAT(run.WaitUntil(followed, kPatienceMs), IsOk());
  run.Kill();
  ASSERT_THAT(AppendEvents(*kafka, "verify.events", second), IsOk());
  ASSERT_THAT(run.Start(warm), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(live.size(), kPatienceMs), IsOk());

  // Then: later versions are made and published, and nobody is pointed to them.
  const auto after = run.Ask();
  ASSERT_TRUE(after);
  const auto versions = (*after)["learner"]["versions"].get<std::uint64_t>();
  EXPECT_GT(versions, (*before)["learner"]["versions"].get<std::uint64_t>() + 1);
  EXPECT_EQ((*after)["learner"]["incumbent"], 2);
  EXPECT_EQ((*after)["learner"]["incumbent_holds"], true);
  EXPECT_EQ((*after)["live_version"], 2);
  const auto pointed_at_newest = [&]() -> Status {
    FUSELINE_ASSIGN_OR_RETURN(auto connection, Connect(*redis));
    FUSELINE_ASSIGN_OR_RETURN(const std::uint64_t newest,
                              NewestPublished(connection, PolicyKeys("default")));
    return PointLiveAt(*redis, newest, /*pinned=*/false);
  };
  ASSERT_THAT(pointed_at_newest(), IsOk());
  ASSERT_THAT(run.WaitUntil([](const json& status) { return status["learner"]["incumbent"] != 2; },
                            kPatienceMs),
              IsOk());
  ASSERT_EQ(run.Interrupt(), 130) << run.log();

  // Every version is derived again: during the history, live, and behind the rollback; the last
  // without any checkpoint.
  const std::vector<std::string> brokers{"--set", "kafka.brokers=" + kafka->bootstrap_servers(),
                                         "--set", "kafka.events_topic=verify.events"};
  const auto verify = [&](std::uint64_t version, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), brokers.begin(), brokers.end());
    arguments.push_back(history);
    const Answer answer = Verify(version, arguments);
    EXPECT_EQ(answer.code, 0) << "version " << version << ": " << answer.output << run.log();
    return answer;
  };
  verify(2, {"--state", run.state()});
  EXPECT_GT(verify(versions, {"--state", run.state()}).last()["base"], 0);
  EXPECT_EQ(verify(versions, {"--archive", run.state() + "/policy"}).last()["base"], 0);

  DiskFileSystem files;
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion last,
                       Archive::OpenReadOnly(run.state() + "/policy", files).Get(versions));
  const v1::Lineage& lineage = last.version.manifest.lineage();
  ASSERT_EQ(lineage.inputs_size(), 2);
  EXPECT_THAT(lineage.inputs(0).input(), HasSubstr("history.jsonl"));
  EXPECT_THAT(lineage.inputs(1).input(), HasSubstr("topic verify.events, 3 partitions"));
  EXPECT_EQ(lineage.parent(), 2U);
  ASSERT_EQ(lineage.acts_size(), 1);
  EXPECT_EQ(lineage.acts(0).who(), "operator");
}

// The state at the change is kept, so that what was learned behind it is derived under the settings behind it; without that state it is
// said why it cannot be, and what differs is named by regime and key.
TEST_F(LiveVerificationTest, ARestartWithOtherSettingsIsDerivedAgainFromTheStateAtTheChange) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  // Given
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  const auto half = Events().begin() + std::ssize(Events()) / 2;
  ASSERT_THAT(MakeEventsTopic(*kafka, "regimes.events", 2, {Events().begin(), half}), IsOk());
  LoopProcess run(*kafka, *redis, "regimes.events", Settings());
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(static_cast<std::uint64_t>(half - Events().begin()), kPatienceMs), IsOk());
  ASSERT_EQ(run.Interrupt(), 130) << run.log();
  ASSERT_OK_AND_ASSIGN(const json before, run.StoredStatus());
  const auto old_version = before["learner"]["versions"].get<std::uint64_t>();
  ASSERT_GT(old_version, 3U);

  // When
  ASSERT_THAT(AppendEvents(*kafka, "regimes.events", {half, Events().end()}), IsOk());
  ASSERT_THAT(run.Start({"--set", "learner.actor_rate=0.0007"}), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(Events().size(), kPatienceMs), IsOk());
  ASSERT_EQ(run.Interrupt(), 130) << run.log();
  ASSERT_OK_AND_ASSIGN(const json after, run.StoredStatus());
  const auto new_version = after["learner"]["versions"].get<std::uint64_t>();
  ASSERT_GT(new_version, old_version + 1);

  // Then
  const auto verify = [&](std::uint64_t version, const std::string& option, const std::string& folder) {
    return Verify(version, {option, folder, "--set", "kafka.brokers=" + kafka->bootstrap_servers(),
                            "--set", "kafka.events_topic=regimes.events"});
  };
  for (const std::uint64_t version : {old_version + 1, new_version}) {
    const Answer answer = verify(version, "--state", run.state());
    EXPECT_EQ(answer.code, 0) << "version " << version << ": " << answer.output << run.log();
    const json report = answer.last();
    EXPECT_EQ(report["regimes"], 2);
    ASSERT_EQ(report["differences"].size(), 1U) << answer.output;
    EXPECT_EQ(report["differences"][0]["what"], "settings");
    EXPECT_EQ(report["differences"][0]["regime"], 1);
    EXPECT_EQ(report["differences"][0]["keys"], json({{"learner.actor_rate", {"1e-04", "7e-04"}}})) << answer.output;
  }
  const Answer older = verify(old_version, "--state", run.state());
  EXPECT_EQ(older.code, 0) << older.output << "it was made before the change";
  EXPECT_EQ(older.last()["regimes"], 1);
  EXPECT_EQ(verify(new_version, "--archive", run.state() + "/policy").code, 4) << "the state at the change is not there";
}

// It begins where the settings changed, from the state that was kept there; and what learned beside no scorer at first says so.
TEST_F(LiveVerificationTest, AScorerThatIsLearnedFromARestartOnIsDerivedAgainFromThere) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  const auto third = Events().begin() + std::ssize(Events()) / 3;
  ASSERT_THAT(MakeEventsTopic(*kafka, "later.events", 2, {Events().begin(), third}), IsOk());
  LoopProcess run(*kafka, *redis, "later.events", Settings());
  ASSERT_THAT(run.Start(), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(static_cast<std::uint64_t>(third - Events().begin()), kPatienceMs), IsOk());
  ASSERT_EQ(run.Interrupt(), 130) << run.log();

  ASSERT_THAT(AppendEvents(*kafka, "later.events", {third, Events().end()}), IsOk());
  ASSERT_THAT(run.Start(With({}, ScorerSettings())), IsOk());
  ASSERT_THAT(run.WaitUntilLearned(Events().size(), kPatienceMs), IsOk());
  ASSERT_OK_AND_ASSIGN(const std::string address, ReadFile(run.state() + "/http_address"));
  ASSERT_OK_AND_ASSIGN(const std::string metrics, HttpGet(address, "/metrics", /*patience_ms=*/2'000));
  for (const char* line : {"fuseline_scorer_steps_total ", "fuseline_scorer_progressive_auc{model=\"weighted\",task=\"click\"} 0.",
                           "fuseline_scorer_versions_total{verdict=\"accepted\"} ", "fuseline_scorer_live_version "})
    EXPECT_THAT(metrics, HasSubstr(line));
  ASSERT_EQ(run.Interrupt(), 130) << run.log();
  ASSERT_OK_AND_ASSIGN(const json after, run.StoredStatus());
  const auto versions = after["scorer"]["versions"].get<std::uint64_t>();
  ASSERT_GT(versions, 2U);

  const auto verify = [&](std::uint64_t version, const std::string& option, const std::string& folder) {
    return Verify(version, {"--scorer", option, folder, "--set", "kafka.brokers=" + kafka->bootstrap_servers(),
                            "--set", "kafka.events_topic=later.events"});
  };
  for (const std::uint64_t version : {std::uint64_t{1}, versions}) {
    const Answer answer = verify(version, "--state", run.state());
    EXPECT_EQ(answer.code, 0) << "version " << version << ": " << answer.output << run.log();
    EXPECT_EQ(answer.last()["regimes"], 2) << answer.output;
    EXPECT_GT(answer.last()["base_trajectories"], 0) << answer.output;
  }
  EXPECT_EQ(verify(1, "--archive", run.state() + "/scorer").code, 4) << "the state at the change is not there";
}

// The topic of trajectories that a member makes of the events so far, and learners behind it.
class ApartVerificationTest : public LiveVerificationTest {
 protected:
  static void Sessionize(Member& member, const KafkaProcess& kafka) {
    ASSERT_THAT(member.Start(), IsOk());
    const auto is_done = [&](const json&) {
      return HasCommittedEverything(kafka, "verify.apart", "verify").value_or(false);
    };
    ASSERT_THAT(member.WaitUntil(is_done, kPatienceMs), IsOk());
    ASSERT_EQ(member.Interrupt(), 130) << member.log();
  }

  // Learns until nothing is left, and everything accepted is published. Returns the number of versions.
  static std::uint64_t Learn(ServedProcess& learn, std::uint64_t more_than, const std::vector<std::string>& arguments = {}) {
    EXPECT_THAT(learn.Start(arguments), IsOk());
    const auto done = [&](const json& status) {
      const json& learner = status["learner"];
      return learner["versions"] > more_than && status["idle"] == true &&
             learner["incumbent"] == status["live_version"];
    };
    EXPECT_THAT(learn.WaitUntil(done, kPatienceMs), IsOk());
    EXPECT_EQ(learn.Interrupt(), 130) << learn.log();
    const auto status = learn.StoredStatus();
    return status ? (*status)["learner"]["versions"].get<std::uint64_t>() : 0;
  }
};

TEST_F(ApartVerificationTest, BehindATopicOfTrajectoriesItIsTheSameAndANewcomerBeginsWhereAVersionEnded) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  const auto half = Events().begin() + std::ssize(Events()) / 2;
  ASSERT_THAT(MakeEventsTopic(*kafka, "verify.apart", 2, {Events().begin(), half}), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  Member member(*kafka, "verify.apart", "verify.trajectories", "verify",
                {kShortGap, kShortLateness});
  ASSERT_NO_FATAL_FAILURE(Sessionize(member, *kafka));
  std::vector<std::string> settings = Settings();
  settings.push_back("kafka.trajectories_topic=verify.trajectories");
  settings.push_back("redis.address=unix:" + redis->socket_path());
  for (const std::string& setting : ScorerSettings()) settings.push_back(setting);
  const auto verify = [&](std::uint64_t version, const std::string& option, const std::string& folder, bool scorer = false) {
    std::vector<std::string> arguments{option, folder, "--set", "kafka.brokers=" + kafka->bootstrap_servers(), "--set",
                                       "kafka.trajectories_topic=verify.trajectories"};
    if (scorer) arguments.push_back("--scorer");
    return Verify(version, std::move(arguments));
  };

  ServedProcess learn(*kafka, "learn", settings);
  const std::uint64_t versions = Learn(learn, 4);
  ASSERT_GT(versions, 4U) << learn.log();
  EXPECT_EQ(verify(versions, "--state", learn.state()).code, 0) << learn.log();
  EXPECT_EQ(verify(versions, "--archive", learn.state() + "/policy").code, 0);

  // When: another machine goes on, without that state.
  ASSERT_THAT(AppendEvents(*kafka, "verify.apart", {half, Events().end()}), IsOk());
  ASSERT_NO_FATAL_FAILURE(Sessionize(member, *kafka));
  ServedProcess newcomer(*kafka, "learn", settings);
  const std::uint64_t later = Learn(newcomer, versions);
  ASSERT_GT(later, versions);

  // Then: every version of it says so, and is derived again from the version that it began with.
  DiskFileSystem files;
  const Archive archive = Archive::OpenReadOnly(newcomer.state() + "/policy", files);
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion last, archive.Get(later));
  EXPECT_EQ(last.version.manifest.lineage().started_from(), versions);
  const Answer again = verify(later, "--archive", newcomer.state() + "/policy");
  EXPECT_EQ(again.code, 0) << again.output << newcomer.log();
  EXPECT_EQ(verify(later, "--state", newcomer.state()).code, 0);

  // And so does its scorer: its numbers go on behind the newest that was published.
  const Archive scorers = Archive::OpenReadOnly(learn.state() + "/scorer", files), later_scorers = Archive::OpenReadOnly(newcomer.state() + "/scorer", files);
  ASSERT_OK_AND_ASSIGN(const std::vector<std::uint64_t> numbers, later_scorers.List());
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion newest, later_scorers.Get(numbers.back()));
  const auto& figures = newest.version.manifest.metrics();
  ASSERT_TRUE(figures.contains("started_from")) << newest.version.manifest.metrics().size();
  const auto began = static_cast<std::uint64_t>(figures.at("started_from"));
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion before, scorers.Get(began));
  EXPECT_TRUE(before.version.manifest.gate().passed());
  EXPECT_EQ(verify(numbers.back(), "--state", newcomer.state(), /*scorer=*/true).code, 0) << newcomer.log();
  ASSERT_OK_AND_ASSIGN(const std::vector<std::uint64_t> first_numbers, scorers.List());
  EXPECT_EQ(verify(first_numbers.back(), "--state", learn.state(), /*scorer=*/true).code, 0) << learn.log();
}

// Only what came from an offset on is learned from, whatever its predecessors; a version says so, and is derived again from there.
TEST_F(ApartVerificationTest, ALearnerBeginsAtAnOffsetGoesOnThereAndIsDerivedAgain) {
  FUSELINE_KAFKA_OR_SKIP(KafkaProcess * kafka, SharedKafka());
  ASSERT_THAT(MakeEventsTopic(*kafka, "from.events", 2, Events()), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto redis, RedisProcess::Start());
  Member member(*kafka, "from.events", "from.trajectories", "verify", {kShortGap, kShortLateness});
  ASSERT_THAT(member.Start(), IsOk());
  const auto is_done = [&](const json&) { return HasCommittedEverything(*kafka, "from.events", "verify").value_or(false); };
  ASSERT_THAT(member.WaitUntil(is_done, kPatienceMs), IsOk());
  ASSERT_EQ(member.Interrupt(), 130) << member.log();
  std::vector<std::string> settings = Settings();
  settings.push_back("kafka.trajectories_topic=from.trajectories");
  settings.push_back("redis.address=unix:" + redis->socket_path());

  ServedProcess learn(*kafka, "learn", settings);
  const std::uint64_t versions = Learn(learn, 2, {"--from", "offset:100"});
  ASSERT_GT(versions, 2U) << learn.log();
  EXPECT_EQ(Learn(learn, 2), versions) << "it goes on where it stood: " << learn.log();

  DiskFileSystem files;
  ASSERT_OK_AND_ASSIGN(const ArchivedVersion last, Archive::OpenReadOnly(learn.state() + "/policy", files).Get(versions));
  EXPECT_THAT(last.version.manifest.lineage().inputs(0).input(), HasSubstr("topic from.trajectories, 2 partitions"));
  EXPECT_THAT(last.version.manifest.lineage().inputs(0).input(), HasSubstr(", from offset:100"));
  for (const auto& [option, folder] : {std::pair<std::string, std::string>("--state", learn.state()), {"--archive", learn.state() + "/policy"}}) {
    const Answer again = Verify(versions, {option, folder, "--set", "kafka.brokers=" + kafka->bootstrap_servers(),
                                           "--set", "kafka.trajectories_topic=from.trajectories"});
    EXPECT_EQ(again.code, 0) << option << again.output << learn.log();
  }
  ASSERT_THAT(learn.Start({"--from", "offset:7"}), IsOk());
  EXPECT_EQ(learn.Wait(), 4) << "this state began elsewhere: " << learn.log();
}

}  // namespace
}  // namespace fuseline::test
