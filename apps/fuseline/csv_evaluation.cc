#include "csv_evaluation.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "fuseline/datasets/csv_reader.h"
#include "fuseline/learner/estimators.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kIntervalKind = "normal approximation, rows independent; snips and sndr by the delta method";

// Numbers of one row, by column; the first cell that is none is remembered.
class Cells {
 public:
  explicit Cells(const CsvReader& reader) : reader_(reader) {
    if (reader.fields().empty()) Refuse("a quote is not closed, or the number of fields is not the header's");
  }

  // A finite decimal number; 0 where the file has no such column.
  double Number(std::size_t column) {
    if (!error_.empty() || !reader_.has(column)) return 0;
    std::string_view text = reader_.fields()[column];
    if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
    double value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) Refuse(column, "is no finite number");
    return value;
  }
  std::string_view Text(std::size_t column) const { return error_.empty() ? reader_.fields()[column] : std::string_view(); }

  void Refuse(std::size_t column, const std::string& why) {
    Refuse(reader_.ColumnName(column) + " " + why + ": \"" + std::string(reader_.fields()[column].substr(0, 80)) + '"');
  }
  Status status() const {
    return error_.empty() ? OkStatus() : ErrorStatus(Code::kInvalidInput, reader_.Where() + ":", error_);
  }
  void Refuse(const std::string& error) {
    if (error_.empty()) error_ = error;
  }

 private:
  const CsvReader& reader_;
  std::string error_;
};

using RowTaker = std::function<void(Cells&)>;

// Every row of the file, until one is refused. Errors: kInvalidInput naming the line.
Status TakeRows(CsvReader& reader, const RowTaker& take) {
  std::uint64_t rows = 0;
  for (;; ++rows) {
    FUSELINE_ASSIGN_OR_RETURN(const bool any, reader.Next());
    if (!any) break;
    Cells cells(reader);
    take(cells);
    FUSELINE_RETURN_IF_ERROR(cells.status());
  }
  return rows > 0 ? OkStatus() : ErrorStatus(Code::kInvalidInput, reader.Where() + ":", "there is a header but no row");
}

Json ValueOf(const std::optional<Estimate>& estimate) { return estimate ? Json(estimate->value) : Json(); }

Json IntervalOf(const std::optional<Estimate>& estimate) {
  const auto interval = estimate ? Interval95(*estimate) : std::nullopt;
  return interval ? Json(*interval) : Json();
}

}  // namespace

Result<std::string> OpeJson(const std::string& file, double clip) {
  enum Column : std::size_t { kReward, kBehaviour, kTarget, kQ, kV };
  FUSELINE_ASSIGN_OR_FAIL(
      CsvReader reader,
      CsvReader::Open(file, {"reward", "behaviour_density", "target_density"}, {"q_logged", "v_target"}));
  OffPolicyEstimator estimator(clip);
  FUSELINE_FAIL_IF_ERROR(TakeRows(reader, [&](Cells& cells) {
    const double reward = cells.Number(kReward), q = cells.Number(kQ), v = cells.Number(kV);
    const auto ratio = DensityRatio(cells.Number(kBehaviour), cells.Number(kTarget));
    if (!ratio) return cells.Refuse(ratio.error().message);
    estimator.Add(*ratio, reward, q, v);
    estimator.CloseCluster();
  }));
  OffPolicyEstimates found = estimator.Finish();
  if (!reader.has(kQ) || !reader.has(kV)) found.dr = found.sndr = std::nullopt;
  return Json{{"n", found.rows},
              {"ips", ValueOf(found.ips)},
              {"snips", ValueOf(found.snips)},
              {"clipped_ips", ValueOf(found.clipped_ips)},
              {"dr", ValueOf(found.dr)},
              {"sndr", ValueOf(found.sndr)},
              {"ess", found.ess ? Json(*found.ess) : Json()},
              {"intervals",
               {{"level", 0.95},
                {"kind", kIntervalKind},
                {"ips", IntervalOf(found.ips)},
                {"snips", IntervalOf(found.snips)},
                {"clipped_ips", IntervalOf(found.clipped_ips)},
                {"dr", IntervalOf(found.dr)},
                {"sndr", IntervalOf(found.sndr)}}}}
      .dump();
}

Result<std::string> GaucJson(const std::string& file) {
  enum Column : std::size_t { kUser, kLabel, kScore, kWeight };
  FUSELINE_ASSIGN_OR_FAIL(CsvReader reader, CsvReader::Open(file, {"user", "label", "score"}, {"weight"}));
  std::unordered_map<std::string, std::uint64_t> users;
  std::vector<ScoredPair> pairs;
  FUSELINE_FAIL_IF_ERROR(TakeRows(reader, [&](Cells& cells) {
    const double label = cells.Number(kLabel), score = cells.Number(kScore);
    const double weight = reader.has(kWeight) ? cells.Number(kWeight) : 1;
    if (label != 0 && label != 1) cells.Refuse(kLabel, "is neither 0 nor 1");
    if (weight < 0) cells.Refuse(kWeight, "is below zero");
    if (!cells.status().ok()) return;
    const std::uint64_t user = users.try_emplace(std::string(cells.Text(kUser)), users.size()).first->second;
    pairs.push_back({.user = user, .score = score, .weight = weight, .positive = label == 1});
  }));
  const RankingQuality quality = JudgeRanking(std::move(pairs));
  return Json{{"auc", quality.auc ? Json(*quality.auc) : Json()},
              {"gauc", ValueOf(quality.gauc)},
              {"users_used", quality.users_used}}
      .dump();
}

}  // namespace fuseline
