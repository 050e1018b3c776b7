// What a durable session costs, in CPU time of one core, beside the ceiling and the obvious way to do it:
//   read      consume from a broker and parse: the ceiling of everything behind ingest
//   sessions  decoded batches → Sessionizer → committed sessions, acknowledged as a learner would
//   pipeline  the two together: topic → KafkaSource → Sessionizer → committed sessions
//   naive     decoded batches → Get and Put of the user's whole window for each event, synced as often
// One run does all of them in turn, round after round, and prints medians; CPU time is the whole process's, threads of
// librdkafka and RocksDB included, the broker's (a process of its own) not. `sessionizer_bench [ROUNDS [NAME …]]`.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <rocksdb/db.h>

#include "fuseline/core/check.h"
#include "fuseline/core/random.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/proto/settings.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

constexpr std::int32_t kPartitions = 8;
constexpr std::int64_t kEvents = 400'000;
constexpr std::int64_t kNaiveEvents = 40'000;  // The first ones: its cost per event grows with the windows.
constexpr std::size_t kUsers = 100'000;
constexpr std::int64_t kSpacingMs = 20;  // Of event time between two events: 2 h 13 min in all, so that sessions close on the way.
constexpr std::size_t kBatchRecords = 2000;

template <typename T>
T Must(Result<T> result) {
  if (result) return std::move(*result);
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::abort();
}

void Must(const Status& status) {
  if (!status.ok()) Must(Result<int>(tl::unexpected<Status>(status)));
}

void Must(const rocksdb::Status& status) { FUSELINE_CHECK(status.ok()); }

struct EncodedEvent {
  std::int32_t partition = 0;
  std::string bytes;
};

// Users drawn by zipf(1.0); after a silence a request of three items, then with equal chances a request or, three times as
// often, feedback on one of the last request's items. Ids are padded so that an event has 212 bytes on average.
class Workload {
 public:
  Workload() : random_(1, "sessionizer_bench", 0), users_(kUsers) {
    double sum = 0;
    for (std::size_t rank = 1; rank <= kUsers; ++rank) cumulative_.push_back(sum += 1.0 / static_cast<double>(rank));
  }

  std::vector<EncodedEvent> Make() {
    std::vector<EncodedEvent> events;
    for (std::int64_t i = 0; i < kEvents; ++i) {
      const std::size_t user = DrawUser();
      events.push_back({static_cast<std::int32_t>(user % kPartitions), EventOf(user, i).SerializeAsString()});
    }
    return events;
  }

 private:
  struct User {
    std::int64_t request = -1;  // The last one.
    std::int64_t last_ms = 0;
  };

  std::size_t DrawUser() {
    const double draw = random_.NextUniform(0, cumulative_.back());
    return static_cast<std::size_t>(std::upper_bound(cumulative_.begin(), cumulative_.end(), draw) - cumulative_.begin()) % kUsers;
  }

  static std::string Id(const char* prefix, std::int64_t number, std::size_t width) {
    const std::string digits = std::to_string(number);
    return prefix + std::string(width - digits.size(), '0') + digits;
  }
  static std::string ItemId(std::int64_t request, std::int64_t item) { return Id("item-", request * 3 + item, 27); }

