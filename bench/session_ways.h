#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "measure.h"
#include "session_workload.h"

namespace rocksdb {
class DB;
}

namespace fuseline::bench {

// A topic with all events of a workload on a broker of its own: key = user id, timestamp = event time.
class EventTopic {
 public:
  // Errors: kNotFound where no broker is installed.
  static Result<std::unique_ptr<EventTopic>> Fill(Workload workload);

  // Reads all of it, from the first record on.
  void ReadAll(const std::function<void(EventBatch&&)>& take) const;

  const std::string& bootstrap_servers() const { return broker_->bootstrap_servers(); }
  kafka::Connection connection() const { return {.bootstrap_servers = bootstrap_servers()}; }
  static constexpr const char* kName = "events";
  static constexpr const char* kTrajectories = "trajectories";

 private:
  explicit EventTopic(std::unique_ptr<test::KafkaProcess> broker) : broker_(std::move(broker)) {}

  std::unique_ptr<test::KafkaProcess> broker_;
  std::int64_t events_ = 0;
};

// Gap 30 min, 60 s of lateness, no cut lines, as the peer; the rest is the default, so a commit at least each 250 ms.
v1::Sessionizer SessionSettings();

// A sessionizer on an empty folder, committed when it asks for it. Every trajectory is read from the outbox and handed
// to `receive` before it is acknowledged; `flush` makes what was received durable.
class Sessions {
 public:
  using Receive = std::function<void(const OutboxEntry&)>;
  explicit Sessions(const v1::Sessionizer& settings, Receive receive = {}, std::function<void()> flush = {});

  void Take(EventBatch&& batch);
  void Finish();  // The last commits.
  v1::Accounting Account() const;
  std::uint64_t OpenSessions() const;
  double HeldMib() const;  // By its own account.
  double DiskMib() const;

 private:
  void Commit();
  void Deliver(std::int32_t partition);

  const Receive receive_;
  const std::function<void()> flush_;
  test::TempDir folder_;
  SystemClock clock_;
  Log log_;
  Metrics metrics_;
  std::unique_ptr<Sessionizer> sessionizer_;
};

// What one would write first: each user's window under one key (time of the last event, then the events), got and put
// again for each event. A window behind a gap is dropped when its user comes back; no timers, no duplicates, no
// rewards, no offsets. Synced as often as ours.
class NaiveSessions {
 public:
  NaiveSessions();
  ~NaiveSessions();
  void Take(EventBatch&& batch);
  void Sync();

 private:
  void Add(const EventView& event);

  const v1::Sessionizer settings_ = SessionSettings();
  test::TempDir folder_;
  SystemClock clock_;
  std::unique_ptr<rocksdb::DB> db_;
  std::string window_;
  std::int64_t synced_us_ = 0;
};

}  // namespace fuseline::bench
