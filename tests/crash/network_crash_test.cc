// Proven of `fuseline sessionize` behind a network that delays, throttles, breaks and swallows, while events flow: the topic of
// trajectories holds what a member writes that nothing disturbs, each once after repeats are dropped, byte for byte; no outage ends
// the member; and one that comes back from a black hole, with what it wrote into it, meets the member that took its partitions.
// Method: a real broker with a second listener behind a proxy (test_support/tcp_proxy.h), which only the member in question uses.
// Afterwards an undisturbed member reads the same events. The order and the length of the faults are drawn from a printed seed.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/core/stage.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/tcp_proxy.h"
#include "trajectories_harness.h"

namespace fuseline::test {
namespace {

constexpr std::size_t kEvents = 25'000;
constexpr int kPartitions = 2;
constexpr std::int64_t kSessionTimeoutMs = 1'000;
constexpr std::int64_t kRequestTimeoutMs = 1'000;  // Short, so that requests begin in a fault and give up there.
constexpr std::int64_t kPatienceMs = 60'000;

class NetworkCrashTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    seed_ = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    if (const char* given = std::getenv("FUSELINE_NETWORK_SEED")) seed_ = std::strtoull(given, nullptr, 10);
    std::cout << "seed of the faults (FUSELINE_NETWORK_SEED): " << seed_ << '\n';
    auto proxy = TcpProxy::Start(seed_);
    ASSERT_THAT(proxy, IsOk());
    proxy_ = std::move(*proxy).release();
    FUSELINE_KAFKA_OR_SKIP(kafka_, KafkaProcess::StartBehind(*proxy_));
    auto events = SimulatedEvents(/*seed=*/13, kEvents);
    ASSERT_THAT(events, IsOk());
    events_ = new std::vector<v1::Event>(std::move(*events));
  }
  static void TearDownTestSuite() {
    kafka_.reset();
    delete std::exchange(proxy_, nullptr);
  }
  void SetUp() override {
    if (!kafka_) GTEST_SKIP() << "not proven here: no broker";
  }
  void TearDown() override {
    if (proxy_ != nullptr) proxy_->Set({});
  }

  static Member Disturbed(const std::string& name, const std::string& group, std::int64_t session_timeout_ms = kSessionTimeoutMs) {
    return Member(*kafka_, name + ".events", name + ".trajectories", group,
                  {"kafka.brokers=127.0.0.1:" + std::to_string(proxy_->port()),
                   "kafka.connect_timeout_ms=" + std::to_string(kRequestTimeoutMs),
                   "kafka.session_timeout_ms=" + std::to_string(session_timeout_ms)});
  }

  // Some 500 events a second by the direct way, until they are all written.
  static Status Flow(const std::string& topic, std::stop_token stop, const std::atomic<bool>& hurries) {
    FUSELINE_ASSIGN_OR_RETURN(const auto producer, kafka::Producer::Open(ConnectionTo(*kafka_), {}, nullptr));
    for (std::size_t i = 0; i < events_->size() && !stop.stop_requested(); ++i) {
      const v1::Event& event = (*events_)[i];
      const std::string bytes = event.SerializeAsString();
      kafka::OutgoingMessage message;
      message.topic = topic;
      message.key = event.user_id();
      message.value = bytes;
      message.timestamp_ms = event.event_time_ms();
      FUSELINE_RETURN_IF_ERROR(producer->ProduceOrWait(message, kPatienceMs));
      if (i % 15 != 14 || hurries) continue;
      producer->Poll(0);
      SleepFor(stop, 30);
    }
    return producer->Flush(kPatienceMs);
  }

