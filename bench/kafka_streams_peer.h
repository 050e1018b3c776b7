#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "fuseline/core/child_process.h"
#include "fuseline/core/status.h"
#include "fuseline/test_support/temp_dir.h"
#include "measure.h"

namespace fuseline::bench {

// The Kafka Streams program of bench/peers/kafka_streams, as one process that makes many passes, so that its virtual
// machine is warm. Thread-compatible.
class KafkaStreamsPeer {
 public:
  struct Pass {
    Cost cost;
    std::int64_t events = 0;
    std::int64_t sessions = 0;
    std::int64_t accepted = 0;  // Events in the sessions.
    double rss_mib = 0;         // Most since the process began, the whole heap of its virtual machine included.
  };

  // Errors: kNotFound if the peer was not built (`make bench-peers`).
  static Result<std::unique_ptr<KafkaStreamsPeer>> Start(const std::string& bootstrap_servers,
                                                         const std::string& topic);
  ~KafkaStreamsPeer();

  // The whole topic, by a new application. `guarantee`: exactly_once_v2 or at_least_once; `aggregate`: events or count.
  Result<Pass> Run(const std::string& guarantee, const std::string& aggregate);

 private:
  KafkaStreamsPeer() = default;
  Result<std::string> NextLine();

  test::TempDir folder_;  // Outlives the process.
  int commands_ = -1;
  std::size_t answers_read_ = 0;  // Bytes of its output.
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace fuseline::bench
