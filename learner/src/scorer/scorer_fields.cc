#include <algorithm>
#include <sstream>

#include "fuseline/core/digest.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/settings.h"
#include "scorer/scorer_model.h"

namespace fuseline {
namespace {

Result<std::vector<v1::Task>> TasksOf(const v1::Config& config, const v1::FeatureSchema& schema) {
  std::vector<v1::Task> tasks;
  std::istringstream text(config.scorer().tasks());
  for (std::string name; std::getline(text, name, ',');) {
    const auto named = [&](const v1::Task& one) { return one.name() == name; };
    const auto task = std::ranges::find_if(schema.tasks(), named);
    if (task == schema.tasks().end()) return Error(Code::kInvalidInput, "scorer.tasks names a task that the schema does not have:", name);
    if (std::ranges::any_of(tasks, named)) return Error(Code::kInvalidInput, "scorer.tasks names a task twice:", name);
    tasks.push_back(*task);
  }
  if (tasks.empty()) return Error(Code::kInvalidInput, "scorer.tasks names no task");
  return tasks;
}

}  // namespace

Result<ScorerFields> ScorerFields::Create(const v1::Config& config) {
  const v1::FeatureSchema schema = SchemaOf(config);
  const ScorerSizes sizes = SizesOf(config.scorer());
  ScorerFields fields;
  FUSELINE_ASSIGN_OR_FAIL(const auto tasks, TasksOf(config, schema));
  for (const v1::Task& task : tasks) {
    fields.tasks_.push_back(task.name());
    fields.ranges_.emplace_back(task.min(), task.max());
  }
  v1::ScorerShape& shape = fields.shape_;
  // In the order in which Append takes them: the user's, the context's, the item's.
  const std::pair<v1::FeatureScope, Scope*> scopes[] = {
      {v1::USER, &fields.user_}, {v1::CONTEXT, &fields.context_}, {v1::ITEM, &fields.item_}};
  for (const auto& [which, scope] : scopes) {
    for (const v1::Feature& feature : schema.features()) {
      if (feature.scope() != which) continue;
      if (feature.has_categorical()) {
        scope->fields.push_back(static_cast<std::size_t>(shape.buckets_size()));
        scope->absent_ids.push_back(feature.categorical().default_value());
        shape.add_buckets(feature.categorical().buckets());
      } else {
        scope->absent_dense.insert(scope->absent_dense.end(), feature.dense().width(), feature.dense().default_value());
      }
    }
    shape.set_dense_width(shape.dense_width() + static_cast<std::uint32_t>(scope->absent_dense.size()));
  }
  shape.set_user_id(config.scorer().user_buckets() > 0);
  shape.set_item_id(config.scorer().item_buckets() > 0);
  for (const std::int64_t buckets : {config.scorer().user_buckets(), config.scorer().item_buckets()})
    if (buckets > 0) shape.add_buckets(static_cast<std::uint32_t>(buckets));
  std::uint32_t first = 0;
  for (const std::uint32_t buckets : shape.buckets()) {
    fields.first_row_.push_back(first);
    first += buckets + 1;
  }
  shape.set_embedding_width(static_cast<std::uint32_t>(sizes.embedding_width));
  shape.mutable_bottom()->Add(sizes.bottom.begin(), sizes.bottom.end());
  shape.mutable_tower()->Add(sizes.tower.begin(), sizes.tower.end());
  shape.set_experts(static_cast<std::uint32_t>(sizes.experts));
  shape.set_task_experts(static_cast<std::uint32_t>(sizes.task_experts));
  shape.set_min_frequency(static_cast<std::uint32_t>(config.scorer().min_frequency()));
  shape.set_rate_prior(config.scorer().rate_prior());
  return fields;
}

ScorerRows ScorerFields::NoRows() const {
  ScorerRows rows;
  rows.id_fields = first_row_.size();
  rows.dense_width = shape_.dense_width();
  rows.tasks = tasks_.size();
  return rows;
}

float ScorerFields::ShareOf(std::size_t task, float value) const {
  const auto [min, max] = ranges_[task];
  return (std::clamp(value, min, max) - min) / (max - min);
}

float ScorerFields::ValueOf(std::size_t task, float share) const {
  const auto [min, max] = ranges_[task];
  return min + share * (max - min);
}

std::uint32_t ScorerFields::RowOf(std::size_t field, std::uint64_t id) const {
  return ScorerRowOf(first_row_[field], shape_.buckets(static_cast<int>(field)), id);
}

Status ScorerFields::Append(const FeatureView& user, const FeatureView& context, const FeatureView& item, std::string_view user_id,
                            std::string_view item_id, ScorerRows* rows) const {
  const std::pair<const Scope*, const FeatureView*> scopes[] = {{&user_, &user}, {&context_, &context}, {&item_, &item}};
  for (const auto& [scope, values] : scopes) {
    if (values->dense.empty() && values->ids.empty()) continue;
    if (values->dense.size() != scope->absent_dense.size() || values->ids.size() != scope->fields.size()) {
      return ErrorStatus(Code::kInvalidInput, "number of feature values disagrees with the schema: dense", values->dense.size(),
                         "instead of", scope->absent_dense.size(), "ids", values->ids.size(), "instead of", scope->fields.size());
    }
    if (!AllFinite(values->dense)) return ErrorStatus(Code::kInvalidInput, "a dense feature is not finite");
  }
  for (const auto& [scope, values] : scopes) {
    const bool absent = values->dense.empty() && values->ids.empty();
    const std::span<const float> dense = absent ? std::span<const float>(scope->absent_dense) : values->dense;
    const std::span<const std::uint64_t> ids = absent ? std::span<const std::uint64_t>(scope->absent_ids) : values->ids;
    rows->dense.insert(rows->dense.end(), dense.begin(), dense.end());
    for (std::size_t i = 0; i < ids.size(); ++i) rows->ids.push_back(RowOf(scope->fields[i], ids[i]));
  }
  std::size_t field = first_row_.size() - (shape_.user_id() ? 1 : 0) - (shape_.item_id() ? 1 : 0);
  if (shape_.user_id()) rows->ids.push_back(RowOf(field++, Fnv1a64(user_id)));
  if (shape_.item_id()) rows->ids.push_back(RowOf(field, Fnv1a64(item_id)));
  return OkStatus();
}

}  // namespace fuseline
