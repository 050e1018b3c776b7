#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fuseline {

// A ranker's word about itself, its line in `acks` (policy_keys.h): "CHANGE VERSION SINCE_MS SEEN_MS", decimal.
// Written when something else serves, and again every kAcknowledgeEveryMs; so a word that was lost comes again, and
// who is gone falls silent. It informs people and figures, and decides nothing.
struct Acknowledgement {
  std::uint64_t change = 0;    // Alias change that brought what serves; 0: none has.
  std::uint64_t version = 0;   // That serves; 0: the static weights.
  std::int64_t since_ms = 0;   // When it began to, and
  // when this was written, both by the ranker's clock. 0: by a ranker of before, who writes no fourth word.
  std::int64_t seen_ms = 0;

  bool operator==(const Acknowledgement&) const = default;
};

inline constexpr std::int64_t kAcknowledgeEveryMs = 10'000;
// A ranker whose line has not changed for so long is gone. Measured by the reader's monotonic clock: no two clocks
// are compared.
inline constexpr std::int64_t kRankerGoneMs = 6 * kAcknowledgeEveryMs;

std::string AcknowledgementText(const Acknowledgement& word);
// None: somebody else wrote it. No time is below 0.
std::optional<Acknowledgement> ParseAcknowledgement(std::string_view text);

}  // namespace fuseline
