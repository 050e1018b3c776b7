#include "kafka_streams_peer.h"

#include <cinttypes>
#include <cstdio>

namespace fuseline::bench {

Result<std::unique_ptr<KafkaStreamsPeer>> KafkaStreamsPeer::Start(const std::string& bootstrap_servers,
                                                                  const std::string& topic) {
  FUSELINE_ASSIGN_OR_FAIL(auto process, PeerProcess::Start("kafka_streams/run.sh", bootstrap_servers + " " + topic));
  return std::unique_ptr<KafkaStreamsPeer>(new KafkaStreamsPeer(std::move(process)));
}

Result<KafkaStreamsPeer::Pass> KafkaStreamsPeer::Run(const std::string& guarantee, const std::string& aggregate) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string line, process_->Ask(guarantee + " " + aggregate));
  Pass pass;
  if (std::sscanf(
          line.c_str(), "events=%" SCNd64 " sessions=%" SCNd64 " accepted=%" SCNd64 " cpu_s=%lf wall_s=%lf rss_mb=%lf",
          &pass.events, &pass.sessions, &pass.accepted, &pass.cost.cpu_s, &pass.cost.wall_s, &pass.rss_mib) != 6) {
    return Error(Code::kUnavailable, "the peer says", line);
  }
  return pass;
}

}  // namespace fuseline::bench
