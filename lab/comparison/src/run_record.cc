#include "fuseline/comparison/run_record.h"

#include <nlohmann/json.hpp>

namespace fuseline {
namespace {

constexpr int kFormat = 1;

using Json = nlohmann::json;

Json ToJson(const ReturnFigures& figures) {
  return {{"sessions", figures.sessions},
          {"mean_return", figures.mean_return},
          {"valid", figures.valid},
          {"watch_s", figures.watch_s},
          {"requests", figures.requests}};
}

ReturnFigures FiguresOf(const Json& json) {
  return {.sessions = json.at("sessions"),
          .mean_return = json.at("mean_return"),
          .valid = json.at("valid"),
          .watch_s = json.at("watch_s"),
          .requests = json.at("requests")};
}

}  // namespace

double RunRecord::gap_closed() const {
  const double gap = best.mean_return - fixed.mean_return;
  return gap == 0 ? 0 : (learned.mean_return - fixed.mean_return) / gap;
}

std::string PrintRunRecord(const RunRecord& record) {
  Json curve = Json::array();
  for (const CurvePoint& point : record.curve) {
    curve.push_back({{"sessions", point.sessions},
                     {"figures", ToJson(point.figures)},
                     {"accepted_share", point.accepted_share},
                     {"versions", point.versions}});
  }
  const Json json = {{"format", kFormat},
                     {"world", record.world},
                     {"algorithm", record.algorithm},
                     {"preset", record.preset},
                     {"seed", record.seed},
                     {"sessions", record.sessions},
                     {"settings_digest", record.settings_digest},
                     {"build", record.build},
                     {"curve", curve},
                     {"learned", ToJson(record.learned)},
                     {"static", ToJson(record.fixed)},
                     {"best", ToJson(record.best)},
                     {"best_is_optimal", record.best_is_optimal},
                     {"action_mean", record.action_mean},
                     {"action_deviation", record.action_deviation},
                     {"versions", record.versions},
                     {"versions_accepted", record.versions_accepted},
                     {"live_version", record.live_version},
                     {"transitions", record.transitions},
                     {"steps", record.steps},
                     {"weights_sha256", record.weights_sha256},
                     {"wall_s", record.wall_s}};
  return json.dump(1) + "\n";
}

Result<RunRecord> ParseRunRecord(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("format") != kFormat) return Error(Code::kCorrupt, "run record of another format:", json.at("format").dump());
    RunRecord record{.world = json.at("world"),
                     .algorithm = json.at("algorithm"),
                     .preset = json.at("preset"),
                     .seed = json.at("seed"),
                     .sessions = json.at("sessions"),
                     .settings_digest = json.at("settings_digest"),
                     .build = json.at("build"),
                     .curve = {},
                     .learned = FiguresOf(json.at("learned")),
                     .fixed = FiguresOf(json.at("static")),
                     .best = FiguresOf(json.at("best")),
                     .best_is_optimal = json.at("best_is_optimal"),
                     .action_mean = json.at("action_mean"),
                     .action_deviation = json.at("action_deviation"),
                     .versions = json.at("versions"),
                     .versions_accepted = json.at("versions_accepted"),
                     .live_version = json.at("live_version"),
                     .transitions = json.at("transitions"),
                     .steps = json.at("steps"),
                     .weights_sha256 = json.at("weights_sha256"),
                     .wall_s = json.at("wall_s")};
    for (const Json& point : json.at("curve")) {
      record.curve.push_back({.sessions = point.at("sessions"),
                              .figures = FiguresOf(point.at("figures")),
                              .accepted_share = point.at("accepted_share"),
                              .versions = point.at("versions")});
    }
    return record;
  } catch (const Json::exception& error) {
    return Error(Code::kCorrupt, "no run record:", error.what());
  }
}

}  // namespace fuseline
