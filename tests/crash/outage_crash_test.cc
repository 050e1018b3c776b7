// Proven of `fuseline sessionize`: the broker is out of reach for a while, and producers, which still reach it, go on at full rate. The
// member's memory stays as it is, it reads what has gathered faster than more of it comes, and says what a member says that was
// never cut off. Method: a real broker whose second listener, the member's, is behind a proxy that becomes a black hole. Of the stream
// the sessions can be counted by hand: everybody has one. FUSELINE_OUTAGE_S=300 and FUSELINE_OUTAGE_RATE=25000 make it the outage
// of bench/BENCHMARKS.md; it then wants some 5 GB of disk under TMPDIR, and twenty minutes.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/core/stage.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/test_support/matchers.h"
#include "fuseline/test_support/tcp_proxy.h"
#include "said_trajectories.h"
#include "trajectories_harness.h"

namespace fuseline::test {
namespace {

using std::chrono::steady_clock;

constexpr int kPartitions = 4;
constexpr std::int64_t kStartMs = 1'704'067'200'000;
constexpr std::int64_t kGapMs = 5'000;
constexpr std::int64_t kLatenessMs = 1'000;
constexpr std::int64_t kPatienceMs = 60'000;
constexpr std::uint64_t kEventsOfASession = 20;  // On average.

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* given = std::getenv(name);
  return given == nullptr ? otherwise : std::strtoull(given, nullptr, 10);
}

// Events a second, of event time too, so that as many sessions are open at all times. Each second has users of its own, who come
// back for nothing: who has one event has one session.
class Flow {
 public:
  Flow(const KafkaProcess& kafka, std::string topic, std::uint64_t rate)
      : rate_(rate), stage_("flow", [this, &kafka, topic = std::move(topic)](std::stop_token stop) { return Write(kafka, topic, stop); }) {}

  std::uint64_t written() const { return written_; }
  std::uint64_t bytes() const { return bytes_; }
  bool running() const { return !stage_.finished(); }
  std::uint64_t users_per_second() const { return rate_ / kEventsOfASession; }
  // Ends it behind a full second, and then the sessions. Returns how many there were.
  Result<std::uint64_t> End() {
    stage_.RequestStop();
    FUSELINE_FAIL_IF_ERROR(stage_.Join());
    return written_ / rate_ * users_per_second();
  }

 private:
  Status Write(const KafkaProcess& kafka, const std::string& topic, std::stop_token stop) {
    FUSELINE_ASSIGN_OR_RETURN(const auto producer, kafka::Producer::Open(ConnectionTo(kafka), {.linger_ms = 20}, nullptr));
    Random random(1, "outage", 0);
    const auto begin = steady_clock::now();
    while (!stop.stop_requested() || written_ % rate_ != 0) {
      const auto due = static_cast<std::uint64_t>(std::chrono::duration<double>(steady_clock::now() - begin).count() *
                                                  static_cast<double>(rate_));
      while (written_ < due && (!stop.stop_requested() || written_ % rate_ != 0)) {
        FUSELINE_RETURN_IF_ERROR(Produce(*producer, topic, EventOf(written_, random)));
        ++written_;
      }
      producer->Poll(0);
      SleepFor({}, 2);
    }
    for (std::uint64_t partition = 0; partition < kPartitions; ++partition) {
      v1::Event event = EventOf(written_ / rate_ * rate_ + partition, random);  // Of new users, of each partition.
      event.set_event_time_ms(event.event_time_ms() + 3'600'000);
      FUSELINE_RETURN_IF_ERROR(Produce(*producer, topic, event));
    }
    return producer->Flush(kPatienceMs);
  }

  static Status Produce(kafka::Producer& producer, const std::string& topic, const v1::Event& event) {
    const std::string bytes = event.SerializeAsString();
    kafka::OutgoingMessage message;
    message.topic = topic;
    message.key = event.user_id();
    message.value = bytes;
    message.partition = static_cast<std::int32_t>(event.user_id().back() - '0') % kPartitions;
    message.timestamp_ms = event.event_time_ms();
    return producer.ProduceOrWait(message, kPatienceMs);
  }