  // What lies in the topic is what a member writes that reads the same events by the direct way.
  static void ExpectUndisturbed(const std::string& name) {
    Member member(*kafka_, name + ".events", name + ".expected", name + "-undisturbed");
    ASSERT_THAT(member.Start(), IsOk());
    ASSERT_TRUE(HasReadAll(*kafka_, member, name + ".events", name + "-undisturbed")) << member.log();
    ASSERT_EQ(member.Interrupt(), 130) << member.log();
    ASSERT_OK_AND_ASSIGN(const StoredTopic expected_topic, ReadTopic(*kafka_, name + ".expected"));
    ASSERT_OK_AND_ASSIGN(const StoredTopic topic, ReadTopic(*kafka_, name + ".trajectories"));
    const TakenTrajectories expected = TakeAll(expected_topic), taken = TakeAll(topic);
    EXPECT_THAT(expected.faults, testing::IsEmpty());
    EXPECT_THAT(taken.faults, testing::IsEmpty());
    std::size_t count = 0, wanted = 0;
    for (const auto& [partition, bytes] : taken.bytes) count += bytes.size();
    for (const auto& [partition, bytes] : expected.bytes) wanted += bytes.size();
    EXPECT_EQ(count, wanted);
    EXPECT_GT(wanted, 200u);
    EXPECT_TRUE(taken.bytes == expected.bytes);
    std::cout << name << ": " << count << " trajectories, " << taken.repeats << " repeats dropped; " << proxy_->counts().connections
              << " connections until now, " << proxy_->counts().cut << " of them cut\n";
  }

  static std::uint64_t seed_;
  static TcpProxy* proxy_;
  static std::unique_ptr<KafkaProcess> kafka_;
  static std::vector<v1::Event>* events_;
};
std::uint64_t NetworkCrashTest::seed_ = 0;
TcpProxy* NetworkCrashTest::proxy_ = nullptr;
std::unique_ptr<KafkaProcess> NetworkCrashTest::kafka_;
std::vector<v1::Event>* NetworkCrashTest::events_ = nullptr;


