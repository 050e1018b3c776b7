#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>

#include "fuseline/core/status.h"
#include "fuseline/ingest/dead_letter.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// A dead letter as it is kept.
struct KeptLetter {
  DeadLetter letter;
  std::int64_t kept_ms = -1;  // When the topic took it; -1: a file does not say.

  bool is_cut() const { return static_cast<std::int64_t>(letter.bytes.size()) < letter.size_bytes; }
};

// Which letters are meant; what is absent or empty says nothing.
struct LetterFilter {
  std::string reason;  // Part of the reason.
  std::string source;
  std::optional<std::int32_t> partition;
  std::optional<std::int64_t> since_ms, until_ms;             // Of kept_ms: [since, until).
  std::set<std::pair<std::int32_t, std::int64_t>> positions;  // (partition, offset).

  bool empty() const;
  bool Matches(const KeptLetter& kept) const;
};

// Where letters are kept: the file, or the topic of the settings where `file` is empty.
struct LetterPlace {
  v1::Kafka kafka;
  std::string file;
};

// What reading came across besides the letters asked for.
struct LetterCounts {
  std::uint64_t repeats = 0;     // Of letters shown before: they are kept at least once.
  std::uint64_t unreadable = 0;  // Lines and records that are no letter: half written by a crash, or somebody else's.
};

// Shows each letter of `filter` once, in the order in which they are kept, until `see` gives an error or a stop is
// asked for. Cost: memory of some 100 bytes a letter of the filter, to know it again. Errors: kNotFound for an
// unknown file or topic; kInvalidInput for a filter by time on a file; kUnavailable; those of `see`.
Result<LetterCounts> ReadLetters(const LetterPlace& place, const LetterFilter& filter, const std::stop_token& stop,
                                 const std::function<Status(KeptLetter&& kept)>& see);

// Reads what EncodeDeadLetterJson writes. Errors: kInvalidInput.
Result<DeadLetter> DecodeDeadLetterJson(std::string_view json);

// "partition:offset", as people type a position. Errors: kInvalidInput.
Result<std::pair<std::int32_t, std::int64_t>> ParsePosition(std::string_view text);

// The reason without its numbers, so that reasons can be counted: "event_time_ms is # ms ahead of its record".
std::string ReasonKind(const std::string& reason);

}  // namespace fuseline
