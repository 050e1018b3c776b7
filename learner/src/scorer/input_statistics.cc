#include "scorer/input_statistics.h"

#include <algorithm>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr std::uint32_t kSeenMax = 1U << 24U;  // What a float32 still counts.

}  // namespace

InputStatistics::InputStatistics(const v1::ScorerShape& shape)
    : min_frequency_(shape.min_frequency()),
      statistics_(std::vector<bool>(shape.dense_width(), true)),
      normaliser_(Normaliser::Identity(shape.dense_width())) {
  std::size_t rows = 0;
  for (const std::uint32_t buckets : shape.buckets()) {
    first_row_.push_back(static_cast<std::uint32_t>(rows));
    rows += buckets + 1;
  }
  seen_.resize(rows, 0);
}

void InputStatistics::Observe(const ScorerRows& rows, std::size_t row) {
  for (std::size_t f = 0; f < rows.id_fields; ++f) {
    std::uint32_t& seen = seen_[rows.ids[row * rows.id_fields + f]];
    seen = std::min(seen + 1, kSeenMax);
  }
  statistics_.Add({rows.dense.data() + row * rows.dense_width, rows.dense_width});
  stale_ = true;
}

ScorerBatch InputStatistics::Gather(const ScorerRows& rows, std::span<const std::size_t> which) const {
  FUSELINE_CHECK(rows.id_fields == first_row_.size());
  if (stale_) normaliser_ = statistics_.Finish();
  stale_ = false;
  ScorerBatch batch;
  batch.size = which.size();
  const auto copy = [](const auto& from, std::size_t row, std::size_t width, auto& to) {
    const auto begin = from.begin() + static_cast<std::ptrdiff_t>(row * width);
    to.insert(to.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
  };
  for (const std::size_t row : which) {
    for (std::size_t f = 0; f < rows.id_fields; ++f) {
      const std::uint32_t id = rows.ids[row * rows.id_fields + f];
      batch.ids.push_back(seen_[id] < min_frequency_ ? first_row_[f] : id);
    }
    copy(rows.dense, row, rows.dense_width, batch.dense);
    normaliser_.Apply(std::span(batch.dense).last(rows.dense_width));
    if (!rows.labels.empty()) copy(rows.labels, row, rows.tasks, batch.labels);
  }
  batch.weights.assign(batch.labels.size(), 1.0F);
  return batch;
}

void InputStatistics::Export(TensorMap* tensors) const {
  const Normaliser now = stale_ ? statistics_.Finish() : normaliser_;
  const std::vector<std::uint32_t> width = {static_cast<std::uint32_t>(now.mean.size())};
  (*tensors)["seen"] = {{static_cast<std::uint32_t>(seen_.size())}, {seen_.begin(), seen_.end()}};
  (*tensors)["normaliser.mean"] = {width, now.mean};
  (*tensors)["normaliser.scale"] = {width, now.scale};
}

Status InputStatistics::Import(const TensorMap& tensors) {
  const auto sized = [&](const char* name, std::size_t values) -> const Tensor* {
    const auto found = tensors.find(name);
    return found == tensors.end() || found->second.values.size() != values ? nullptr : &found->second;
  };
  const Tensor* const seen = sized("seen", seen_.size());
  const Tensor* const mean = sized("normaliser.mean", normaliser_.mean.size());
  const Tensor* const scale = sized("normaliser.scale", normaliser_.scale.size());
  if (seen == nullptr || mean == nullptr || scale == nullptr)
    return ErrorStatus(Code::kCorrupt, "the scorer's weights lack counts or normaliser, or these have another size");
  for (std::size_t i = 0; i < seen_.size(); ++i) {
    if (!(seen->values[i] >= 0 && seen->values[i] <= static_cast<float>(kSeenMax)))
      return ErrorStatus(Code::kCorrupt, "the scorer's weights hold an impossible count");
    seen_[i] = static_cast<std::uint32_t>(seen->values[i]);
  }
  normaliser_ = {mean->values, scale->values};
  stale_ = false;
  return OkStatus();
}

}  // namespace fuseline
