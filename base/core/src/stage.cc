#include "fuseline/core/stage.h"

#include <chrono>
#include <condition_variable>
#include <mutex>

#include <pthread.h>

namespace fuseline {

Stage::Stage(std::string name, Body body)
    : name_(std::move(name)), thread_([this, body = std::move(body)](std::stop_token stop) {
        pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
        Status status = body(stop);
        outcome_.With([&](Outcome& outcome) { outcome = {true, std::move(status)}; });
      }) {}

Stage::~Stage() = default;

void Stage::RequestStop() { thread_.request_stop(); }

Status Stage::Join() {
  if (thread_.joinable()) thread_.join();
  return outcome_.With([](const Outcome& outcome) { return outcome.status; });
}

bool Stage::finished() const {
  return outcome_.With([](const Outcome& outcome) { return outcome.finished; });
}

bool SleepFor(std::stop_token stop, std::int64_t wait_ms) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, std::chrono::milliseconds(wait_ms), [] { return false; });
  return !stop.stop_requested();
}

}  // namespace fuseline
