#pragma once

#include <atomic>
#include <cstddef>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"

namespace fuseline {

// A bounded queue whose producers never wait for anybody: no lock, no allocation, no system call (Vyukov's ring, with
// one consumer). Full is a refusal; closed is shutting down, and what is inside is still handed out. Values of one
// producer keep their order.
//
// Each cell has a turn: that of its place in the endless sequence once it may be written, one more once it may be read.
template <typename T>
class EventRing {
 public:
  explicit EventRing(std::size_t capacity) : cells_(capacity) {  // REQUIRES: capacity > 1.
    FUSELINE_CHECK(capacity > 1);
    for (std::size_t i = 0; i < capacity; ++i) cells_[i].turn.store(i, std::memory_order_relaxed);
  }

  // Any thread. Returns false, and leaves `value` as it was, if the ring is full or closed.
  bool TryPush(T& value) {
    pushing_.fetch_add(1);  // Before `closed_` is looked at, as the consumer looks at them the other way round.
    const bool pushed = !closed_.load() && Insert(value);
    pushing_.fetch_sub(1);
    return pushed;
  }

  // The consumer. Returns false if nothing is there.
  bool TryPop(T& value) {
    const std::size_t at = head_.load(std::memory_order_relaxed);
    Cell& cell = cells_[at % cells_.size()];
    if (cell.turn.load(std::memory_order_acquire) != at + 1) return false;
    value = std::move(cell.value);
    cell.turn.store(at + cells_.size(), std::memory_order_release);
    head_.store(at + 1, std::memory_order_relaxed);
    return true;
  }

  void Close() { closed_.store(true); }
  bool closed() const { return closed_.load(); }
  // The consumer: whether it is closed, and nothing is inside or will ever be.
  bool exhausted() const { return closed_.load() && pushing_.load() == 0 && size() == 0; }
  std::size_t size() const { return tail_.load() - head_.load(std::memory_order_relaxed); }

 private:
  struct Cell {
    std::atomic<std::size_t> turn = 0;
    T value;
  };

  bool Insert(T& value) {
    for (std::size_t at = tail_.load(std::memory_order_relaxed);;) {
      Cell& cell = cells_[at % cells_.size()];
      const std::size_t turn = cell.turn.load(std::memory_order_acquire);
      if (turn == at) {
        if (!tail_.compare_exchange_weak(at, at + 1)) continue;
        cell.value = std::move(value);
        cell.turn.store(at + 1, std::memory_order_release);
        return true;
      }
      const std::size_t now = tail_.load(std::memory_order_relaxed);
      if (now == at) return false;  // Not read yet since the round before: full.
      at = now;                     // Somebody else was quicker.
    }
  }

  std::vector<Cell> cells_;
  alignas(64) std::atomic<std::size_t> tail_ = 0;  // The next place to write; producers meet here alone.
  alignas(64) std::atomic<std::size_t> head_ = 0;  // The next place to read: written by the consumer.
  std::atomic<std::size_t> pushing_ = 0;           // Producers inside TryPush.
  std::atomic<bool> closed_ = false;
};

}  // namespace fuseline
