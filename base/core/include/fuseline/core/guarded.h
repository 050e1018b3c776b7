#pragma once

#include <mutex>
#include <utility>

#include "fuseline/core/thread_annotations.h"

namespace fuseline {

// A value with its lock, for the few places where a queue will not do (a status page, a counter shared with a callback).
// Nothing outlives the call: never return a reference from `body`, never call out inside it.
template <typename T>
class Guarded {
 public:
  Guarded() = default;
  explicit Guarded(T value) : value_(std::move(value)) {}

  template <typename Body>
  auto With(Body&& body) {
    std::lock_guard lock(mutex_);
    return std::forward<Body>(body)(value_);
  }
  template <typename Body>
  auto With(Body&& body) const {
    std::lock_guard lock(mutex_);
    return std::forward<Body>(body)(value_);
  }
  T Copy() const {
    std::lock_guard lock(mutex_);
    return value_;
  }

 private:
  mutable std::mutex mutex_;
  T value_ FUSELINE_GUARDED_BY(mutex_);
};

}  // namespace fuseline
