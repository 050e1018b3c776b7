#pragma once

#include <iostream>

#include "fuseline/ingest/dead_letter.h"

namespace fuseline {

// Says the first few, so that a typing error is found, and no more, so that a wrong file does not flood the screen.
class DeadLettersToScreen final : public DeadLetterSink {
 public:
  Status Write(DeadLetter&& letter) override {
    if (++count_ <= kShown) {
      std::cerr << "fuseline: " << letter.source << ':' << letter.line << ": malformed: " << letter.reason << '\n';
    }
    return OkStatus();
  }
  Status Flush(std::int64_t) override { return OkStatus(); }
  void SayHowMany() const {
    if (count_ > kShown) std::cerr << "fuseline: " << count_ << " malformed records in all\n";
  }

 private:
  static constexpr int kShown = 10;
  std::int64_t count_ = 0;
};

}  // namespace fuseline
