#include "status_json.h"

#include <algorithm>
#include <iomanip>
#include <map>
#include <optional>
#include <sstream>

#include <nlohmann/json.hpp>

#include "fuseline/ingest/accounting.h"
#include "fuseline/proto/trajectory_name.h"
#include "time_text.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kRankersShown = 40;  // As text; JSON has them all.

Json ToJson(const v1::Accounting& accounting) { return Json::parse(AccountingJson(accounting)); }

Json ToJson(const Freshness::Quantiles& quantiles) {
  return {{"p50_ms", quantiles.p50_ms}, {"p99_ms", quantiles.p99_ms}, {"observations", quantiles.observations}};
}

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json PartitionsJson(const PipelineStatus& status) {
  Json partitions = Json::array();
  const auto lags_ms = status.stream_time_lags_ms();
  for (const auto& [number, partition] : status.partitions) {
    partitions.push_back({{"partition", number},
                          {"next_offset", partition.next_offset},
                          {"stream_time_ms", partition.stream_time_ms},
                          {"stream_time_lag_ms", OrNull(lags_ms.at(number))},
                          {"open_sessions", partition.open_sessions},
                          {"accounting", ToJson(partition.accounting)}});
  }
  return partitions;
}

Json LearnerJson(const PipelineStatus& status) {
  const LearnerProgress& learner = status.learner;
  Json names = Json::object();
  for (const auto& [partition, name] : status.learned_names) names[std::to_string(partition)] = NameText(name);
  Json left_out = Json::object();
  for (const auto& [reason, count] : learner.left_out) left_out[reason] = count;
  Json stopped = Json::object();
  for (const auto& [partition, reason] : status.stopped) stopped[std::to_string(partition)] = reason;
  return {{"trajectories", learner.trajectories},
          {"held_back", learner.held_back},
          {"transitions", learner.transitions},
          {"steps", learner.steps},
          {"steps_undone", learner.steps_undone},
          {"versions", learner.versions},
          {"versions_accepted", learner.versions_accepted},
          {"incumbent", learner.incumbent},
          {"incumbent_holds", learner.incumbent_holds},
          {"learned_through_ms", learner.learned_through_ms},
          {"progressive",
           {{"sessions", learner.progressive_sessions},
            {"gauc", learner.progressive_gauc},
            {"gauc_static", learner.progressive_gauc_static}}},
          {"learned_through", names},
          {"waiting", learner.waiting},
          {"repeats_differing", learner.repeats_differing},
          {"left_out", left_out},
          {"stopped", stopped},
          {"weights_sha256", status.weights_sha256}};
}

Json PublicationJson(const PublicationStatus& publication) {
  Json pin;
  if (publication.pin) {
    pin = {{"version", publication.pin->to_version()}, {"who", publication.pin->who()}, {"why", publication.pin->why()},
           {"wall_ms", publication.pin->wall_ms()}};
  }
  std::map<std::uint64_t, std::uint64_t> count_of;
  Json rankers = Json::array(), rankers_of_version = Json::object();
  for (const auto& [name, word] : publication.rankers) {
    ++count_of[word.version];
    rankers.push_back({{"name", name},
                       {"version", word.version},
                       {"change", word.change},
                       {"since_ms", word.since_ms},
                       {"seen_ms", word.seen_ms}});
  }
  for (const auto& [version, count] : count_of) rankers_of_version[std::to_string(version)] = count;
  return {{"connected", publication.connected},       {"epoch", publication.epoch},
          {"waiting", publication.waiting},           {"pin", pin},
          {"rankers_of_version", rankers_of_version}, {"rankers", rankers},
          {"last_error", publication.last_error}};
}

