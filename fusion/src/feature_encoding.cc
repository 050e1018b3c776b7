#include "fuseline/fusion/feature_encoding.h"

#include <algorithm>
#include <bit>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

// One round of SplitMix64 (Steele, Lea, Flood 2014): neighbouring ids land in unrelated buckets.
std::uint64_t HashId(std::uint64_t id) {
  std::uint64_t z = id + 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// Rows are short: what a call costs would be most of it, so these are inlined, and loops stay loops (CMakeLists.txt).
[[gnu::always_inline]] inline bool NothingBeyond(std::span<const float> values) {
  constexpr std::uint32_t kExponent = 0x7f800000;  // All ones: infinite or NaN. In integers, since only they are compared side by side.
  std::uint32_t beyond = 0;
  for (const float value : values) beyond |= (std::bit_cast<std::uint32_t>(value) & kExponent) == kExponent ? 1U : 0U;
  return beyond == 0;
}

[[gnu::always_inline]] inline void Copy(const float* from, std::size_t count, float* to) {
  for (std::size_t i = 0; i < count; ++i) to[i] = from[i];
}

std::size_t FirstBeyond(std::span<const float> values) {
  const auto beyond = [](const float& value) { return !NothingBeyond({&value, 1}); };
  return static_cast<std::size_t>(std::find_if(values.begin(), values.end(), beyond) - values.begin());
}

}  // namespace

bool AllFinite(std::span<const float> values) { return NothingBeyond(values); }

FeatureView ViewOf(const v1::Features& features) {
  return {{features.dense().data(), static_cast<std::size_t>(features.dense_size())},
          {features.ids().data(), static_cast<std::size_t>(features.ids_size())}};
}

CandidateView ViewOf(const v1::ExposedItem& item) {
  return {ViewOf(item.item_features()),
          {item.task_scores().data(), static_cast<std::size_t>(item.task_scores_size())}};
}

FeatureEncoder::FeatureEncoder(const v1::FeatureSchema& schema) {
  for (const auto& feature : schema.features()) {
    Scope& scope = feature.scope() == v1::USER ? user_ : feature.scope() == v1::CONTEXT ? context_ : item_;
    if (feature.has_categorical()) {
      const auto& type = feature.categorical();
      scope.runs.push_back({true, type.buckets()});
      scope.ids += 1;
      scope.columns += type.buckets();
      scope.absent.resize(scope.columns, 0.0F);
      scope.absent[scope.columns - type.buckets() + HashId(type.default_value()) % type.buckets()] = 1.0F;
    } else {
      const auto& type = feature.dense();
      if (scope.runs.empty() || scope.runs.back().categorical) scope.runs.push_back({false, 0});
      scope.runs.back().width += type.width();
      scope.dense += type.width();
      scope.columns += type.width();
      scope.absent.resize(scope.columns, type.default_value());
    }
  }
  for (const auto& task : schema.tasks()) tasks_.push_back({task.min(), task.max()});
  for (const Scope* scope : {&user_, &context_, &item_}) {
    for (const Run& run : scope->runs) scalable_columns_.insert(scalable_columns_.end(), run.width, !run.categorical);
  }
  scalable_columns_.insert(scalable_columns_.end(), tasks_.size(), true);
}

Status FeatureEncoder::EncodeShared(const FeatureView& user, const FeatureView& context, std::span<float> out) const {
  FUSELINE_CHECK(out.size() == shared_width());
  FUSELINE_RETURN_IF_ERROR(EncodeScope(user_, user, out.first(user_.columns)));
  return EncodeScope(context_, context, out.subspan(user_.columns));
}

Status FeatureEncoder::EncodeItem(const CandidateView& item, std::span<float> out) const {
  FUSELINE_CHECK(out.size() == item_width());
  FUSELINE_RETURN_IF_ERROR(EncodeScope(item_, item.features, out.first(item_.columns)));
  if (item.task_scores.size() != tasks_.size()) {
    return ErrorStatus(Code::kInvalidInput, "number of task scores disagrees with the schema:", item.task_scores.size(),
                       "instead of", tasks_.size());
  }
  if (!NothingBeyond(item.task_scores)) {
    return ErrorStatus(Code::kInvalidInput, "task score is not finite: task", FirstBeyond(item.task_scores));
  }
  float* const scores = out.data() + item_.columns;
  for (std::size_t i = 0; i < tasks_.size(); ++i) scores[i] = std::clamp(item.task_scores[i], tasks_[i].min, tasks_[i].max);
  return OkStatus();
}

std::size_t FeatureEncoder::ClampTaskScores(std::span<float> task_scores) const {
  FUSELINE_CHECK(task_scores.size() == tasks_.size());
  std::size_t clamped = 0;
  for (std::size_t i = 0; i < task_scores.size(); ++i) {
    const float inside = std::clamp(task_scores[i], tasks_[i].min, tasks_[i].max);
    clamped += inside != task_scores[i] ? 1 : 0;
    task_scores[i] = inside;
  }
  return clamped;
}

Status FeatureEncoder::EncodeScope(const Scope& scope, const FeatureView& values, std::span<float> out) {
  const bool absent = values.dense.empty() && values.ids.empty();
  if (!absent && (values.dense.size() != scope.dense || values.ids.size() != scope.ids)) {
    return ErrorStatus(Code::kInvalidInput, "number of feature values disagrees with the schema: dense", values.dense.size(),
                       "instead of", scope.dense, "ids", values.ids.size(), "instead of", scope.ids);
  }
  if (absent) {
    Copy(scope.absent.data(), scope.absent.size(), out.data());
    return OkStatus();
  }
  if (!NothingBeyond(values.dense)) {
    return ErrorStatus(Code::kInvalidInput, "dense feature is not finite: value", FirstBeyond(values.dense));
  }
  float* column = out.data();
  const float* dense = values.dense.data();
  const std::uint64_t* id = values.ids.data();
  for (const Run& run : scope.runs) {
    if (run.categorical) {
      for (std::uint32_t i = 0; i < run.width; ++i) column[i] = 0.0F;
      column[HashId(*id++) % run.width] = 1.0F;
    } else {
      Copy(dense, run.width, column);
      dense += run.width;
    }
    column += run.width;
  }
  return OkStatus();
}

}  // namespace fuseline
