#include "fuseline/proto/schema.h"

#include <cmath>
#include <set>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr std::uint32_t kMaxColumns = 4096;
constexpr int kMaxTasks = 32;

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

Status ValidateFeature(const v1::Feature& feature) {
  const auto& name = feature.name();
  if (feature.scope() != v1::USER && feature.scope() != v1::ITEM && feature.scope() != v1::CONTEXT) {
    return ErrorStatus(Code::kInvalidInput, "scope of feature is none of USER, ITEM, CONTEXT:", name);
  }
  switch (feature.type_case()) {
    case v1::Feature::kDense:
      if (feature.dense().width() < 1 || feature.dense().width() > kMaxColumns) {
        return ErrorStatus(Code::kInvalidInput, "width of feature is not from 1 to 4096:", name);
      }
      if (!std::isfinite(feature.dense().default_value())) {
        return ErrorStatus(Code::kInvalidInput, "default_value of feature is not finite:", name);
      }
      return OkStatus();
    case v1::Feature::kCategorical:
      if (feature.categorical().buckets() < 1 || feature.categorical().buckets() > kMaxColumns) {
        return ErrorStatus(Code::kInvalidInput, "buckets of feature are not from 1 to 4096:", name);
      }
      return OkStatus();
    case v1::Feature::TYPE_NOT_SET: break;
  }
  return ErrorStatus(Code::kInvalidInput, "feature is neither dense nor categorical:", name);
}

// The k values given, or k times `value_else` when none is; checked, then mapped from [lower, upper] to [-1, 1].
Status AppendStatic(const char* name, const google::protobuf::RepeatedField<double>& given, double value_else,
                    double lower, double upper, int k, v1::ActionRanges* ranges) {
  if (!given.empty() && given.size() != k) {
    return ErrorStatus(Code::kInvalidInput, "number of", name, "is not that of the tasks:", given.size(), "for", k);
  }
  for (int i = 0; i < k; ++i) {
    const double value = given.empty() ? value_else : given[i];
    if (!(value >= lower && value <= upper)) {
      return ErrorStatus(Code::kInvalidInput, "value of", name, "is outside its range:", value, "not in", lower, "to", upper);
    }
    ranges->add_lower(static_cast<float>(lower));
    ranges->add_upper(static_cast<float>(upper));
    ranges->add_static_action(static_cast<float>(2 * (value - lower) / (upper - lower) - 1));
  }
  return OkStatus();
}

}  // namespace

v1::FeatureSchema DefaultSchema() {
  v1::FeatureSchema schema;
  AddDense(schema, "user_profile", v1::USER, 8);
  AddCategorical(schema, "user_segment", v1::USER, 8);
  AddDense(schema, "hour", v1::CONTEXT, 2);
  AddDense(schema, "session_depth", v1::CONTEXT, 1);
  AddDense(schema, "item_profile", v1::ITEM, 8);
  AddCategorical(schema, "item_category", v1::ITEM, 16);
  AddDense(schema, "duration_s", v1::ITEM, 1);
  AddTask(schema, "click", 1);
  AddTask(schema, "valid", 1);
  AddTask(schema, "watch", 600);
  AddTask(schema, "like", 1);
  AddTask(schema, "share", 1);
  return schema;
}

Status ValidateSchema(const v1::FeatureSchema& schema) {
  std::set<std::string> names;
  for (const auto& feature : schema.features()) {
    if (feature.name().empty()) return ErrorStatus(Code::kInvalidInput, "a feature has no name");
    if (!names.insert(feature.name()).second) {
      return ErrorStatus(Code::kInvalidInput, "two features have the same name:", feature.name());
    }
    FUSELINE_RETURN_IF_ERROR(ValidateFeature(feature));
  }
  if (schema.tasks_size() < 1 || schema.tasks_size() > kMaxTasks) {
    return ErrorStatus(Code::kInvalidInput, "number of tasks is not from 1 to 32:", schema.tasks_size());
  }
  names.clear();
  for (const auto& task : schema.tasks()) {
    if (task.name().empty()) return ErrorStatus(Code::kInvalidInput, "a task has no name");
    if (!names.insert(task.name()).second) {
      return ErrorStatus(Code::kInvalidInput, "two tasks have the same name:", task.name());
    }
    if (!std::isfinite(task.min()) || !std::isfinite(task.max()) || !(task.min() < task.max())) {
      return ErrorStatus(Code::kInvalidInput, "range of task is not finite with min < max:", task.name());
    }
  }
  return OkStatus();
}

std::string SchemaDigest(const v1::FeatureSchema& schema) {
  v1::FeatureSchema known = schema;
  known.DiscardUnknownFields();
  return Sha256Of(CanonicalBytes(known));
}

std::string CanonicalBytes(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream out(&stream);
    out.SetSerializationDeterministic(true);  // Map entries by key.
    message.SerializeToCodedStream(&out);
  }
  return bytes;
}

Result<v1::ActionRanges> ActionRangesOf(const v1::Policy& settings, const v1::FeatureSchema& schema) {
  if (!(settings.power_min() < settings.power_max())) {
    return Error(Code::kInvalidInput, "policy.power_min is not below policy.power_max:", settings.power_min(),
                 settings.power_max());
  }
  if (!(settings.bias_min() < settings.bias_max())) {
    return Error(Code::kInvalidInput, "policy.bias_min is not below policy.bias_max:", settings.bias_min(),
                 settings.bias_max());
  }
  const int k = schema.tasks_size();
  v1::ActionRanges ranges;
  FUSELINE_FAIL_IF_ERROR(AppendStatic("policy.static_powers", settings.static_powers(), 1, settings.power_min(),
                                      settings.power_max(), k, &ranges));
  FUSELINE_FAIL_IF_ERROR(AppendStatic("policy.static_biases", settings.static_biases(), settings.bias_min(),
                                      settings.bias_min(), settings.bias_max(), k, &ranges));
  return ranges;
}

}  // namespace fuseline
