#include "scorer_data.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "fuseline/proto/schema.h"
#include "scorer_run.h"

namespace fuseline {
namespace {

constexpr std::array<const char*, kKuaiRandTasks> kNames = {"click", "long_view", "like", "comment", "forward", "watch"};

FeatureView FeaturesOf(const std::unordered_map<std::uint64_t, v1::Features>& table, std::uint64_t id) {
  const auto found = table.find(id);
  return found == table.end() ? FeatureView{} : ViewOf(found->second);
}

Status AppendImpression(const KuaiRandImpressions& all, const KuaiRandImpression& one, const ScorerFields& fields,
                        ScorerRows* rows) {
  return fields.Append(FeaturesOf(all.users, one.user_id), ViewOf(one.context), FeaturesOf(all.videos, one.video_id),
                       std::to_string(one.user_id), std::to_string(one.video_id), rows);
}

// Appends whole impressions, and numbers their sessions.
class Gatherer {
 public:
  Gatherer(const KuaiRandImpressions& all, const ScorerFields& fields, const std::vector<std::size_t>& tasks,
           ScorerRows* rows)
      : all_(all), fields_(fields), tasks_(tasks), rows_(rows) {}

  Status Take(const KuaiRandImpression& one) {
    FUSELINE_RETURN_IF_ERROR(AppendImpression(all_, one, fields_, rows_));
    for (std::size_t k = 0; k < tasks_.size(); ++k) rows_->labels.push_back(fields_.ShareOf(k, one.outcomes[tasks_[k]]));
    const auto number = static_cast<std::uint32_t>(sessions_.size());
    const auto session = sessions_.try_emplace({one.user_id, one.local_day}, number).first;
    rows_->session.push_back(session->second);
    rows_->time_ms.push_back(one.time_ms);
    rows_->known_ms.push_back(one.known_ms);
    return OkStatus();
  }

