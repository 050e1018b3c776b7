#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "fuseline/core/status.h"
#include "measure.h"
#include "peer_process.h"

namespace fuseline::bench {

// The Kafka Streams program of bench/peers/kafka_streams, its virtual machine warm after a pass. Thread-compatible.
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

  // The whole topic, by a new application. `guarantee`: exactly_once_v2 or at_least_once; `aggregate`: events or count.
  Result<Pass> Run(const std::string& guarantee, const std::string& aggregate);

 private:
  explicit KafkaStreamsPeer(std::unique_ptr<PeerProcess> process) : process_(std::move(process)) {}

  std::unique_ptr<PeerProcess> process_;
};

}  // namespace fuseline::bench
