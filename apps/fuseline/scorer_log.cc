#include "scorer_log.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <utility>

#include "dead_letters_to_screen.h"
#include "fuseline/ingest/file_source.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "learning_input.h"
#include "starting_point.h"

namespace fuseline {
namespace {

constexpr std::int64_t kWaitMs = 100;
constexpr double kRateMin = 1e-6;

Result<std::unique_ptr<EventSource>> OpenSource(const v1::Config& config, const ScorerLog& log, DeadLetterSink* dead_letters) {
  if (!log.files.empty()) {
    FUSELINE_ASSIGN_OR_FAIL(auto files, FileSource::Open(FileSourceOptionsOf(config.ingest(), log.files), dead_letters));
    return std::unique_ptr<EventSource>(std::move(files));
  }
  FUSELINE_ASSIGN_OR_FAIL(const kafka::StartPosition from, ParseStartingPoint(log.from));
  KafkaSourceOptions options = KafkaSourceOptionsOf(config.kafka(), config.ingest());
  options.until_end = true;
  options.start = [from](kafka::Consumer&, std::int32_t) -> Result<kafka::StartPosition> { return from; };
  FUSELINE_ASSIGN_OR_FAIL(auto topic, KafkaSource::Open(std::move(options), dead_letters));
  return std::unique_ptr<EventSource>(std::move(topic));
}

// Events → sessions, by partition → rows, in the order in which sessions close.
class Reader {
 public:
  Reader(const v1::Config& config, const ScorerImpressions& impressions, const ScorerLog& log)
      : config_(config),
        impressions_(impressions),
        until_ms_(log.until_ms),
        impressions_max_(log.impressions_max),
        rows_(impressions.fields().NoRows()) {}

  Status Take(EventBatch batch) {
    const auto [found, is_new] = partitions_.try_emplace(batch.partition);
    if (is_new) {
      found->second = std::make_unique<PartitionSessions>(batch.partition, ShapeOf(config_.sessionizer()),
                                                          config_.sessionizer().max_trajectory_bytes());
    }
    for (Record& record : batch.records) {
      FUSELINE_ASSIGN_OR_RETURN(const auto processed, found->second->Process(record));
      FUSELINE_RETURN_IF_ERROR(Add(processed.closings));
    }
    found->second->Forget();
    return OkStatus();
  }

  Result<ScorerRows> Finish() {
    for (const auto& [partition, sessions] : partitions_) {
      FUSELINE_ASSIGN_OR_FAIL(const std::vector<Closing> flushed, sessions->Flush());
      FUSELINE_FAIL_IF_ERROR(Add(flushed));
    }
    return std::move(rows_);
  }
  const ScorerImpressions::LeftOut& left_out() const { return left_out_; }

 private:
  Status Add(const std::vector<Closing>& closings) {
    for (const Closing& closing : closings) {
      v1::Trajectory trajectory;
      if (!closing.name) continue;
      if (!trajectory.ParseFromString(closing.trajectory)) return ErrorStatus(Code::kInternal, "a session cannot be read again");
      ++session_;
      for (int t = 0; t < trajectory.steps_size(); ++t) AddStep(trajectory, t);
      if (rows_.size() > impressions_max_) {
        return ErrorStatus(Code::kInvalidInput, "the log has more impressions than --impressions-max, which are all held in memory:",
                           impressions_max_);
      }
    }
    return OkStatus();
  }

  void AddStep(const v1::Trajectory& trajectory, int t) {
    const v1::Step& step = trajectory.steps(t);
    if (step.event_time_ms() >= until_ms_) return;
    if (!ScorerImpressions::IsKnown(trajectory, t)) {
      left_out_["flushed_last"] += static_cast<std::uint64_t>(step.exposure().items_size());
      return;
    }
    const std::size_t appended = impressions_.Append(step.exposure(), &step.rewards(), trajectory.user_id(), &rows_, &left_out_);
    const std::size_t size = rows_.session.size() + appended;
    rows_.session.resize(size, session_);
    rows_.time_ms.resize(size, step.event_time_ms());
    rows_.known_ms.resize(size, std::max(trajectory.stream_time_ms(), step.event_time_ms()));
    rows_.goes_on.resize(size, 1);
    const bool ends = t == trajectory.steps_size() - 1 && trajectory.end() == v1::TERMINATED;
    if (ends && appended > 0) rows_.goes_on.back() = 0;
  }