// Null where there is none; with its publication alone where none is learned. A figure of a task whose impressions lack a class is null.
Json ScorerJson(const PipelineStatus& status) {
  const PublicationStatus publication = status.scorer_publication.value_or(PublicationStatus());
  if (!status.learner.scorer && !status.scorer_publication) return {};
  if (!status.learner.scorer) return {{"live_version", publication.live_version}, {"publication", PublicationJson(publication)}};
  const ScorerProgress& scorer = *status.learner.scorer;
  const auto figures = [](double auc, double log_loss) {
    return Json{{"auc", auc < 0 ? Json() : Json(auc)}, {"log_loss", log_loss}};
  };
  Json tasks = Json::object(), left_out = Json::object();
  for (const ScorerProgress::Task& task : scorer.tasks) {
    tasks[task.task] = {{"plain", figures(task.auc, task.log_loss)}, {"weighted", figures(task.weighted_auc, task.weighted_log_loss)}};
  }
  for (const auto& [reason, count] : scorer.left_out) left_out[reason] = count;
  return {{"live_version", publication.live_version},
          {"phase", scorer.phase},
          {"impressions", scorer.impressions},
          {"held_back", scorer.held_back},
          {"steps", scorer.steps},
          {"steps_undone", scorer.steps_undone},
          {"versions", scorer.versions},
          {"versions_accepted", scorer.versions_accepted},
          {"critic_error", scorer.critic_error},
          {"progressive", {{"impressions", scorer.progressive_impressions}, {"tasks", tasks}}},
          {"left_out", left_out},
          {"publication", PublicationJson(publication)}};
}

std::string ScorerText(const Json& scorer) {
  std::ostringstream out;
  const bool learned = scorer.contains("phase");
  out << "scorer           version " << scorer["live_version"];
  if (learned) {
    out << "   made " << scorer["versions"] << "   accepted " << scorer["versions_accepted"] << "   " << scorer["phase"].get<std::string>()
        << ", impressions " << scorer["impressions"];
  }
  out << '\n';
  const auto figures = [](const Json& model) {
    std::ostringstream text;
    text << std::fixed << std::setprecision(4);
    if (model["auc"].is_null()) text << "auc none";
    else text << "auc " << model["auc"].get<double>();
    text << ", log loss " << model["log_loss"].get<double>();
    return text.str();
  };
  const Json tasks = learned ? scorer["progressive"]["tasks"] : Json::object();
  for (const auto& [task, models] : tasks.items()) {
    out << "scorer           " << std::left << std::setw(16) << task << "plain " << figures(models["plain"]) << "   weighted "
        << figures(models["weighted"]) << '\n';
  }
  const std::string error = scorer["publication"]["last_error"];
  if (!error.empty()) out << "scorer           publication: " << error << '\n';
  return out.str();
}

// One line each, those that are not at `live` first.
std::string RankersText(const Json& rankers, const Json& live) {
  std::vector<Json> lines(rankers.begin(), rankers.end());
  std::stable_partition(lines.begin(), lines.end(), [&](const Json& ranker) { return ranker["version"] != live; });
  std::ostringstream out;
  for (std::size_t i = 0; i < std::min(lines.size(), kRankersShown); ++i) {
    const Json& ranker = lines[i];
    const std::int64_t since_ms = ranker["since_ms"], seen_ms = ranker["seen_ms"];
    out << "ranker           " << ranker["name"].get<std::string>() << "  version " << ranker["version"];
    if (since_ms != 0) out << "  since " << TimeText(since_ms);
    if (seen_ms != 0) out << "  last heard of " << TimeText(seen_ms);
    out << '\n';
  }
  if (lines.size() > kRankersShown) out << "                 and " << lines.size() - kRankersShown << " more: --json\n";
  return out.str();
}

std::string BehindText(const Json& lag_ms) {
  if (lag_ms.is_null()) return "none yet";
  return lag_ms == 0 ? "newest" : lag_ms.dump() + " ms behind";
}

