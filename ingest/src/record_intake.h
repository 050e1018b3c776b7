#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/ingest/dead_letter.h"
#include "fuseline/proto/event_batch.h"
#include "fuseline/proto/event_codec.h"

namespace fuseline {

// What every source does with the bytes of a record: one parse, and a dead letter for what cannot be used.
// One owner thread.
class RecordIntake {
 public:
  struct Origin {
    std::string_view source;
    std::int32_t partition = 0;
    std::int64_t offset = 0;
    std::int64_t line = 0;
    std::optional<std::int64_t> record_time_ms;  // None: nothing is quarantined.
  };

  // `dead_letters` may be null: then they are dropped.
  RecordIntake(const EventLimits& limits, std::int64_t max_future_ms, DeadLetterSink* dead_letters)
      : limits_(limits), max_future_ms_(max_future_ms), dead_letters_(dead_letters) {}

  // Decodes `bytes` into a record with its fate; the event lies in `arena`.
  Record Take(std::string_view bytes, const Origin& origin, ByteArena& arena);
  // A record known to be malformed before decoding; `size_bytes` is its whole size.
  Record TakeMalformed(std::string_view bytes, std::int64_t size_bytes, std::string_view reason, const Origin& origin);

  // Dead letters so far; and how many of them, from the first on, are known to be durable: what the sink takes and tells
  // without waiting.
  std::uint64_t letters() const { return letters_; }
  std::uint64_t SettledLetters();

  // Every dead letter so far is durable. Free when there is none. Errors: kUnavailable; come again.
  Status Settle(std::int64_t deadline_ms);

 private:
  std::uint64_t written() const { return letters_ - unwritten_.size(); }
  void Bury(std::string_view bytes, std::int64_t size_bytes, std::string_view reason, RecordFate fate, const Origin& origin);

  const EventLimits limits_;
  const std::int64_t max_future_ms_;
  DeadLetterSink* const dead_letters_;
  std::deque<DeadLetter> unwritten_;
  std::uint64_t letters_ = 0;
  std::uint64_t settled_ = 0;
};

}  // namespace fuseline