  const v1::Config& config_;
  const ScorerImpressions& impressions_;
  const std::int64_t until_ms_;
  const std::uint64_t impressions_max_;
  std::map<std::int32_t, std::unique_ptr<PartitionSessions>> partitions_;
  ScorerRows rows_;
  ScorerImpressions::LeftOut left_out_;
  std::uint32_t session_ = 0;
};

// Rows `which` of `all`, in that order.
ScorerRows Chosen(const ScorerRows& all, const std::vector<std::size_t>& which) {
  ScorerRows rows;
  rows.id_fields = all.id_fields;
  rows.dense_width = all.dense_width;
  rows.tasks = all.tasks;
  const auto copy = [&](const auto& from, std::size_t width, auto& to) {
    to.reserve(which.size() * width);
    for (const std::size_t row : which) {
      const auto begin = from.begin() + static_cast<std::ptrdiff_t>(row * width);
      to.insert(to.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
    }
  };
  copy(all.ids, all.id_fields, rows.ids);
  copy(all.dense, all.dense_width, rows.dense);
  copy(all.labels, all.tasks, rows.labels);
  copy(all.session, 1, rows.session);
  copy(all.time_ms, 1, rows.time_ms);
  copy(all.known_ms, 1, rows.known_ms);
  copy(all.goes_on, 1, rows.goes_on);
  return rows;
}

// Of each task the mean outcome of what was known before a row, for all test rows.
void AddConstantRates(ScorerData& data) {
  const ScorerRows& rows = data.rows;
  std::vector<std::size_t> by_known(rows.size());
  std::iota(by_known.begin(), by_known.end(), std::size_t{0});
  std::ranges::stable_sort(by_known, {}, [&](std::size_t row) { return rows.known_ms[row]; });
  std::vector<double> sums(rows.tasks, 0.0);
  double known = 0;
  const auto append = [&](std::vector<float>& to) {
    for (const double sum : sums) to.push_back(static_cast<float>(std::clamp((sum + 0.5) / (known + 1), kRateMin, 1 - kRateMin)));
  };
  std::vector<float> frozen;
  auto next = by_known.begin();
  for (std::size_t row = data.test_begin; row < rows.size(); ++row) {
    for (; next != by_known.end() && rows.known_ms[*next] < rows.time_ms[row]; ++next) {
      known += 1;
      for (std::size_t k = 0; k < rows.tasks; ++k) sums[k] += static_cast<double>(rows.labels[*next * rows.tasks + k]);
    }
    append(data.rates);
    if (frozen.empty()) append(frozen);
    data.frozen_rates.insert(data.frozen_rates.end(), frozen.begin(), frozen.end());
  }
}

Result<ScorerData> Split(ScorerRows all, double test_share, double validation_share) {
  std::vector<std::size_t> order(all.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t row) { return all.time_ms[row]; });
  const auto test = static_cast<std::size_t>(test_share * static_cast<double>(order.size()));
  if (test == 0) return Error(Code::kInvalidInput, "the log has too few impressions to judge by the last of them:", order.size());
  const std::int64_t test_begin_ms = all.time_ms[order[order.size() - test]];
  ScorerData data;
  std::vector<std::size_t> kept;
  for (const std::size_t row : order) {
    const bool tests = all.time_ms[row] >= test_begin_ms;
    if (!tests && all.known_ms[row] >= test_begin_ms) {
      ++data.known_too_late;
      continue;
    }
    if (!tests) ++data.test_begin;
    kept.push_back(row);
  }
  data.rows = Chosen(all, kept);
  if (data.test_begin == 0) {
    return Error(Code::kInvalidInput, "of no impression before the test the outcome was known when it begins: sessions close",
                 "sessionizer.gap_ms after their last event, so the log is too short, or --test-share too large");
  }
  const auto validation = static_cast<std::size_t>(validation_share * static_cast<double>(data.test_begin));
  data.split = {.train_end = data.test_begin - validation, .validation_end = data.test_begin};
  data.train_sessions = LengthsOf(data.rows, 0, data.test_begin);
  data.test_sessions = LengthsOf(data.rows, data.test_begin, data.rows.size());
  AddConstantRates(data);
  return data;
}

}  // namespace

Result<std::string> DescribeScorerLog(const v1::Config& config, const ScorerLog& log) {
  std::string words = DescribeFiles(log.files);
  if (log.files.empty()) {
    FUSELINE_ASSIGN_OR_FAIL(words, DescribeTopic(config, config.kafka().events_topic()));
    words += ", from " + log.from;
  }
  if (log.until_ms != std::numeric_limits<std::int64_t>::max()) words += ", until " + std::to_string(log.until_ms) + " ms";
  return words;
}

Result<ScorerData> ReadScorerLog(const v1::Config& config, const ScorerImpressions& impressions, const ScorerLog& log,
                                 const std::function<bool()>& stopped) {
  DeadLettersToScreen dead_letters;
  FUSELINE_ASSIGN_OR_FAIL(const auto source, OpenSource(config, log, &dead_letters));
  Reader reader(config, impressions, log);
  while (!source->finished()) {
    if (stopped()) return Error(Code::kUnavailable, "stopped while the log was read");
    FUSELINE_ASSIGN_OR_FAIL(std::optional<EventBatch> batch, source->Next(kWaitMs));
    if (batch) FUSELINE_FAIL_IF_ERROR(reader.Take(std::move(*batch)));
  }
  dead_letters.SayHowMany();
  FUSELINE_ASSIGN_OR_FAIL(ScorerRows rows, reader.Finish());
  FUSELINE_ASSIGN_OR_FAIL(ScorerData data, Split(std::move(rows), log.test_share, config.scorer().validation_share()));
  data.left_out = reader.left_out();
  return data;
}

}  // namespace fuseline