  // 212 bytes on average, by long ids.
  v1::Event EventOf(std::uint64_t number, Random& random) {
    const std::uint64_t second = number / rate_, of_second = number % rate_;
    const bool is_first = of_second < users_per_second();
    const std::uint64_t user = second * users_per_second() + (is_first ? of_second : random.NextBelow(users_per_second()));
    v1::Event event;
    event.set_event_id(std::string(67, 'e') + std::to_string(1'000'000'000'000 + number));
    event.set_user_id("user-" + std::to_string(1'000'000'000 + user));
    event.set_event_time_ms(kStartMs + static_cast<std::int64_t>(number * 1'000 / rate_ + random.NextBelow(kLatenessMs / 2)));
    const std::string request = "request-of-user-" + std::to_string(1'000'000'000 + user) + '-';
    if (is_first || random.NextBelow(4) == 0) {
      v1::Exposure& exposure = *event.mutable_exposure();
      exposure.set_request_id(request + (is_first ? "0" : std::to_string(number)));
      exposure.set_surface("feed");
      exposure.set_policy_version(7);
      for (std::uint32_t i = 0; i < 4; ++i) {
        v1::ExposedItem& item = *exposure.add_items();
        item.set_item_id("item-with-a-long-name-" + std::to_string(user + i));
        item.set_position(i);
        item.set_fused_score(0.5f);
      }
    } else {
      v1::Feedback& feedback = *event.mutable_feedback();
      feedback.set_request_id(request + "0");
      feedback.set_item_id("item-with-a-long-name-" + std::to_string(user + random.NextBelow(4)));
      feedback.set_kind(v1::Feedback::WATCH);
      feedback.set_watch_ms(static_cast<std::int64_t>(random.NextBelow(60'000)));
      feedback.set_item_duration_ms(60'000);
    }
    bytes_ += event.ByteSizeLong();
    return event;
  }

  const std::uint64_t rate_;
  std::atomic<std::uint64_t> written_ = 0, bytes_ = 0;
  Stage stage_;
};

// What a member shows of itself while something goes on.
struct Sight {
  std::uint64_t read = 0;  // Records that it has committed, on all of its partitions.
  std::int64_t resident_kib = 0;
};

Sight Look(Member& member) {
  const auto status = member.Ask();
  const bool answered = status && status->contains("accounting");
  return {answered ? status->at("accounting").value("read", std::uint64_t{0}) : 0, ResidentKiB(member.pid())};
}

struct Watched {
  bool held = false;
  std::int64_t resident_most_kib = 0;
  double seconds = 0;
};

// Looks again and again until `ends` says so; false after `patience_s` or when the member has ended.
template <typename Ends>
Watched Watch(Member& member, double patience_s, Ends ends) {
  Watched watched;
  const auto begin = steady_clock::now();
  while (member.running() && !watched.held && watched.seconds < patience_s) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const Sight sight = Look(member);
    watched.resident_most_kib = std::max(watched.resident_most_kib, sight.resident_kib);
    watched.seconds = std::chrono::duration<double>(steady_clock::now() - begin).count();
    watched.held = ends(sight, watched.seconds);
  }
  return watched;
}

Member SessionsOf(const KafkaProcess& kafka, const std::string& trajectories, std::vector<std::string> settings = {}) {
  settings.insert(settings.end(), {"sessionizer.gap_ms=" + std::to_string(kGapMs), "sessionizer.lateness_ms=" + std::to_string(kLatenessMs),
                                   "ingest.max_future_ms=" + std::to_string(kLatenessMs), "sessionizer.cut_every_ms=0", "sessionizer.commit_interval_ms=250",
                                   "kafka.session_timeout_ms=2000"});
  return Member(kafka, "away.events", trajectories, trajectories, std::move(settings));
}

// All that lies in a topic that holds `count` trajectories.
void ReadAll(const KafkaProcess& kafka, const std::string& topic, std::uint64_t count, std::unique_ptr<TrajectoryTopic>& said) {
  auto opened = TrajectoryTopic::Open(ConnectionTo(kafka), topic, kPartitions);
  ASSERT_THAT(opened, IsOk());
  said = std::move(*opened);
  ASSERT_TRUE(Eventually([&] {
    EXPECT_THAT(said->Poll(/*timeout_ms=*/100), IsOk());
    return said->trajectories() >= count;
  })) << said->trajectories() << " of " << count << " in " << topic;
  for (int look = 0; look < 5; ++look) ASSERT_THAT(said->Poll(/*timeout_ms=*/100), IsOk());  // None more.
  EXPECT_EQ(said->trajectories(), count);
  EXPECT_EQ(said->gaps(), 0u);
  EXPECT_EQ(said->contradictions(), 0u);
}

TEST(OutageCrashTest, AnOutageUnderFullInputCostsNoMemoryAndIsCaughtUpWith) {
  const std::uint64_t outage_s = FromEnvironment("FUSELINE_OUTAGE_S", 5), rate = FromEnvironment("FUSELINE_OUTAGE_RATE", 10'000);
  const double patience_s = 120 + 2 * static_cast<double>(outage_s);
  ASSERT_OK_AND_ASSIGN(const auto proxy, TcpProxy::Start(/*seed=*/1));
  FUSELINE_KAFKA_OR_SKIP(const std::unique_ptr<KafkaProcess> kafka, KafkaProcess::StartBehind(*proxy));
  ASSERT_THAT(MakeEventsTopic(*kafka, "away.events", kPartitions, {}), IsOk());
  Member member = SessionsOf(*kafka, "away.trajectories", {"kafka.brokers=127.0.0.1:" + std::to_string(proxy->port())});
  ASSERT_THAT(member.Start(), IsOk());
  ASSERT_THAT(member.WaitUntilOwns(kPartitions), IsOk());
  Flow flow(*kafka, "away.events", rate);
  const auto has_read_all_but = [&](std::uint64_t behind_most) {
    return [&flow, behind_most](const Sight& sight, double) { return sight.read > 0 && sight.read + behind_most >= flow.written(); };
  };

  // Until as many sessions close as begin.
  const double warm_s = static_cast<double>(kGapMs + kLatenessMs) / 1'000 + 3;
  const Watched before = Watch(member, patience_s, [&](const Sight&, double seconds) { return seconds >= warm_s; });
  ASSERT_TRUE(Watch(member, patience_s, has_read_all_but(rate)).held) << member.log();
  proxy->Set({.holds = true});
  const std::uint64_t read_before = Look(member).read;
  const Watched outage =
      Watch(member, patience_s, [&](const Sight&, double seconds) { return seconds >= static_cast<double>(outage_s); });
  ASSERT_TRUE(outage.held) << member.log();

  proxy->Set({});
  const std::uint64_t written_at_return = flow.written();
  double began_s = -1;
  const Watched catching_up = Watch(member, patience_s, [&, done = has_read_all_but(rate / 2)](const Sight& sight, double seconds) {
    if (began_s < 0 && sight.read > read_before + rate / 2) began_s = seconds;
    return done(sight, seconds);
  });
  const std::uint64_t written_when_done = flow.written();
  ASSERT_TRUE(catching_up.held) << member.log();
  ASSERT_TRUE(flow.running()) << "nothing was coming any more";
  ASSERT_OK_AND_ASSIGN(const std::uint64_t sessions, flow.End());
  ASSERT_TRUE(HasReadAll(*kafka, member, "away.events", "away.trajectories")) << member.log();
  ASSERT_EQ(member.Interrupt(), 130) << member.log();

  const auto caught_up = static_cast<double>(written_when_done - read_before);
  const auto came = static_cast<double>(written_when_done - written_at_return);
  std::cout << std::fixed << std::setprecision(1) << flow.written() << " events of " << flow.bytes() / flow.written() << " bytes, "
            << rate << "/s asked; out of reach for " << outage.seconds << " s, " << written_at_return - read_before
            << " events behind; caught up " << catching_up.seconds << " s later (the first of it was committed after " << began_s << " s): "
            << caught_up / catching_up.seconds << "/s read while " << came / catching_up.seconds << "/s came, "
            << caught_up / std::max(came, 1.0) << " times as many. Resident at most: " << before.resident_most_kib / 1024 << " MiB before, "
            << outage.resident_most_kib / 1024 << " in the outage, " << catching_up.resident_most_kib / 1024 << " in the catch-up\n";
  EXPECT_LT(outage.resident_most_kib, before.resident_most_kib + 32 * 1024);
  EXPECT_LT(catching_up.resident_most_kib, before.resident_most_kib + 256 * 1024);  // The client's queue, and what is closed at once.

  Member undisturbed = SessionsOf(*kafka, "away.expected");
  ASSERT_THAT(undisturbed.Start(), IsOk());
  ASSERT_TRUE(Watch(undisturbed, patience_s, has_read_all_but(0)).held) << undisturbed.log();
  ASSERT_TRUE(HasReadAll(*kafka, undisturbed, "away.events", "away.expected")) << undisturbed.log();
  ASSERT_EQ(undisturbed.Interrupt(), 130) << undisturbed.log();
  std::unique_ptr<TrajectoryTopic> said, expected;
  ASSERT_NO_FATAL_FAILURE(ReadAll(*kafka, "away.trajectories", sessions, said));
  ASSERT_NO_FATAL_FAILURE(ReadAll(*kafka, "away.expected", sessions, expected));
  EXPECT_TRUE(said->said() == expected->said());
  std::cout << said->trajectories() << " trajectories, " << said->repeats() << " repeats dropped\n";
}

}  // namespace
}  // namespace fuseline::test
