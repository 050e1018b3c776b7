#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "fuseline/core/status.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/sessionizer/idle_clock.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/v1/config.pb.h"
#include "publication.h"

namespace fuseline {

// The pulse of a partition that was processed as far as `processed` says.
PartitionPulse PulseOf(const PartitionPosition& processed, bool caught_up);

// Appends ticks to the silent partitions of the events topic, as IdleClock says. They come back as any record does, and are judged
// where they are read: nothing that goes wrong here can do more than leave a partition silent.
//
// Where: beside the sessionizer of a live topic. One owner thread. Never waits. Not for replays and finite inputs: their log is written.
class TickAuthor {
 public:
  // Errors: kInvalidInput for connection settings. REQUIRES: sessionizer.idle_timeout_ms > 0.
  static Result<std::unique_ptr<TickAuthor>> Open(const v1::Config& config, Instruments instruments);

  // `owned`: every partition of this process, as it stands after the last record processed. To be called often: a tick comes no earlier
  // than a look.
  void Look(const std::map<std::int32_t, PartitionPulse>& owned);

 private:
  TickAuthor(const v1::Config& config, Instruments instruments);
  void Append(const DueTick& tick);
  void Note(const kafka::DeliveryReport& report);

  const std::string topic_;
  Instruments instruments_;
  IdleClock clock_;
  std::set<std::int32_t> under_way_;  // Partitions whose last tick has neither been stored nor refused.
  std::unique_ptr<kafka::Producer> producer_;  // Last: its reports use the members above.
};

}  // namespace fuseline
