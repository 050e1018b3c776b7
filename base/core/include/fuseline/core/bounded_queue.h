#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "fuseline/core/check.h"
#include "fuseline/core/thread_annotations.h"

namespace fuseline {

// The only place where threads meet: a queue of at most `capacity` values. Full is back-pressure; closed is shutting
// down, and what is inside is still handed out. Thread-safe, any number of producers and consumers; FIFO.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t capacity) : capacity_(capacity) { FUSELINE_CHECK(capacity > 0); }

  // Waits while full. Returns false, and drops `value`, if the queue is closed.
  bool Push(T value) {
    std::unique_lock lock(mutex_);
    not_full_.wait(lock, [&] { return closed_ || values_.size() < capacity_; });
    return Insert(std::move(value));
  }

  // Never waits. Returns false, and leaves `value` as it was, if the queue is full or closed.
  bool TryPush(T& value) {
    std::unique_lock lock(mutex_);
    if (closed_ || values_.size() >= capacity_) return false;
    return Insert(std::move(value));
  }

  // Waits up to `timeout_ms` for a value. Returns none after it, or when the queue is closed and empty.
  std::optional<T> Pop(std::int64_t timeout_ms) {
    std::unique_lock lock(mutex_);
    not_empty_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return closed_ || !values_.empty(); });
    if (values_.empty()) return std::nullopt;
    std::optional<T> value(std::move(values_.front()));
    values_.pop_front();
    not_full_.notify_one();
    return value;
  }

  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    not_full_.notify_all();
    not_empty_.notify_all();
  }

  bool closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
  }
  bool exhausted() const {  // Closed, and nothing left inside.
    std::lock_guard lock(mutex_);
    return closed_ && values_.empty();
  }
  std::size_t size() const {
    std::lock_guard lock(mutex_);
    return values_.size();
  }
  std::size_t capacity() const { return capacity_; }

 private:
  bool Insert(T value) {  // REQUIRES: mutex_ held.
    if (closed_) return false;
    values_.push_back(std::move(value));
    not_empty_.notify_one();
    return true;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable not_full_;
  std::condition_variable not_empty_;
  std::deque<T> values_ FUSELINE_GUARDED_BY(mutex_);
  bool closed_ FUSELINE_GUARDED_BY(mutex_) = false;
};

}  // namespace fuseline
