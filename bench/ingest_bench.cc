// What reading events costs: decoding alone, consuming alone, and both. The last is the ceiling of everything behind ingest.
// The broker is librdkafka's mock in this process, so its threads share the machine: compare the lines, not the absolutes.
#include <cstdio>
#include <cstdlib>
#include <string>

#include <benchmark/benchmark.h>

#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/mock_cluster.h"
#include "fuseline/kafka/producer.h"

namespace fuseline {
namespace {

constexpr std::int32_t kPartitions = 8;
constexpr std::int64_t kEventsPerPartition = 15'000;  // Under the 5 MiB that the mock keeps.
constexpr std::int64_t kBatchRecords = 2'000;
constexpr std::int64_t kEvents = kPartitions * kEventsPerPartition;

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
  return event.SerializeAsString();
}

template <typename T>
T Must(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::abort();
}

void Must(const Status& status) {
  if (!status.ok()) Must(Result<int>(tl::unexpected<Status>(status)));
}

kafka::MockCluster& FilledCluster() {
  static const auto cluster = [] {
    auto made = Must(kafka::MockCluster::Start(1));
    Must(made->CreateTopic("events", kPartitions));
    const auto producer = Must(kafka::Producer::Open(made->connection(), {}, nullptr));
    for (std::int64_t i = 0; i < kEvents; ++i) {
      const std::string bytes = EventBytes(i);
      kafka::OutgoingMessage message;
      message.topic = "events";
      message.partition = static_cast<std::int32_t>(i % kPartitions);
      message.value = bytes;
      Must(producer->ProduceOrWait(message, 60'000));
    }
    Must(producer->Flush(60'000));
    return made;
  }();
  return *cluster;
}

void BM_Decode(benchmark::State& state) {
  const std::string bytes = EventBytes(7);
  const EventLimits limits;
  for (auto _ : state) {
    ByteArena arena;  // A new one for each batch.
    EventView view;
    for (int i = 0; i < kBatchRecords; ++i) {
      if (!ViewEvent(bytes, limits, arena, &view).ok()) std::abort();
      benchmark::DoNotOptimize(view);
    }
  }
  state.SetItemsProcessed(state.iterations() * kBatchRecords);
  state.SetBytesProcessed(state.iterations() * kBatchRecords * static_cast<std::int64_t>(bytes.size()));
}
BENCHMARK(BM_Decode);

void BM_Consume(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    const auto consumer = Must(kafka::Consumer::Open(FilledCluster().connection(), {.topic = "events", .group_id = ""}));
    std::map<std::int32_t, kafka::StartPosition> starts;
    for (std::int32_t partition = 0; partition < kPartitions; ++partition) starts[partition] = {};
    Must(consumer->Assign(starts));
    std::int64_t read = std::ssize(Must(consumer->Consume(1, 10'000)).messages());  // Connected.
    state.ResumeTiming();
    while (read < kEvents) read += std::ssize(Must(consumer->Consume(2'000, 100)).messages());
    state.PauseTiming();
    Must(consumer->Close(10'000));
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * kEvents);
}
BENCHMARK(BM_Consume)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_ConsumeAndDecode(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    KafkaSourceOptions options;
    options.connection = FilledCluster().connection();
    options.consumer.topic = "events";
    options.max_future_ms = 1'000'000'000'000;
    const auto source = Must(KafkaSource::Open(std::move(options), nullptr));
    std::int64_t read = 0;
    state.ResumeTiming();
    while (read < kEvents) {
      if (const auto batch = Must(source->Next(100))) read += std::ssize(batch->records);
    }
    state.PauseTiming();
    Must(source->Close(10'000));
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * kEvents);
}
BENCHMARK(BM_ConsumeAndDecode)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace fuseline

BENCHMARK_MAIN();
