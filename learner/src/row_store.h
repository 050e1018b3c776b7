#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/learner/rewards.h"
#include "fuseline/v1/checkpoint.pb.h"

namespace fuseline {

enum RowFlags : std::uint32_t {
  kTransition = 1,    // May be sampled. Without kTerminated the next state is the row that follows.
  kTerminated = 2,
  kHasDensity = 4,    // Explored; its log density is known.
  kSessionStart = 8,
};

struct RowHeader {
  std::uint64_t behaviour_version = 0;
  std::uint64_t user = 0;  // Hash of the user id.
  double log_density = 0;
  float box_lower = 0, box_upper = 0;
  std::uint32_t items = 0;
  std::uint32_t flags = 0;
};
static_assert(sizeof(RowHeader) == 40);

// One request, encoded:
//   [header | shared [S] | items [L, I] | executed [L, D] | baseline [L, D] | reward components [L, C], int32 | padding to 8]
// S shared and I item columns before normalisation (the last k of an item are its task scores), L = max_items.
// Native byte order: segments are state of one machine, not an exchange format.
struct RowLayout {
  std::size_t shared = 0, item = 0, action = 0, max_items = 0;
  std::size_t tasks = 0;  // k

  std::size_t floats() const { return shared + max_items * (item + 2 * action); }
  std::size_t row_bytes() const {
    return (sizeof(RowHeader) + 4 * (floats() + max_items * kRewardComponents) + 7) / 8 * 8;
  }
};

template <typename Byte, typename Header, typename Float, typename Int>
struct BasicRow {
  Header* header;
  Float *shared, *items, *executed, *baseline;
  Int* rewards;

  BasicRow(const RowLayout& layout, Byte* row)
      : header(reinterpret_cast<Header*>(row)),
        shared(reinterpret_cast<Float*>(row + sizeof(RowHeader))),
        items(shared + layout.shared),
        executed(items + layout.max_items * layout.item),
        baseline(executed + layout.max_items * layout.action),
        rewards(reinterpret_cast<Int*>(baseline + layout.max_items * layout.action)) {}

  auto RewardsOf(std::size_t item) const { return std::span(rewards + item * kRewardComponents, kRewardComponents); }
  bool is(RowFlags flag) const { return (header->flags & flag) != 0; }
};
using Row = BasicRow<std::byte, RowHeader, float, std::int32_t>;
using ConstRow = BasicRow<const std::byte, const RowHeader, const float, const std::int32_t>;

// Rows numbered from 0, appended at one end and evicted at the other; saved as append-only segment files.
// Thread-compatible. Cost: O(1) per row; Save writes only the rows that no segment holds yet.
class RowStore {
 public:
  RowStore(RowLayout layout, std::string name) : layout_(layout), name_(std::move(name)) {}

  Row Append();                                // A zeroed row, valid until the next Append.
  ConstRow At(std::uint64_t row) const;        // REQUIRES: first_row() <= row < end_row().
  void Prefetch(std::uint64_t row) const;      // Asks memory for a row and the one after it, without waiting. REQUIRES: as At.
  void EvictBefore(std::uint64_t row);         // REQUIRES: row <= end_row().
  std::uint64_t first_row() const { return first_row_; }
  std::uint64_t end_row() const { return end_row_; }
  const RowLayout& layout() const { return layout_; }

  // Writes what is new and says what to reload. Errors: kUnavailable; nothing is lost then.
  Result<v1::RowSegments> Save(const std::filesystem::path& folder);
  // Errors: kCorrupt when a segment is absent or differs from its digest.
  Status Load(const std::filesystem::path& folder, const v1::RowSegments& state);

 private:
  static constexpr std::uint64_t kChunkRows = 256;
  std::byte* Address(std::uint64_t row);

  RowLayout layout_;
  std::string name_;
  std::deque<std::vector<std::byte>> chunks_;  // chunks_[0] holds row first_chunk_ * kChunkRows.
  std::uint64_t first_chunk_ = 0, first_row_ = 0, end_row_ = 0;
  std::uint64_t saved_end_ = 0;
  std::deque<v1::RowSegment> segments_;
};

}  // namespace fuseline
