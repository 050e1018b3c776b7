#include <algorithm>
#include <sstream>

#include "fuseline/core/digest.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/settings.h"
#include "scorer/scorer_model.h"

namespace fuseline {
namespace {

// Of a categorical feature, whatever the schema says: that counts columns of a policy's input, where a collision is cheap. A row costs
// nothing here until it is learned, and with 32 of them two of KuaiRand's fourteen tabs, clicked 8 % and 61 %, were one.
constexpr std::uint32_t kFewestBuckets = 4'096;

// With less, an id all of whose impressions had an outcome would have a rate of 1, whose log-odds are no number.
constexpr double kLeastPrior = 1e-3;

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
  for (const v1::FeatureScope scope : {v1::USER, v1::CONTEXT, v1::ITEM}) {
    for (const v1::Feature& feature : schema.features()) {
      if (feature.scope() != scope) continue;
      if (feature.has_categorical()) shape.add_buckets(std::max(feature.categorical().buckets(), kFewestBuckets));
      else shape.set_dense_width(shape.dense_width() + feature.dense().width());
    }
  }
  shape.set_user_id(config.scorer().user_buckets() > 0);
  shape.set_item_id(config.scorer().item_buckets() > 0);
  for (const std::int64_t buckets : {config.scorer().user_buckets(), config.scorer().item_buckets()})
    if (buckets > 0) shape.add_buckets(static_cast<std::uint32_t>(buckets));
  shape.set_embedding_width(static_cast<std::uint32_t>(sizes.embedding_width));
  shape.mutable_bottom()->Add(sizes.bottom.begin(), sizes.bottom.end());
  shape.mutable_tower()->Add(sizes.tower.begin(), sizes.tower.end());
  shape.set_experts(static_cast<std::uint32_t>(sizes.experts));
  shape.set_task_experts(static_cast<std::uint32_t>(sizes.task_experts));
  shape.set_min_frequency(static_cast<std::uint32_t>(config.scorer().min_frequency()));
  const double prior = config.scorer().rate_prior();
  if (prior != 0 && !(prior >= kLeastPrior)) return Error(Code::kInvalidInput, "scorer.rate_prior is neither 0 nor at least 0.001:", prior);
  shape.set_rate_prior(prior);
  FUSELINE_ASSIGN_OR_FAIL(fields.layout_, ScorerLayout::Of(schema, shape));
  return fields;
}

ScorerRows ScorerFields::NoRows() const {
  ScorerRows rows;
  rows.id_fields = static_cast<std::size_t>(shape_.buckets_size());
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

Status ScorerFields::Append(const FeatureView& user, const FeatureView& context, const FeatureView& item, std::string_view user_id,
                            std::string_view item_id, ScorerRows* rows) const {
  const ScorerScope* const scopes[] = {&layout_.user, &layout_.context, &layout_.item};
  FeatureView values[3] = {user, context, item};
  for (std::size_t i = 0; i < 3; ++i) {
    FUSELINE_ASSIGN_OR_RETURN(values[i], scopes[i]->Read(values[i]));
  }
  for (std::size_t i = 0; i < 3; ++i) {
    rows->dense.insert(rows->dense.end(), values[i].dense.begin(), values[i].dense.end());
    for (std::size_t f = 0; f < values[i].ids.size(); ++f) rows->ids.push_back(scopes[i]->fields[f].RowOf(values[i].ids[f]));
  }
  if (shape_.user_id()) rows->ids.push_back(layout_.user_id.RowOf(Fnv1a64(user_id)));
  if (shape_.item_id()) rows->ids.push_back(layout_.item_id.RowOf(Fnv1a64(item_id)));
  return OkStatus();
}

}  // namespace fuseline