void Last(std::uint64_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST_F(NetworkCrashTest, WhateverTheNetworkDoesEachTrajectoryIsSaidOnce) {
  ASSERT_THAT(MakeEventsTopic(*kafka_, "alone.events", kPartitions, {}), IsOk());
  Member member = Disturbed("alone", "alone");
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_THAT(member.WaitUntilOwns(kPartitions), IsOk());
  std::atomic<bool> hurries = false;
  Stage flow("flow", [&](std::stop_token stop) { return Flow("alone.events", stop, hurries); });

  Random random(seed_, "faults", 0);
  const auto between = [&](std::uint64_t least, std::uint64_t most) { return least + random.NextBelow(most - least + 1); };
  // Until the member knows that the group drops it; the broker, which heard of it last at the same time, does then, too.
  const auto until_dropped = [&] {
    const std::size_t before = CountOf(member.log(), "ingest.partitions_lost");
    return Eventually([&] { return !member.running() || CountOf(member.log(), "ingest.partitions_lost") > before; }, kPatienceMs);
  };
  std::vector<std::pair<std::string, std::function<bool()>>> faults = {
      {"delayed", [&] {
         proxy_->Set({.delay_ms = 20, .jitter_ms = 80});
         Last(between(500, 1'000));
         return true;
       }},
      {"throttled", [&] {
         proxy_->Set({.bytes_per_s = 100'000});
         Last(between(500, 1'000));
         return true;
       }},
      {"cut again and again", [&] {
         proxy_->Set({.delay_ms = 3, .jitter_ms = 10});
         for (int cut = 0; cut < 8; ++cut) {
           Last(between(100, 400));
           proxy_->Cut();
         }
         return true;
       }},
      {"held for a moment", [&] {
         proxy_->Set({.holds = true});
         Last(between(100, kSessionTimeoutMs / 2));
         return true;
       }},
      {"held until dropped", [&] {
         proxy_->Set({.holds = true});
         const bool dropped = until_dropped();
         Last(between(kSessionTimeoutMs / 2, kSessionTimeoutMs));
         return dropped;
       }},
      {"held until dropped, then cut", [&] {
         proxy_->Set({.holds = true});
         const bool dropped = until_dropped();
         Last(between(kSessionTimeoutMs / 2, kSessionTimeoutMs));
         proxy_->Cut();
         return dropped;
       }},
      {"refused", [&] {
         proxy_->Set({.refuses = true});
         proxy_->Cut();
         Last(between(kSessionTimeoutMs / 2, 2 * kSessionTimeoutMs));
         return true;
       }},
  };
  for (std::size_t i = faults.size(); i > 1; --i) std::swap(faults[i - 1], faults[random.NextBelow(i)]);
  for (const auto& [name, fault] : faults) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(fault()) << name;
    const std::uint64_t ingested = Ingested(member);
    proxy_->Set({});
    const auto back = std::chrono::steady_clock::now();
    // The next fault meets a member that works.
    ASSERT_TRUE(Eventually([&] { return !member.running() || Ingested(member) > ingested + 50; }, kPatienceMs)) << name << '\n' << member.log();
    ASSERT_TRUE(member.running()) << name << '\n' << member.log();
    std::cout << name << ": " << std::chrono::duration<double>(back - begin).count() << " s, read on after "
              << std::chrono::duration<double>(std::chrono::steady_clock::now() - back).count() << " s\n";
  }

  hurries = true;
  ASSERT_THAT(flow.Join(), IsOk());
  ASSERT_TRUE(HasReadAll(*kafka_, member, "alone.events", "alone")) << member.log();
  EXPECT_EQ(member.Interrupt(), 130) << member.log();
  ASSERT_NO_FATAL_FAILURE(ExpectUndisturbed("alone"));
}

TEST_F(NetworkCrashTest, WhoComesBackFromABlackHoleOnlyRepeatsWhatItsSuccessorSaid) {
  ASSERT_THAT(MakeEventsTopic(*kafka_, "pair.events", kPartitions, {}), IsOk());
  Member lost = Disturbed("pair", "pair");
  Member successor(*kafka_, "pair.events", "pair.trajectories", "pair");
  ASSERT_THAT(lost.Start(), IsOk());
  ASSERT_THAT(lost.WaitUntilOwns(kPartitions), IsOk());
  std::atomic<bool> hurries = false;
  Stage flow("flow", [&](std::stop_token stop) { return Flow("pair.events", stop, hurries); });
  ASSERT_THAT(successor.Start(), IsOk());

  Random random(seed_, "black holes", 0);
  for (int round = 0; round < 3; ++round) {
    ASSERT_THAT(successor.WaitUntilOwns(1), IsOk());
    ASSERT_THAT(lost.WaitUntilOwns(1), IsOk());
    const std::uint64_t ingested = Ingested(lost);
    ASSERT_TRUE(Eventually([&] { return Ingested(lost) > ingested; })) << lost.log();  // It has something to say.
    proxy_->Set({.holds = true});
    ASSERT_THAT(successor.WaitUntilOwns(kPartitions), IsOk());
    Last(random.NextBelow(500));
    if (random.NextBelow(2) == 0) proxy_->Cut();
    proxy_->Set({});
  }
  ASSERT_TRUE(lost.running()) << lost.log();

  hurries = true;
  ASSERT_THAT(flow.Join(), IsOk());
  ASSERT_TRUE(HasReadAll(*kafka_, successor, "pair.events", "pair")) << successor.log();
  lost.Kill();
  EXPECT_EQ(successor.Interrupt(), 130) << successor.log();
  ASSERT_NO_FATAL_FAILURE(ExpectUndisturbed("pair"));
}

// The group forms, since its answers may be late; where to begin is asked with a deadline, which no answer keeps.
TEST_F(NetworkCrashTest, ATakeoverThatNobodyAnswersInTimeIsTriedAgainUntilSomebodyDoes) {
  ASSERT_THAT(MakeEventsTopic(*kafka_, "slow.events", kPartitions, *events_), IsOk());
  Member predecessor(*kafka_, "slow.events", "slow.trajectories", "slow");
  ASSERT_THAT(predecessor.Start(), IsOk());
  ASSERT_THAT(predecessor.WaitUntilOwns(kPartitions), IsOk());
  Member heir = Disturbed("slow", "slow", /*session_timeout_ms=*/5'000);
  ASSERT_THAT(heir.Start(), IsOk());
  ASSERT_THAT(heir.WaitUntilOwns(1), IsOk());

  proxy_->Set({.delay_ms = kRequestTimeoutMs * 2 / 3});  // Each way.
  ASSERT_EQ(predecessor.Interrupt(), 130) << predecessor.log();
  const auto unanswered = [&] { return CountOf(heir.log(), "ingest.source_unavailable"); };
  ASSERT_TRUE(Eventually([&] { return !heir.running() || unanswered() >= 2; })) << heir.log();
  ASSERT_TRUE(heir.running()) << heir.log();
  proxy_->Set({});

  ASSERT_TRUE(HasReadAll(*kafka_, heir, "slow.events", "slow")) << heir.log();
  EXPECT_EQ(heir.Interrupt(), 130) << heir.log();
  ASSERT_NO_FATAL_FAILURE(ExpectUndisturbed("slow"));
}

}  // namespace
}  // namespace fuseline::test
