#include "scorer/input_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "fuseline/core/check.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/fusion/sparse_rows.h"

namespace fuseline {
namespace {

constexpr float kCountMax = 1U << 20U;  // Well below 2^24, where a float32 ends to count.

// A tensor's values, if it is there, of that size, and all of them lie in [min, max]; else null.
const std::vector<float>* ValuesIn(const TensorMap& tensors, const char* name, std::size_t size, float min, float max) {
  const auto found = tensors.find(name);
  if (found == tensors.end() || found->second.values.size() != size) return nullptr;
  const auto sound = [&](float value) { return value >= min && value <= max; };
  return std::ranges::all_of(found->second.values, sound) ? &found->second.values : nullptr;
}

// A table of counts [rows, width]. Errors: kCorrupt.
Result<std::vector<float>> CountsOf(const TensorMap& tensors, const std::string& name, std::size_t rows, std::size_t width) {
  FUSELINE_ASSIGN_OR_FAIL(std::vector<float> counts, UnpackRows(tensors, name, rows, width));
  if (std::ranges::all_of(counts, [](float count) { return count >= 0 && count <= kCountMax; })) return counts;
  return Error(Code::kCorrupt, "the scorer's weights hold an impossible count:", name);
}

}  // namespace

InputStatistics::InputStatistics(const v1::ScorerShape& shape, std::size_t tasks)
    : shape_(shape),
      tasks_(tasks),
      numbers_(ScorerNumbers(shape, tasks)),
      overall_(tasks, 0.0),
      statistics_(std::vector<bool>(numbers_, true)),
      normaliser_(Normaliser::Identity(numbers_)) {
  std::size_t rows = 0;
  for (const std::uint32_t buckets : shape.buckets()) {
    first_row_.push_back(static_cast<std::uint32_t>(rows));
    rows += buckets + 1;
  }
  frequency_.resize(rows, 0);
  if (shape_.rate_prior() <= 0) return;
  seen_.resize(rows, 0);
  outcomes_.resize(rows * tasks_, 0);
}

std::vector<float> InputStatistics::Rates() const {
  if (!loaded_rates_.empty()) return loaded_rates_;
  std::vector<float> rates;
  for (const double sum : overall_) {
    const double rate = (sum + 0.5) / (overall_seen_ + 1);
    rates.push_back(static_cast<float>(std::clamp(rate, kScorerRateMin, 1 - kScorerRateMin)));
  }
  return rates;
}

void InputStatistics::Numbers(const ScorerRows& rows, std::size_t row, std::vector<float>* out) const {
  const auto dense = rows.dense.begin() + static_cast<std::ptrdiff_t>(row * rows.dense_width);
  out->insert(out->end(), dense, dense + static_cast<std::ptrdiff_t>(rows.dense_width));
  if (seen_.empty()) return;
  const std::vector<float> rates = Rates();
  for (std::size_t f = 0; f < rows.id_fields; ++f) {
    const std::uint32_t id = rows.ids[row * rows.id_fields + f];
    out->resize(out->size() + tasks_ + 1);
    PastOfId(seen_[id], OutcomesOf(id), rates, shape_.rate_prior(), &(*out)[out->size() - tasks_ - 1]);
  }
}

void InputStatistics::CountInput(const ScorerRows& rows, std::size_t row, std::span<const float> numbers) {
  FUSELINE_CHECK(numbers.size() == numbers_);
  for (std::size_t f = 0; f < rows.id_fields; ++f) {
    float& frequency = frequency_[rows.ids[row * rows.id_fields + f]];
    frequency = std::min(frequency + 1, kCountMax);
  }
  statistics_.Add(numbers);
  stale_ = true;
}

void InputStatistics::CountOutcome(const ScorerRows& rows, std::size_t row) {
  if (seen_.empty()) return;
  const auto labels = std::span(rows.labels).subspan(row * tasks_, tasks_);
  for (std::size_t f = 0; f < rows.id_fields; ++f) {
    const std::uint32_t id = rows.ids[row * rows.id_fields + f];
    const auto outcomes = std::span(outcomes_).subspan(id * tasks_, tasks_);
    if (seen_[id] + 1 > kCountMax) {
      seen_[id] /= 2;
      for (float& outcome : outcomes) outcome /= 2;
    }
    seen_[id] += 1;
    for (std::size_t k = 0; k < tasks_; ++k) outcomes[k] = std::min(outcomes[k] + labels[k], seen_[id]);
  }
  if (overall_seen_ + 1 > static_cast<double>(kCountMax)) {
    overall_seen_ /= 2;
    for (double& sum : overall_) sum /= 2;
  }
  overall_seen_ += 1;
  for (std::size_t k = 0; k < tasks_; ++k) overall_[k] += static_cast<double>(labels[k]);
}

const Normaliser& InputStatistics::NormaliserNow() const {
  if (stale_) normaliser_ = statistics_.Finish();
  stale_ = false;
  return normaliser_;
}

ScorerBatch InputStatistics::Gather(const ScorerRows& rows, std::span<const std::size_t> which, std::span<const float> numbers) const {
  FUSELINE_CHECK(rows.id_fields == first_row_.size());
  const Normaliser& normaliser = NormaliserNow();
  const auto frequency_min = static_cast<float>(shape_.min_frequency());
  ScorerBatch batch;
  batch.size = which.size();
  for (const std::size_t row : which) {
    for (std::size_t f = 0; f < rows.id_fields; ++f) {
      const std::uint32_t id = rows.ids[row * rows.id_fields + f];
      batch.ids.push_back(frequency_[id] < frequency_min ? first_row_[f] : id);
    }
    if ((row + 1) * numbers_ <= numbers.size()) {
      const auto known = numbers.subspan(row * numbers_, numbers_);
      batch.dense.insert(batch.dense.end(), known.begin(), known.end());
    } else {
      Numbers(rows, row, &batch.dense);
    }
    normaliser.Apply(std::span(batch.dense).last(numbers_));
    if (rows.labels.empty()) continue;
    const auto labels = std::span(rows.labels).subspan(row * rows.tasks, rows.tasks);
    batch.labels.insert(batch.labels.end(), labels.begin(), labels.end());
  }
  batch.weights.assign(batch.labels.size(), 1.0F);
  return batch;
}

void InputStatistics::Export(TensorMap* tensors) const {
  const Normaliser& now = NormaliserNow();
  const std::vector<std::uint32_t> width = {static_cast<std::uint32_t>(numbers_)};
  PackRows("frequency", frequency_, 1, tensors);
  (*tensors)["normaliser.mean"] = {width, now.mean};
  (*tensors)["normaliser.scale"] = {width, now.scale};
  if (seen_.empty()) return;
  PackRows("seen", seen_, 1, tensors);
  PackRows("outcomes", outcomes_, tasks_, tensors);
  (*tensors)["rates"] = {{static_cast<std::uint32_t>(tasks_)}, Rates()};
}

Status InputStatistics::Import(const TensorMap& tensors) {
  constexpr float kAny = std::numeric_limits<float>::max();
  const auto* const mean = ValuesIn(tensors, "normaliser.mean", numbers_, -kAny, kAny);
  const auto* const scale = ValuesIn(tensors, "normaliser.scale", numbers_, 0, kAny);
  if (mean == nullptr || scale == nullptr)
    return ErrorStatus(Code::kCorrupt, "the scorer's weights lack its normaliser, or it is of another size or impossible");
  FUSELINE_ASSIGN_OR_RETURN(std::vector<float> frequency, CountsOf(tensors, "frequency", frequency_.size(), 1));
  if (!seen_.empty()) {
    FUSELINE_ASSIGN_OR_RETURN(std::vector<float> seen, CountsOf(tensors, "seen", seen_.size(), 1));
    FUSELINE_ASSIGN_OR_RETURN(std::vector<float> outcomes, CountsOf(tensors, "outcomes", seen_.size(), tasks_));
    const auto* const rates = ValuesIn(tensors, "rates", tasks_, std::numeric_limits<float>::min(), std::nextafter(1.0F, 0.0F));
    if (rates == nullptr) return ErrorStatus(Code::kCorrupt, "the scorer's weights lack overall rates, or these are impossible");
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      if (outcomes[i] > seen[i / tasks_]) return ErrorStatus(Code::kCorrupt, "the scorer's weights hold more outcomes than impressions");
    }
    seen_ = std::move(seen);
    outcomes_ = std::move(outcomes);
    loaded_rates_ = *rates;
  }
  frequency_ = std::move(frequency);
  normaliser_ = {*mean, *scale};
  stale_ = false;
  return OkStatus();
}

