#include <sstream>

#include "fuseline/datasets/kuairand.h"

namespace fuseline {
namespace {

void AddDense(v1::FeatureSchema& schema, const char* name, v1::FeatureScope scope, std::uint32_t width) {
  auto& feature = *schema.add_features();
  feature.set_name(name);
  feature.set_scope(scope);
  feature.mutable_dense()->set_width(width);
}

void AddCategorical(v1::FeatureSchema& schema, const char* name, v1::FeatureScope scope, std::uint32_t buckets) {
  auto& feature = *schema.add_features();
  feature.set_name(name);
  feature.set_scope(scope);
  feature.mutable_categorical()->set_buckets(buckets);
}

void AddTask(v1::FeatureSchema& schema, const char* name, float max) {
  auto& task = *schema.add_tasks();
  task.set_name(name);
  task.set_max(max);
}

void PrintFeature(const v1::Feature& feature, std::ostream& out) {
  out << "    - name: " << feature.name() << "\n      scope: " << v1::FeatureScope_Name(feature.scope()) << '\n';
  if (feature.has_dense()) {
    out << "      dense:\n        width: " << feature.dense().width() << '\n';
  } else {
    out << "      categorical:\n        buckets: " << feature.categorical().buckets() << '\n';
  }
}

constexpr const char* kSettingsHead =
    R"(# Settings for events made by `fuseline import kuairand`; what is not here keeps its default.
sessionizer:
  # The log holds a small part of what its users saw: with 30 minutes a session has 1.2 impressions, with 6 hours 1.6.
  gap_ms: 21600000
policy:
  name: kuairand
learner:
  # Nothing but static weights was logged, and nothing explored: figures on this log prove plumbing, not policy.
  train_on_static: true
  anchor_on_static: true
  # One row of the log is one request with one item.
  max_items: 1
schema:
  features:
)";

}  // namespace

v1::FeatureSchema KuaiRandSchema() {
  v1::FeatureSchema schema;
  for (const char* name : {"follows", "fans", "friends", "register_days"}) AddDense(schema, name, v1::USER, 1);
  AddCategorical(schema, "active_degree", v1::USER, 32);
  for (const char* name : {"live_streamer", "video_author"}) AddCategorical(schema, name, v1::USER, 8);
  for (const char* name : {"follows_range", "fans_range", "friends_range", "register_range"}) {
    AddCategorical(schema, name, v1::USER, 32);
  }
  for (const char* name : {"onehot_0", "onehot_1", "onehot_4", "onehot_6", "onehot_9", "onehot_10", "onehot_11"}) {
    AddCategorical(schema, name, v1::USER, 16);
  }
  AddDense(schema, "hour", v1::CONTEXT, 2);
  AddCategorical(schema, "tab", v1::CONTEXT, 32);
  for (const char* name : {"duration", "width", "height"}) AddDense(schema, name, v1::ITEM, 1);
  AddCategorical(schema, "video_type", v1::ITEM, 8);
  AddCategorical(schema, "upload_type", v1::ITEM, 32);
  AddCategorical(schema, "music_type", v1::ITEM, 16);
  AddCategorical(schema, "tag", v1::ITEM, 128);
  for (const char* name : {"click", "long_view", "like", "comment", "forward"}) AddTask(schema, name, 1);
  AddTask(schema, "watch", 600);
  return schema;
}

std::string KuaiRandSettings() {
  const auto schema = KuaiRandSchema();
  std::ostringstream out;
  out << kSettingsHead;
  for (const auto& feature : schema.features()) PrintFeature(feature, out);
  out << "  tasks:\n";
  for (const auto& task : schema.tasks()) {
    out << "    - name: " << task.name() << "\n      min: " << task.min() << "\n      max: " << task.max() << '\n';
  }
  return std::move(out).str();
}

}  // namespace fuseline
