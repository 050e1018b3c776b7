// What garbage costs: a topic of valid events and one where every twentieth record is malformed, read, decoded and, as far as they are
// malformed, written to a dead-letter topic, all on a real broker. A batch is handed over only when its letters are durable. With
// `stage`, the whole stage: what was read is made into sessions, committed as by default.
//
// Usage: dead_letter_bench [rounds [stage]]. Both topics are read in turn; the ratio of the medians is printed.
#include <ctime>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/settings.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

constexpr std::int32_t kPartitions = 8;
constexpr std::int64_t kEvents = 1'000'000;
constexpr std::int64_t kMalformedEvery = 20;

void Must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message.c_str());
  std::exit(1);
}

template <typename T>
T Must(Result<T> result) {
  if (!result) Must(Status(result.error()));
  return *std::move(result);
}

std::string EventBytes(std::int64_t i) {  // About 200 bytes.
  const std::string number = std::to_string(1'000'000'000 + i);
  v1::Event event;
  event.set_event_id("event-0123456789-0123456789-0123456789-" + number);
  event.set_user_id("user-0123456789-" + number);
  event.set_event_time_ms(1'650'812'741'436 + i);
  event.mutable_feedback()->set_request_id("request-0123456789-0123456789-0123456789-" + number);
  event.mutable_feedback()->set_item_id("item-0123456789-" + number);
  event.mutable_feedback()->set_kind(v1::Feedback::WATCH);
  event.mutable_feedback()->set_watch_ms(40'000);
  event.mutable_feedback()->set_item_duration_ms(60'000);
  return event.SerializeAsString();
}

// Cut, damaged, without a field that must be there, text.
std::string MalformedBytes(std::int64_t i) {
  std::string bytes = EventBytes(i);
  switch (i / kMalformedEvery % 4) {
    case 0: bytes.resize(bytes.size() / 2); break;
    case 1: bytes[9] = '\xff'; break;
    case 2: bytes.erase(0, 2 + static_cast<std::size_t>(bytes[1])); break;
    default: bytes = "GET /events HTTP/1.1 " + bytes;
  }
  return bytes;
}

double Seconds(clockid_t clock) {
  timespec now{};
  FUSELINE_CHECK(clock_gettime(clock, &now) == 0);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Input {
  std::string topic;
  std::int64_t malformed = 0;
  std::vector<double> cpu_rates = {}, wall_rates = {};

  static double Median(std::vector<double> rates) {
    std::sort(rates.begin(), rates.end());
    return rates[rates.size() / 2];
  }
};

void Fill(const kafka::Connection& connection, Input* input, bool with_garbage) {
  const auto producer = Must(kafka::Producer::Open(connection, {}, nullptr));
  for (std::int64_t i = 0; i < kEvents; ++i) {
    const bool malformed = with_garbage && i % kMalformedEvery == 0;
    const std::string bytes = malformed ? MalformedBytes(i) : EventBytes(i);
    kafka::OutgoingMessage message;
    message.topic = input->topic;
    // Not in step with what is malformed: garbage in every partition.
    message.partition = static_cast<std::int32_t>(i / 7 % kPartitions);
    message.value = bytes;
    Must(producer->ProduceOrWait(message, 60'000));
    input->malformed += malformed ? 1 : 0;
  }
  Must(producer->Flush(60'000));
}

// Events → durable sessions, in a folder that goes with it.
class SessionMaker {
 public:
  SessionMaker() {
    v1::Sessionizer settings = DefaultSettings().sessionizer();
    settings.set_gap_ms(1'000'000'000);  // Nothing closes: closing costs the same for both.
    settings.set_max_outbox(10'000'000);
    sessionizer_ = Must(Sessionizer::Open(dir_ / "sessions", settings, clock_, log_, metrics_));
  }
  void Take(EventBatch&& batch) {
    Must(sessionizer_->Process(std::move(batch)));
    if (sessionizer_->NeedsCommit()) Must(sessionizer_->Commit());
  }
  void Finish() { Must(sessionizer_->Commit()); }

 private:
  test::TempDir dir_;
  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  std::unique_ptr<Sessionizer> sessionizer_;
};

void Read(const kafka::Connection& connection, Input* input, bool whole_stage) {
  std::optional<SessionMaker> sessions;
  if (whole_stage) sessions.emplace();
  const auto letters = Must(OpenDeadLetterTopic(connection, "dead"));
  Must(letters->Write({.source = "before the measurement, so that the producer is connected"}));
  Must(letters->Flush(60'000));
  KafkaSourceOptions options;
  options.connection = connection;
  options.consumer.topic = input->topic;
  const double cpu_s = Seconds(CLOCK_PROCESS_CPUTIME_ID), wall_s = Seconds(CLOCK_MONOTONIC);
  const auto source = Must(KafkaSource::Open(std::move(options), letters.get()));
  std::int64_t read = 0, malformed = 0;
  while (read < kEvents) {
    auto batch = Must(source->Next(100));
    if (!batch) continue;
    read += std::ssize(batch->records);
    malformed += std::count_if(batch->records.begin(), batch->records.end(),
                               [](const Record& record) { return record.fate == RecordFate::kMalformed; });
    if (sessions) sessions->Take(*std::move(batch));
  }
  if (sessions) sessions->Finish();
  input->cpu_rates.push_back(static_cast<double>(kEvents) / (Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_s));
  input->wall_rates.push_back(static_cast<double>(kEvents) / (Seconds(CLOCK_MONOTONIC) - wall_s));
  FUSELINE_CHECK(malformed == input->malformed);
  Must(source->Close(10'000));
}

void Main(int rounds, bool whole_stage) {
  const auto broker = Must(test::KafkaProcess::Start());
  const kafka::Connection connection{.bootstrap_servers = broker->bootstrap_servers()};
  Must(broker->CreateTopic("dead", kPartitions));
  Input clean{.topic = "clean"}, garbage{.topic = "garbage"};
  for (Input* input : {&clean, &garbage}) {
    Must(broker->CreateTopic(input->topic, kPartitions));
    Fill(connection, input, input == &garbage);
  }
  for (int round = 0; round < rounds; ++round) {
    for (Input* input : {&clean, &garbage}) Read(connection, input, whole_stage);
  }
  std::printf("%-10s %18s %18s  (medians of %d rounds)\n", "", "events/s of wall", "events/s of CPU", rounds);
  for (const Input* input : {&clean, &garbage}) {
    std::printf("%-10s %18.0f %18.0f  %ld malformed of %ld\n", input->topic.c_str(), Input::Median(input->wall_rates),
                Input::Median(input->cpu_rates), input->malformed, kEvents);
  }
  std::printf("garbage / clean = %.2f of wall, %.2f of CPU\n", Input::Median(garbage.wall_rates) / Input::Median(clean.wall_rates),
              Input::Median(garbage.cpu_rates) / Input::Median(clean.cpu_rates));
}

}  // namespace
}  // namespace fuseline

int main(int argc, char** argv) { fuseline::Main(argc > 1 ? std::atoi(argv[1]) : 5, argc > 2); }
