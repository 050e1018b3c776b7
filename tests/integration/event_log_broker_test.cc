// The event log against a real broker that goes away: every event that was offered is in the topic once, or counted
// as dropped, and none is counted as written that is not there. Method: Apache Kafka, killed and restarted; the topic
// is read back.
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/kafka/consumer.h"
#include "fuseline/serving_bridge/event_log_kafka.h"
#include "fuseline/test_support/eventually.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline::test {
namespace {

v1::Event Click(int number) {
  const std::string id = std::to_string(number), user = "u" + std::to_string(number % 7);
  return MakeFeedbackEvent({.event_id = id,
                            .user_id = user,
                            .event_time_ms = 1'000 + number,
                            .request_id = "r",
                            .item_id = "i",
                            .kind = v1::Feedback::CLICK});
}

// The ids in the topic, as often as they stand there.
Result<std::multiset<std::string>> IdsIn(const KafkaProcess& kafka, const std::string& topic) {
  kafka::Connection connection;
  connection.bootstrap_servers = kafka.bootstrap_servers();
  FUSELINE_ASSIGN_OR_FAIL(const auto consumer, kafka::Consumer::Open(connection, {.topic = topic}));
  FUSELINE_FAIL_IF_ERROR(consumer->Assign({{0, kafka::StartPosition::Earliest()}}));
  FUSELINE_ASSIGN_OR_FAIL(const kafka::Watermarks marks, consumer->QueryWatermarks(0));
  std::multiset<std::string> ids;
  const bool whole = Eventually([&] {
    const auto batch = consumer->Consume(1'000, 100);
    if (!batch) return false;
    for (const kafka::Message& message : batch->messages()) {
      v1::Event event;
      ids.insert(event.ParseFromArray(message.value.data(), static_cast<int>(message.value.size())) ? event.event_id()
                                                                                                    : "not an event");
    }
    return static_cast<std::int64_t>(ids.size()) >= marks.high;
  });
  if (!whole) return Error(Code::kUnavailable, "the topic could not be read to its end");
  return ids;
}

class EventLogBrokerTest : public testing::Test {
 protected:
  void SetUp() override {
    FUSELINE_KAFKA_OR_SKIP(kafka_, KafkaProcess::Start());
    ASSERT_THAT(kafka_->CreateTopic("events", /*partitions=*/1), IsOk());
    KafkaSinkOptions options;
    options.connection.bootstrap_servers = kafka_->bootstrap_servers();
    options.producer.queue_messages = 500;
    ASSERT_OK_AND_ASSIGN(auto sink, OpenKafkaSink(options, log_));
    events_ = std::make_unique<EventLog>(EventLogOptions{.queue_events = 300}, std::move(sink), log_, metrics_);
  }
  // Offers events until `done`; returns those that found room.
  template <typename Done>
  void Offer(const Done& done) {
    EXPECT_TRUE(Eventually([&] {
      for (int i = 0; i < 50; ++i, ++offered_) {
        if (events_->TryPush(Click(offered_))) pushed_.insert(std::to_string(offered_));
      }
      return done();
    }));
  }

  Log log_{Severity::kError};
  Metrics metrics_;
  std::unique_ptr<KafkaProcess> kafka_;
  std::unique_ptr<EventLog> events_;
  std::multiset<std::string> pushed_;
  int offered_ = 0;
};

TEST_F(EventLogBrokerTest, ABrokerThatDiesAndComesBackGetsEveryEventOnce) {
  // given: it dies while events come, and they go on until everything is full
  Offer([&] { return events_->figures().written > 1'000; });
  kafka_->Kill();
  const std::uint64_t full = events_->figures().full;
  Offer([&] { return events_->figures().full > full + 1'000; });
  const EventLog::Figures away = events_->figures();
  EXPECT_GT(away.pending(), 0U);
  EXPECT_EQ(away.written + away.full + away.pending(), static_cast<std::uint64_t>(offered_));

  // when
  ASSERT_THAT(kafka_->Restart(), IsOk());
  Offer([&] { return events_->figures().written > away.written + 1'000; });
  ASSERT_THAT(events_->Close(/*patience_ms=*/120'000), IsOk());

  // then
  const EventLog::Figures figures = events_->figures();
  EXPECT_EQ(figures.offered, static_cast<std::uint64_t>(offered_));
  EXPECT_EQ(figures.written, pushed_.size());
  EXPECT_EQ(figures.dropped(), figures.full);
  EXPECT_EQ(figures.pending(), 0U);
  ASSERT_OK_AND_ASSIGN(const auto ids, IdsIn(*kafka_, "events"));
  EXPECT_EQ(ids, pushed_);
}

TEST_F(EventLogBrokerTest, WhatABrokerThatStaysAwayHadNotAcknowledgedIsNotCountedAsWritten) {
  // given
  Offer([&] { return events_->figures().written > 1'000; });
  kafka_->Kill();
  const std::uint64_t full = events_->figures().full;
  Offer([&] { return events_->figures().full > full + 1'000; });

  // when
  EXPECT_THAT(events_->Close(/*patience_ms=*/200), HasCode(Code::kUnavailable));

  // then: all are counted, and what may have arrived unheard bounds what is there
  const EventLog::Figures figures = events_->figures();
  EXPECT_EQ(figures.offered, static_cast<std::uint64_t>(offered_));
  EXPECT_EQ(figures.pending(), 0U);
  EXPECT_GT(figures.unacknowledged, 0U);
  EXPECT_GT(figures.unwritten, 0U);
  EXPECT_EQ(figures.written + figures.dropped(), static_cast<std::uint64_t>(offered_));
  events_.reset();
  ASSERT_THAT(kafka_->Restart(), IsOk());
  ASSERT_OK_AND_ASSIGN(const auto ids, IdsIn(*kafka_, "events"));
  EXPECT_GE(ids.size(), figures.written);
  EXPECT_LE(ids.size(), figures.written + figures.unacknowledged);
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), ids.size()) << "none is there twice";
}

}  // namespace
}  // namespace fuseline::test
