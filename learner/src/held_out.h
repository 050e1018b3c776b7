#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "row_store.h"

namespace fuseline {

// The newest sessions of users who never train: what the gate judges by. Thread-compatible.
class HeldOut {
 public:
  HeldOut(RowLayout layout, std::size_t sessions_max) : rows_(layout, "held_out"), sessions_max_(sessions_max) {}

  RowStore& rows() { return rows_; }
  const RowStore& rows() const { return rows_; }

  // After rows were appended or loaded: finds their sessions, evicts the oldest beyond the limit.
  void Index() {
    for (std::uint64_t row = std::max(indexed_end_, rows_.first_row()); row < rows_.end_row(); ++row) {
      if (rows_.At(row).is(kSessionStart)) sessions_.push_back(row);
    }
    indexed_end_ = rows_.end_row();
    while (sessions_.size() > sessions_max_) sessions_.pop_front();
    if (!sessions_.empty()) rows_.EvictBefore(sessions_.front());
  }

 private:
  RowStore rows_;
  std::size_t sessions_max_;
  std::deque<std::uint64_t> sessions_;  // First rows.
  std::uint64_t indexed_end_ = 0;
};

}  // namespace fuseline
