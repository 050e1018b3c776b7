#include "fuseline/fusion/feature_encoding.h"

#include <algorithm>
#include <cmath>

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

}  // namespace

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
      scope.fields.push_back({true, type.buckets(), 0.0F, type.default_value()});
      scope.ids += 1;
      scope.columns += type.buckets();
    } else {
      const auto& type = feature.dense();
      scope.fields.push_back({false, type.width(), type.default_value(), 0});
      scope.dense += type.width();
      scope.columns += type.width();
    }
  }
  for (const auto& task : schema.tasks()) tasks_.push_back({task.min(), task.max()});
  for (const Scope* scope : {&user_, &context_, &item_}) {
    for (const Field& field : scope->fields) {
      scalable_columns_.insert(scalable_columns_.end(), field.width, !field.categorical);
    }
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
  const std::span<float> scores = out.subspan(item_.columns);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!std::isfinite(item.task_scores[i])) return ErrorStatus(Code::kInvalidInput, "task score is not finite: task", i);
    scores[i] = item.task_scores[i];
  }
  ClampTaskScores(scores);
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
  std::size_t column = 0;
  std::size_t dense = 0;
  std::size_t id = 0;
  for (const Field& field : scope.fields) {
    const std::span<float> columns = out.subspan(column, field.width);
    column += field.width;
    if (field.categorical) {
      std::fill(columns.begin(), columns.end(), 0.0F);
      columns[HashId(absent ? field.id_default : values.ids[id++]) % field.width] = 1.0F;
      continue;
    }
    for (float& value : columns) {
      value = absent ? field.dense_default : values.dense[dense++];
      if (!std::isfinite(value)) return ErrorStatus(Code::kInvalidInput, "dense feature is not finite: value", dense - 1);
    }
  }
  return OkStatus();
}

}  // namespace fuseline
