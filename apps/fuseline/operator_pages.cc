#include "operator_pages.h"

#include <limits>
#include <optional>
#include <utility>

#include "fuseline/core/file.h"
#include "fuseline/ingest/accounting.h"
#include "status_json.h"

namespace fuseline {

OperatorPages::OperatorPages(std::function<PipelineStatus()> status, Freshness& freshness, Instruments instruments)
    : status_(std::move(status)), freshness_(freshness), instruments_(instruments) {
  server_.Get("/livez", [] { return HttpServer::Response{.body = "ok\n"}; });
  server_.Get("/readyz", [this] {
    const PipelineStatus now = status_();
    std::string trouble;
    for (const auto& [partition, reason] : now.stopped) trouble += "partition " + std::to_string(partition) + " stopped: " + reason + '\n';
    if (!now.publication.last_error.empty()) trouble += now.publication.last_error + '\n';
    if (now.scorer_publication && !now.scorer_publication->last_error.empty()) trouble += "scorer: " + now.scorer_publication->last_error + '\n';
    if (trouble.empty()) return HttpServer::Response{.body = "ok\n"};
    return HttpServer::Response{.code = 503, .body = trouble};
  });
  server_.Get("/metrics", [this] {
    return HttpServer::Response{.content_type = "text/plain; version=0.0.4", .body = MetricsText()};
  });
  server_.Get("/status", [this] {
    return HttpServer::Response{.content_type = "application/json",
                                .body = StatusJson(status_(), freshness_.MakeReport(), /*running=*/true)};
  });
}

Status OperatorPages::Start(const std::string& address, const std::filesystem::path& state) {
  if (address.empty()) return OkStatus();
  FUSELINE_RETURN_IF_ERROR(server_.Start(address));
  address_ = address.substr(0, address.rfind(':') + 1) + std::to_string(server_.port());
  return WriteFileAtomically(state / kHttpAddressFile, address_);
}

// The account is a set of gauges that is renewed when somebody looks: the truth is in the state, not in counters beside it.
std::string OperatorPages::MetricsText() {
  const PipelineStatus status = status_();
  const auto lags_ms = status.stream_time_lags_ms();
  for (const auto& [number, partition] : status.partitions) {
    const std::string label = std::to_string(number);
    const auto set = [&](const std::string& fate, std::uint64_t value) {
      instruments_.metrics
          .GetGauge("fuseline_sessionizer_records", "records of a partition by what became of them",
                    {{"partition", label}, {"fate", fate}})
          .Set(static_cast<double>(value));
    };
    const v1::Accounting& account = partition.accounting;
    set("read", account.read());
    set("used", account.used());
    set("pending", account.pending());
    set("duplicate", account.duplicate());
    set("late", account.late());
    set("orphan", account.orphan());
    set("malformed", account.malformed());
    set("quarantined", account.quarantined());
    set("control", account.control());
    instruments_.metrics
        .GetGauge("fuseline_sessionizer_accounting_balanced", "1 while the accounting identity holds", {{"partition", label}})
        .Set(IsBalanced(account) ? 1 : 0);
    instruments_.metrics.GetGauge("fuseline_sessionizer_next_offset", "next record of a partition", {{"partition", label}})
        .Set(static_cast<double>(partition.next_offset));
    const std::optional<std::int64_t> lag_ms = lags_ms.at(number);
    instruments_.metrics
        .GetGauge("fuseline_sessionizer_stream_time_lag_ms", "how far a partition's stream time is behind the latest; +Inf: it has none",
                  {{"partition", label}})
        .Set(lag_ms ? static_cast<double>(*lag_ms) : std::numeric_limits<double>::infinity());
  }
  instruments_.metrics
      .GetGauge("fuseline_learner_waits_for_partition", "partition whose stream time sessions of the others wait for; -1: none")
      .Set(status.waits_for_partition().value_or(-1));
  instruments_.metrics.GetGauge("fuseline_learner_learned_through_ms", "stream time of the last session learned from")
      .Set(static_cast<double>(status.learner.learned_through_ms));
  instruments_.metrics
      .GetGauge("fuseline_learner_repeats_differing", "repeated sessions with other contents than the first time: somebody must look")
      .Set(static_cast<double>(status.learner.repeats_differing));
  instruments_.metrics.GetGauge("fuseline_policy_store_live_version", "version that the alias live points to")
      .Set(static_cast<double>(status.publication.live_version));
  if (status.scorer_publication) {
    instruments_.metrics.GetGauge("fuseline_scorer_live_version", "version that the scorer's alias live points to")
        .Set(static_cast<double>(status.scorer_publication->live_version));
  }
  std::uint64_t current = 0, others = 0;
  for (const auto& [ranker, word] : status.publication.rankers) {
    ++(word.version == status.publication.live_version ? current : others);
  }
  const auto set_rankers = [&](const std::string& at, std::uint64_t count) {
    instruments_.metrics.GetGauge("fuseline_policy_store_rankers", "rankers by the version that they acknowledged last", {{"at", at}})
        .Set(static_cast<double>(count));
  };
  set_rankers("live", current);
  set_rankers("another", others);
  instruments_.metrics.GetGauge("fuseline_policy_store_live_pinned", "1 while somebody holds the alias live where it is")
      .Set(status.publication.pin ? 1 : 0);
  return instruments_.metrics.Text();
}

}  // namespace fuseline