v1::ScorerInputState InputStatistics::Save(TensorMap* tensors) const {
  Export(tensors);
  v1::ScorerInputState state;
  state.mutable_normaliser()->set_count(statistics_.count());
  state.mutable_normaliser()->mutable_means()->Add(statistics_.means().begin(), statistics_.means().end());
  state.mutable_normaliser()->mutable_squares()->Add(statistics_.squares().begin(), statistics_.squares().end());
  state.set_seen(overall_seen_);
  state.mutable_outcomes()->Add(overall_.begin(), overall_.end());
  return state;
}

Status InputStatistics::Restore(const v1::ScorerInputState& state, const TensorMap& tensors) {
  const auto& normaliser = state.normaliser();
  if (static_cast<std::size_t>(normaliser.means_size()) != numbers_ || static_cast<std::size_t>(normaliser.squares_size()) != numbers_ ||
      static_cast<std::size_t>(state.outcomes_size()) != tasks_)
    return ErrorStatus(Code::kCorrupt, "the state of the scorer's inputs is of another size");
  FUSELINE_RETURN_IF_ERROR(Import(tensors));
  loaded_rates_.clear();
  statistics_.Restore(normaliser.count(), {normaliser.means().begin(), normaliser.means().end()},
                      {normaliser.squares().begin(), normaliser.squares().end()});
  stale_ = normaliser.count() > 0;
  overall_seen_ = state.seen();
  overall_.assign(state.outcomes().begin(), state.outcomes().end());
  return OkStatus();
}

}  // namespace fuseline