  v1::Event EventOf(std::size_t number, std::int64_t i) {
    User& user = users_[number];
    v1::Event event;
    event.set_event_id(Id("event-", i, 42));
    event.set_user_id(Id("user-", static_cast<std::int64_t>(number), 20));
    event.set_event_time_ms(1'650'812'741'436 + i * kSpacingMs);
    const bool returns = user.request < 0 || event.event_time_ms() - user.last_ms > 1'800'000;
    if (returns || random_.NextBelow(4) == 0) {
      user.request = i;
      FillExposure(i, event.mutable_exposure());
    } else {
      v1::Feedback& feedback = *event.mutable_feedback();
      feedback.set_request_id(Id("request-", user.request, 36));
      feedback.set_item_id(ItemId(user.request, static_cast<std::int64_t>(random_.NextBelow(3))));
      feedback.set_kind(v1::Feedback::WATCH);
      feedback.set_watch_ms(40'000);
      feedback.set_item_duration_ms(60'000);
    }
    user.last_ms = event.event_time_ms();
    return event;
  }

  void FillExposure(std::int64_t request, v1::Exposure* exposure) {
    exposure->set_request_id(Id("request-", request, 36));
    exposure->set_surface("feed");
    exposure->set_policy_version(7);
    for (std::int64_t i = 0; i < 3; ++i) {
      v1::ExposedItem& item = *exposure->add_items();
      item.set_item_id(ItemId(request, i));
      item.set_position(static_cast<std::uint32_t>(i));
      item.set_fused_score(0.5f);
    }
  }

  Random random_;
  std::vector<double> cumulative_;
  std::vector<User> users_;
};

// The first `count` events as ingest hands them over.
std::vector<EventBatch> Decoded(const std::vector<EncodedEvent>& events, std::int64_t count) {
  std::vector<EventBatch> batches;
  std::map<std::int32_t, EventBatch> filling;
  const auto hand_over = [&](EventBatch& batch) {
    EventBatch next{.partition = batch.partition, .records = {}, .next_offset = batch.next_offset, .bytes = {}};
    batches.push_back(std::exchange(batch, std::move(next)));
  };
  for (std::int64_t i = 0; i < count; ++i) {
    const EncodedEvent& event = events[static_cast<std::size_t>(i)];
    EventBatch& batch = filling[event.partition];
    batch.partition = event.partition;
    Record& record = batch.records.emplace_back();
    record.offset = batch.next_offset++;
    Must(ViewEvent(event.bytes, EventLimits(), batch.bytes, &record.event));
    if (batch.records.size() == kBatchRecords) hand_over(batch);
  }
  for (auto& [partition, batch] : filling) hand_over(batch);
  return batches;
}

// A topic with all events on a broker of its own.
class Topic {
 public:
  static std::unique_ptr<Topic> Fill(const std::vector<EncodedEvent>& events) {
    auto broker = test::KafkaProcess::Start();
    if (!broker) {
      std::fprintf(stderr, "no broker, so neither read nor pipeline: %s\n", broker.error().message.c_str());
      return nullptr;
    }
    Must((*broker)->CreateTopic("events", kPartitions));
    std::unique_ptr<Topic> topic(new Topic(*std::move(broker)));
    const auto producer = Must(kafka::Producer::Open(topic->connection(), {}, nullptr));
    for (const EncodedEvent& event : events) {
      kafka::OutgoingMessage message;
      message.topic = "events";
      message.partition = event.partition;
      message.value = event.bytes;
      Must(producer->ProduceOrWait(message, 60'000));
    }
    Must(producer->Flush(60'000));
    return topic;
  }

  std::unique_ptr<KafkaSource> Open() const {
    KafkaSourceOptions options;
    options.connection = connection();
    options.consumer.topic = "events";
    return Must(KafkaSource::Open(std::move(options), nullptr));
  }

 private:
  explicit Topic(std::unique_ptr<test::KafkaProcess> broker) : broker_(std::move(broker)) {}
  kafka::Connection connection() const { return {.bootstrap_servers = broker_->bootstrap_servers()}; }

  std::unique_ptr<test::KafkaProcess> broker_;
};

// A sessionizer on an empty folder, with a receiver that acknowledges whatever is committed.
class Sessions {
 public:
  Sessions()
      : log_(Severity::kError),
        sessionizer_(Must(Sessionizer::Open(folder_.path(), DefaultSettings().sessionizer(), clock_, log_, metrics_))) {}

  void Take(EventBatch&& batch) {
    Must(sessionizer_->Process(std::move(batch)));
    if (sessionizer_->NeedsCommit()) Commit();
  }

  // Ends the input, so that every event has been through its whole life.
  void Finish() {
    for (std::int32_t partition = 0; partition < kPartitions; ++partition) sessionizer_->Flush(partition);
    Commit();
    Commit();  // What was acknowledged behind the first is dropped by the second.
  }

  v1::Accounting Account() const {
    v1::Accounting sum;
    for (const std::int32_t partition : sessionizer_->partitions()) {
      const v1::Accounting each = sessionizer_->Position(partition).accounting;
      sum.set_read(sum.read() + each.read());
      sum.set_used(sum.used() + each.used());
      sum.set_used_over_max_events(sum.used_over_max_events() + each.used_over_max_events());
      sum.set_sessions(sum.sessions() + each.sessions());
    }
    return sum;
  }

 private:
  void Commit() {
    Must(sessionizer_->Commit());
    for (const std::int32_t partition : sessionizer_->partitions()) {
      if (const auto name = sessionizer_->Position(partition).last_name) sessionizer_->Acknowledge(*name);
    }
  }

  test::TempDir folder_;
  SystemClock clock_;
  Log log_;
  Metrics metrics_;
  std::unique_ptr<Sessionizer> sessionizer_;
};

// Each user's window under one key: time of the last event, then the events. A window behind a gap is dropped when its user
// comes back; no timers, no duplicates, no rewards, no offsets.
class NaiveSessions {
 public:
  NaiveSessions() : settings_(DefaultSettings().sessionizer()) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.write_buffer_size = 128 << 20;
    options.max_write_buffer_number = 3;
    options.compression = rocksdb::kLZ4Compression;
    rocksdb::DB* db = nullptr;
    Must(rocksdb::DB::Open(options, folder_.path(), &db));
    db_.reset(db);
  }

  void Take(EventBatch&& batch) {
    for (const Record& record : batch.records) Add(record.event);
    unsynced_ += std::ssize(batch.records);
    if (unsynced_ >= settings_.commit_records() || clock_.monotonic_us() - synced_us_ >= settings_.commit_interval_ms() * 1000) Sync();
  }

  void Sync() {
    Must(db_->SyncWAL());
    unsynced_ = 0;
    synced_us_ = clock_.monotonic_us();
  }

 private:
  void Add(const EventView& event) {
    const rocksdb::Slice user(event.user_id.data(), event.user_id.size());
    const rocksdb::Status found = db_->Get(rocksdb::ReadOptions(), user, &window_);
    std::int64_t last_ms = 0;
    if (found.ok()) std::memcpy(&last_ms, window_.data(), sizeof(last_ms));
    if (!found.ok() || event.event_time_ms - last_ms > settings_.gap_ms()) window_.assign(sizeof(last_ms), '\0');
    last_ms = event.event_time_ms;
    std::memcpy(window_.data(), &last_ms, sizeof(last_ms));
    window_.append(event.event_id).append(event.body);
    Must(db_->Put(rocksdb::WriteOptions(), user, window_));
  }

  const v1::Sessionizer settings_;
  test::TempDir folder_;
  SystemClock clock_;
  std::unique_ptr<rocksdb::DB> db_;
  std::string window_;
  std::int64_t unsynced_ = 0;
  std::int64_t synced_us_ = clock_.monotonic_us();
};

double Seconds(clockid_t clock) {
  timespec now{};
  FUSELINE_CHECK(clock_gettime(clock, &now) == 0);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// What one run of one way cost.
struct Cost {
  double cpu_s = 0;
  double wall_s = 0;
};

Cost CostOf(const std::function<void()>& work) {
  const double cpu_s = Seconds(CLOCK_PROCESS_CPUTIME_ID), wall_s = Seconds(CLOCK_MONOTONIC);
  work();
  return {Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_s, Seconds(CLOCK_MONOTONIC) - wall_s};
}

void ReadAll(const Topic& topic, const std::function<void(EventBatch&&)>& take) {
  const auto source = topic.Open();
  for (std::int64_t read = 0; read < kEvents;) {
    auto batch = Must(source->Next(100));
    if (!batch) continue;
    read += std::ssize(batch->records);
    take(std::move(*batch));
  }
  Must(source->Close(10'000));
}

Cost Read(const Topic& topic) {
  return CostOf([&] { ReadAll(topic, [](EventBatch&&) {}); });
}

void CheckAndPrintOnce(const v1::Accounting& account) {
  FUSELINE_CHECK(account.read() == kEvents);
  static bool printed = false;
  if (std::exchange(printed, true)) return;
  std::printf("%lu sessions; of %lu events %lu used, of them %lu past max_events\n", account.sessions(), account.read(),
              account.used(), account.used_over_max_events());
}

Cost Sessionize(const std::vector<EncodedEvent>& events) {
  std::vector<EventBatch> batches = Decoded(events, kEvents);
  Sessions sessions;
  const Cost cost = CostOf([&] {
    for (EventBatch& batch : batches) sessions.Take(EventBatch(std::move(batch)));
    sessions.Finish();
  });
  CheckAndPrintOnce(sessions.Account());
  return cost;
}

Cost Pipe(const Topic& topic) {
  Sessions sessions;
  const Cost cost = CostOf([&] {
    ReadAll(topic, [&](EventBatch&& batch) { sessions.Take(std::move(batch)); });
    sessions.Finish();
  });
  CheckAndPrintOnce(sessions.Account());
  return cost;
}

Cost Naive(const std::vector<EncodedEvent>& events) {
  std::vector<EventBatch> batches = Decoded(events, kNaiveEvents);
  NaiveSessions sessions;
  return CostOf([&] {
    for (EventBatch& batch : batches) sessions.Take(EventBatch(std::move(batch)));
    sessions.Sync();
  });
}

struct Way {
  const char* name;
  std::int64_t events;
  std::function<Cost()> run;
  std::vector<Cost> costs = {};

  double Rate(double Cost::*seconds, std::size_t rank) const {  // Events per second; rank 0 is the slowest round.
    std::vector<double> rates;
    for (const Cost& cost : costs) rates.push_back(static_cast<double>(events) / (cost.*seconds));
    std::sort(rates.begin(), rates.end());
    return rates[rank];
  }
  double Median() const { return Rate(&Cost::cpu_s, costs.size() / 2); }
};

void PrintTable(const std::vector<Way>& ways) {
  std::printf("%-10s %16s %26s %16s\n", "", "events/s of CPU", "slowest .. fastest round", "events/s of wall");
  for (const Way& way : ways) {
    std::printf("%-10s %16.0f %14.0f ..%9.0f %16.0f\n", way.name, way.Median(), way.Rate(&Cost::cpu_s, 0),
                way.Rate(&Cost::cpu_s, way.costs.size() - 1), way.Rate(&Cost::wall_s, way.costs.size() / 2));
  }
  for (const Way& a : ways) {
    for (const Way& b : ways) {
      if (&a < &b) std::printf("%s / %s = %.2f\n", a.name, b.name, a.Median() / b.Median());
    }
  }
}

void Main(std::size_t rounds, const std::vector<std::string>& names) {
  const std::vector<EncodedEvent> events = Workload().Make();
  std::size_t bytes = 0;
  for (const EncodedEvent& event : events) bytes += event.bytes.size();
  std::printf("%zu events of %.1f bytes\n", events.size(), static_cast<double>(bytes) / static_cast<double>(events.size()));

  const auto wanted = [&](const char* name) { return names.empty() || std::find(names.begin(), names.end(), name) != names.end(); };
  std::unique_ptr<Topic> topic;
  if (wanted("read") || wanted("pipeline")) topic = Topic::Fill(events);
  std::vector<Way> ways;
  if (topic && wanted("read")) ways.push_back({"read", kEvents, [&] { return Read(*topic); }});
  if (wanted("sessions")) ways.push_back({"sessions", kEvents, [&] { return Sessionize(events); }});
  if (topic && wanted("pipeline")) ways.push_back({"pipeline", kEvents, [&] { return Pipe(*topic); }});
  if (wanted("naive")) ways.push_back({"naive", kNaiveEvents, [&] { return Naive(events); }});
  for (std::size_t round = 0; round < rounds; ++round) {
    for (Way& way : ways) way.costs.push_back(way.run());
  }
  PrintTable(ways);
}

}  // namespace
}  // namespace fuseline

int main(int argc, char** argv) {
  const long rounds = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 5;
  if (rounds < 1) {
    std::fprintf(stderr, "usage: sessionizer_bench [ROUNDS [read|sessions|pipeline|naive …]]\n");
    return 2;
  }
  fuseline::Main(static_cast<std::size_t>(rounds), std::vector<std::string>(argv + std::min(argc, 2), argv + argc));
}
