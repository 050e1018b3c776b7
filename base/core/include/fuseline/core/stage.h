#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <thread>

#include "fuseline/core/guarded.h"
#include "fuseline/core/status.h"

namespace fuseline {

// One thread of one room. `body` runs until it returns, or until Stop() asks it to through its token.
// The owner creates, stops and joins it; nobody else touches it.
class Stage {
 public:
  using Body = std::function<Status(std::stop_token)>;

  Stage(std::string name, Body body);  // Starts the thread.
  ~Stage();                            // Stops and joins.
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  void RequestStop();
  Status Join();               // What `body` returned.
  bool finished() const;       // `body` has returned.
  const std::string& name() const { return name_; }

 private:
  struct Outcome {
    bool finished = false;
    Status status;
  };
  std::string name_;
  Guarded<Outcome> outcome_;
  std::jthread thread_;  // Last: it uses the members above.
};

// Sleeps up to `wait_ms`, less when a stop is asked for. Returns false if it was.
bool SleepFor(std::stop_token stop, std::int64_t wait_ms);

}  // namespace fuseline