// What is live, who holds it there, which rankers have it, and how old it is. A process of before may not say all of it.
std::string LiveText(const Json& json) {
  std::ostringstream out;
  const Json &learner = json["learner"], &publication = json["publication"], &freshness = json["freshness"];
  const Json pin = publication.value("pin", Json()), rankers_of_version = publication.value("rankers_of_version", Json::object());
  out << "live_version     " << json["live_version"] << "   made " << learner["versions"] << "   accepted " << learner["versions_accepted"] << '\n';
  if (!pin.is_null()) {
    out << "pinned           at " << pin["version"] << " by " << pin["who"].get<std::string>() << ": " << pin["why"].get<std::string>() << '\n';
  }
  for (const auto& [version, rankers] : rankers_of_version.items()) {
    out << "rankers          " << rankers << " at version " << version << '\n';
  }
  out << RankersText(publication.value("rankers", Json::array()), json["live_version"]);
  if (freshness["sum"]["observations"] == 0) return out.str();
  for (const char* const stage : {"decision_delay", "trained", "published", "in_use", "pipeline_delay", "sum"}) {
    if (!freshness.contains(stage)) continue;
    out << "freshness        " << std::left << std::setw(16) << stage << "p50 " << freshness[stage]["p50_ms"] << " ms   p99 "
        << freshness[stage]["p99_ms"] << " ms\n";
  }
  return out.str();
}

}  // namespace

std::string StatusJson(const PipelineStatus& status, const Freshness::Report& freshness, bool running) {
  const v1::Accounting accounting = status.accounting();
  const Json json = {
      {"running", running},
      {"ingested", status.ingested},
      {"partitions", PartitionsJson(status)},
      {"accounting", ToJson(accounting)},
      {"accounting_balanced", IsBalanced(accounting)},
      {"sessions", accounting.sessions()},
      {"trajectories", accounting.trajectories()},
      {"learner_backlog", status.learner_backlog()},
      {"waits_for_partition", OrNull(status.waits_for_partition())},
      {"idle", status.idle},
      {"learner", LearnerJson(status)},
      {"live_version", status.publication.live_version},
      {"publication", PublicationJson(status.publication)},
      {"scorer", ScorerJson(status)},
      {"freshness",
       {{"decision_delay", ToJson(freshness.decision)},
        {"trained", ToJson(freshness.trained)},
        {"published", ToJson(freshness.published)},
        {"in_use", ToJson(freshness.in_use)},
        {"pipeline_delay", ToJson(freshness.pipeline)},
        {"sum", ToJson(freshness.sum)}}},
  };
  return json.dump();
}

Result<std::string> StatusText(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("partitions") || !json.contains("learner")) {
    return Error(Code::kInternal, "the answer is no status:", text.substr(0, 80));
  }
  std::ostringstream out;
  out << (json["running"].get<bool>() ? "running" : "not running; read from its state") << '\n';
  for (const Json& partition : json["partitions"]) {
    out << "next_offset      partition " << partition["partition"] << "  " << partition["next_offset"] << "   open sessions "
        << partition["open_sessions"] << "   stream time " << BehindText(partition["stream_time_lag_ms"]) << '\n';
  }
  if (const Json& partition = json["waits_for_partition"]; !partition.is_null()) {
    out << "waits_for        partition " << partition << ": sessions of the others wait until its stream time has passed theirs\n";
  }
  const Json& learner = json["learner"];
  out << "learned_through  " << learner["learned_through_ms"] << " ms   trajectories " << learner["trajectories"] << "   steps "
      << learner["steps"] << '\n';
  out << LiveText(json);
  if (const Json scorer = json.value("scorer", Json()); !scorer.is_null()) out << ScorerText(scorer);
  out << "accounting       " << (json["accounting_balanced"].get<bool>() ? "balanced" : "NOT BALANCED") << ' '
      << json["accounting"].dump() << '\n';
  for (const auto& [partition, reason] : learner["stopped"].items()) {
    out << "STOPPED          partition " << partition << ": " << reason.get<std::string>() << '\n';
  }
  const std::string error = json["publication"]["last_error"];
  if (!error.empty()) out << "publication      " << error << '\n';
  return out.str();
}

std::string ReplayJson(const PipelineStatus& status, const std::string& reward_comparison) {
  Json json = {{"accounting", ToJson(status.accounting())},
               {"sessions", status.accounting().sessions()},
               {"steps", status.learner.steps},
               {"versions", status.learner.versions},
               {"weights_sha256", status.weights_sha256}};
  if (status.learner.scorer) json["scorer"] = ScorerJson(status);
  if (!reward_comparison.empty()) json["rewards"] = Json::parse(reward_comparison);
  return json.dump();
}

}  // namespace fuseline
