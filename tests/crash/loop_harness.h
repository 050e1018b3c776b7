#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "fuseline/core/child_process.h"
#include "fuseline/core/status.h"
#include "fuseline/serving_bridge/ranker.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline::test {

// Events of simulated users, in order of event time, served by the ranker client before any version exists: it explores around
// the static weights. The same seed gives the same events.
Result<std::vector<v1::Event>> SimulatedEvents(std::uint64_t seed, std::uint64_t count);

// Events of simulated users whom `ranker` serves, with whatever version it has picked up, from `start_ms` of event time on.
Result<std::vector<v1::Event>> EventsRankedBy(Ranker& ranker, std::uint64_t seed, std::int64_t start_ms, std::uint64_t count);

// A topic whose records keep the producer's timestamps for ever, holding `events` with their event times.
Status MakeEventsTopic(KafkaProcess& kafka, const std::string& topic, int partitions, const std::vector<v1::Event>& events);

// More of them, to a topic that is there.
Status AppendEvents(const KafkaProcess& kafka, const std::string& topic, const std::vector<v1::Event>& events);

// A subcommand of the program under test that serves until it is stopped, with a state folder of its own.
class ServedProcess {
 public:
  // `settings`: lines "section.key=value" besides those that point at broker and folder; kafka.brokers may be another way to it.
  ServedProcess(const KafkaProcess& kafka, const std::string& subcommand, std::vector<std::string> settings);

  // Puts a wrapper before the program, from its next start on: one that becomes it, as env does.
  void RunUnder(const std::vector<std::string>& wrapper) { arguments_.insert(arguments_.begin(), wrapper.begin(), wrapper.end()); }

  Status Start(const std::vector<std::string>& more_arguments = {});  // Returns at once.
  void Kill() { process_->Kill(); }
  void Signal(int signal_number) { process_->Signal(signal_number); }
  int Wait() { return process_->Wait(); }
  int Interrupt();                // SIGINT; returns the exit status.
  bool running() { return process_ && process_->running(); }
  std::int64_t pid() const { return process_->pid(); }  // REQUIRES: it was started.

  // /status of the running process; none while it does not answer.
  std::optional<nlohmann::json> Ask();
  // Polls /status until it answers something of which `holds` is true. Errors: kUnavailable after `patience_ms`, or when the process
  // ended, with the last answer.
  Status WaitUntil(const std::function<bool(const nlohmann::json& status)>& holds, std::int64_t patience_ms);
  // `fuseline status --json` over the state of the stopped process.
  Result<nlohmann::json> StoredStatus();
  std::string log() const;        // What it printed, all starts together.
  const std::string& state() const { return state_; }

 private:
  TempDir dir_;
  std::string state_;
  std::vector<std::string> arguments_;
  std::optional<ChildProcess> process_;
};

// `fuseline run` with a real broker and a real Redis.
class LoopProcess : public ServedProcess {
 public:
  LoopProcess(const KafkaProcess& kafka, const RedisProcess& redis, const std::string& topic, std::vector<std::string> settings);

  // Until `events` records were read and all of it was learned from, as far as the merge order allows. Errors: as WaitUntil.
  Status WaitUntilLearned(std::uint64_t events, std::int64_t patience_ms);
};

// Runs build/…/bin/fuseline to its end. Returns its exit status; `output` gets what it printed to standard output.
int RunFuseline(const std::vector<std::string>& arguments, std::string* output);

}  // namespace fuseline::test