 private:
  const KuaiRandImpressions& all_;
  const ScorerFields& fields_;
  const std::vector<std::size_t>& tasks_;
  ScorerRows* const rows_;
  std::map<std::pair<std::uint64_t, std::int64_t>, std::uint32_t> sessions_;
};

}  // namespace

SessionLengths LengthsOf(const ScorerRows& rows, std::size_t begin, std::size_t end) {
  std::map<std::uint32_t, std::uint64_t> impressions;
  for (std::size_t row = begin; row < end; ++row) ++impressions[rows.session[row]];
  SessionLengths lengths{.sessions = impressions.size(), .impressions = end - begin};
  for (const auto& [session, length] : impressions) {
    lengths.longest = std::max(lengths.longest, length);
    ++lengths.shares[length <= 2 ? length - 1 : length <= 5 ? 2 : length <= 10 ? 3 : 4];
  }
  return lengths;
}

std::string LengthsText(const SessionLengths& lengths) {
  char text[200];
  const auto sessions = static_cast<double>(std::max<std::uint64_t>(lengths.sessions, 1));
  const auto share = [&](std::size_t i) { return 100.0 * static_cast<double>(lengths.shares[i]) / sessions; };
  std::snprintf(text, sizeof text,
                "%llu of %.2f impressions (1: %.0f %%, 2: %.0f %%, 3-5: %.0f %%, 6-10: %.0f %%, more: %.0f %%; longest %llu)",
                static_cast<unsigned long long>(lengths.sessions), static_cast<double>(lengths.impressions) / sessions,
                share(0), share(1), share(2), share(3), share(4), static_cast<unsigned long long>(lengths.longest));
  return text;
}

Result<std::vector<std::size_t>> KuaiRandTasksOf(const std::vector<std::string>& tasks) {
  std::vector<std::size_t> numbers;
  for (const std::string& task : tasks) {
    const auto found = std::ranges::find(kNames, task);
    if (found == kNames.end()) return Error(Code::kInvalidInput, "scorer.tasks names a task that is not KuaiRand's:", task);
    numbers.push_back(static_cast<std::size_t>(found - kNames.begin()));
  }
  return numbers;
}

Result<KuaiRandScorer> OpenKuaiRandScorer(const std::filesystem::path& folder) {
  FUSELINE_ASSIGN_OR_FAIL(const PolicyVersion stored, ReadScorer(folder));
  if (stored.manifest.schema_digest() != SchemaDigest(KuaiRandSchema()))
    return Error(Code::kInvalidInput, "the scorer is of another feature schema than KuaiRand's:", folder.string());
  // A scorer of the stream may have learned from any of the log's rows.
  if (stored.manifest.scorer().lineage().known_until_ms() <= 0)
    return Error(Code::kInvalidInput, "the scorer does not say until when it learned; one of train-scorer does:", folder.string());
  v1::Config config;
  if (!config.ParseFromString(stored.manifest.lineage().settings()))
    return Error(Code::kCorrupt, "the scorer's lineage holds no settings:", folder.string());
  FUSELINE_ASSIGN_OR_FAIL(const ScorerFields fields, ScorerFields::Create(config));
  KuaiRandScorer result{.learned_until_ms = stored.manifest.scorer().lineage().known_until_ms()};
  FUSELINE_ASSIGN_OR_FAIL(result.tasks, KuaiRandTasksOf(fields.tasks()));
  FUSELINE_ASSIGN_OR_FAIL(std::shared_ptr<const Scorer> scorer, Scorer::Load(stored));
  result.score = [scorer, fields](const KuaiRandImpressions& impressions) -> Result<std::vector<float>> {
    ScorerRows rows = fields.NoRows();
    for (const KuaiRandImpression& one : impressions.rows) {
      FUSELINE_FAIL_IF_ERROR(AppendImpression(impressions, one, fields, &rows));
    }
    FUSELINE_ASSIGN_OR_FAIL(std::vector<float> scores, scorer->Score(rows, 0, impressions.rows.size()));
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = fields.ValueOf(i % rows.tasks, scores[i]);
    return scores;
  };
  return result;
}

Result<ScorerData> ReadScorerData(const KuaiRandFiles& files, int test_days, const v1::Config& config,
                                  const ScorerFields& fields, const ProgressFunction& progress) {
  FUSELINE_ASSIGN_OR_FAIL(const auto tasks, KuaiRandTasksOf(fields.tasks()));
  FUSELINE_ASSIGN_OR_FAIL(const auto all, ReadKuaiRandImpressions(files, {}, test_days, progress));
  const std::int64_t test_day = all.rows.back().local_day + 1 - test_days, test_begin_ms = KuaiRandDayBeginMs(test_day);
  ScorerData data;
  data.rows = fields.NoRows();
  data.duplicate_rows = all.duplicate_rows;
  data.train_days = test_day - all.rows.front().local_day;
  Gatherer gatherer(all, fields, tasks, &data.rows);
  for (const KuaiRandImpression& one : all.rows) {
    const bool tests = one.local_day >= test_day;
    if (!tests && one.known_ms >= test_begin_ms) {
      ++data.known_too_late;
      continue;
    }
    if (!tests) data.test_begin = data.rows.size() + 1;  // Days are in order: the test's stand behind all others.
    FUSELINE_FAIL_IF_ERROR(gatherer.Take(one));
    if (!tests) continue;
    for (std::size_t k = 0; k < tasks.size(); ++k) {
      data.rates.push_back(fields.ShareOf(k, one.rates[tasks[k]]));
      data.frozen_rates.push_back(fields.ShareOf(k, one.frozen_rates[tasks[k]]));
    }
  }
  if (data.test_begin == 0)
    return Error(Code::kInvalidInput, "the log has too few local days to judge by the last", test_days,
                 "of them:", files.log.string());
  const double share = config.scorer().validation_share();
  const auto validation = static_cast<std::size_t>(share * static_cast<double>(data.test_begin));
  data.split = {.train_end = data.test_begin - validation, .validation_end = data.test_begin};
  data.train_sessions = LengthsOf(data.rows, 0, data.test_begin);
  data.test_sessions = LengthsOf(data.rows, data.test_begin, data.rows.size());
  return data;
}

}  // namespace fuseline
