#include "fuseline/fusion/scorer_network.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/fusion/normaliser.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/fusion/scorer_layout.h"
#include "fuseline/proto/schema.h"

#include "packed_net.h"
#include "scorer_backbone.h"
#include "scorer_table.h"

namespace fuseline {
namespace {

constexpr std::uint32_t kWidthMax = 8192, kMembersMax = 1024, kEmbeddingMax = 1024;
constexpr int kLayersMax = 16;
constexpr std::size_t kInputsMax = std::size_t{1} << 16U, kRowFloatsMax = std::size_t{1} << 20U;

Status CheckForm(const v1::PolicyManifest& manifest) {
  if (!manifest.has_scorer()) return ErrorStatus(Code::kInvalidInput, "version is a policy's, not a scorer's");
  if (manifest.has_actor() || manifest.has_best_of_generated()) return ErrorStatus(Code::kInvalidInput, "version is a scorer's and a policy's at once");
  FUSELINE_RETURN_IF_ERROR(ValidateSchema(manifest.schema()));
  const v1::ScorerShape& shape = manifest.scorer().shape();
  const auto within = [](std::uint32_t value, std::uint32_t most) { return value >= 1 && value <= most; };
  bool sound = within(shape.embedding_width(), kEmbeddingMax) && within(shape.experts(), kMembersMax) && within(shape.task_experts(), kMembersMax) &&
               !shape.bottom().empty() && shape.bottom_size() <= kLayersMax && shape.tower_size() <= kLayersMax &&
               shape.rate_prior() >= 0 && std::isfinite(shape.rate_prior());
  for (const auto* const widths : {&shape.bottom(), &shape.tower()})
    sound = sound && std::ranges::all_of(*widths, [&](std::uint32_t width) { return within(width, kWidthMax); });
  if (!sound) return ErrorStatus(Code::kInvalidInput, "scorer's shape has an impossible size");
  return OkStatus();
}

// Of each of the scorer's tasks, its number in the schema. Errors: kInvalidInput.
Result<std::vector<std::size_t>> TasksOf(const v1::PolicyManifest& manifest) {
  std::vector<std::size_t> numbers;
  for (const std::string& name : manifest.scorer().tasks()) {
    const auto& known = manifest.schema().tasks();
    const auto found = std::ranges::find_if(known, [&](const v1::Task& task) { return task.name() == name; });
    const auto number = static_cast<std::size_t>(found - known.begin());
    if (found == known.end() || std::ranges::find(numbers, number) != numbers.end())
      return Error(Code::kInvalidInput, "scorer names a task twice, or one that the schema does not have:", name);
    numbers.push_back(number);
  }
  if (numbers.empty()) return Error(Code::kInvalidInput, "scorer names no task");
  return numbers;
}

float Normalised(float value, float mean, float scale) { return std::clamp((value - mean) * scale, -kNormalisedMax, kNormalisedMax); }

}  // namespace

struct ScorerWorkspace::Impl {
  std::vector<float> shared, own;      // x of the request, and of a block's candidates.
  std::vector<float> request, block;   // The networks' values.
  std::vector<std::uint32_t> shared_records, own_records;  // Of ids: [fields], [rows, fields].

  template <typename Value>
  static void Grow(std::vector<Value>& values, std::size_t size) {
    if (values.size() < size) values.resize(size);
  }
};

ScorerWorkspace::ScorerWorkspace() : impl_(std::make_unique<Impl>()) {}
ScorerWorkspace::ScorerWorkspace(ScorerWorkspace&&) noexcept = default;
ScorerWorkspace& ScorerWorkspace::operator=(ScorerWorkspace&&) noexcept = default;
ScorerWorkspace::~ScorerWorkspace() = default;

struct ScorerNetwork::Impl {
  // Of one scope's dense values.
  struct Numbers {
    std::vector<float> mean, scale;
  };
  struct TaskRange {
    float min, max;
  };

  explicit Impl(const v1::PolicyManifest& its_manifest) : manifest(its_manifest) {}

  Status TakeInputs();
  Status TakeTable(const TensorMap& tensors);
  InputSplit Split() const;

  Status ReadScope(const ScorerScope& scope, const Numbers& numbers, const FeatureView& values, std::uint32_t*& records, float*& dense) const;
  void PutRecords(std::span<const std::uint32_t> records, std::size_t set, float* to) const;
  void ServeBlock(const Space& space, float* scores) const;

  v1::PolicyManifest manifest;
  std::vector<std::size_t> tasks;   // Of each that it predicts, its number in the schema.
  std::vector<TaskRange> ranges;    // Of the schema's.
  ScorerLayout layout;
  Numbers user, context, item;
  std::size_t sets = 1, embedding = 0;
  std::size_t past = 0;             // Numbers of an id's past: K + 1, or 0.
  ScorerTable table;
  SpacePlan plan;
  std::unique_ptr<const ScorerBackbone> backbone;
  const DenseKernel& kernel = BestDenseKernel();

  std::size_t field_width() const { return embedding + past; }
  std::size_t shared_width() const { return layout.shared_fields() * field_width() + layout.shared_dense(); }
  std::size_t own_width() const { return layout.item_fields() * field_width() + layout.item_dense(); }
};

ScorerNetwork::ScorerNetwork(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
ScorerNetwork::ScorerNetwork(ScorerNetwork&&) noexcept = default;
ScorerNetwork& ScorerNetwork::operator=(ScorerNetwork&&) noexcept = default;
ScorerNetwork::~ScorerNetwork() = default;

const v1::PolicyManifest& ScorerNetwork::manifest() const { return impl_->manifest; }

Result<ScorerNetwork> ScorerNetwork::Create(const v1::PolicyManifest& manifest, const TensorMap& tensors) {
  FUSELINE_FAIL_IF_ERROR(CheckForm(manifest));
  auto impl = std::make_unique<Impl>(manifest);
  FUSELINE_ASSIGN_OR_FAIL(impl->tasks, TasksOf(manifest));
  FUSELINE_ASSIGN_OR_FAIL(impl->sets, EmbeddingSetsOf(manifest.scorer()));
  FUSELINE_FAIL_IF_ERROR(impl->TakeInputs());
  FUSELINE_FAIL_IF_ERROR(impl->TakeTable(tensors));
  const std::size_t inputs = impl->shared_width() + impl->own_width();
  FUSELINE_ASSIGN_OR_FAIL(impl->backbone, MakeScorerBackbone(manifest.scorer(), static_cast<std::uint32_t>(inputs), impl->Split(), tensors,
                                                             impl->kernel, impl->plan));
  if (impl->plan.row > kRowFloatsMax) return Error(Code::kInvalidInput, "scorer's networks are too wide, floats a candidate:", impl->plan.row);
  const std::size_t expected = 2 + impl->table.tensor_count() + impl->backbone->tensor_count();
  if (tensors.size() != expected)
    return Error(Code::kInvalidInput, "weights have tensors that the manifest does not:", tensors.size(), "instead of", expected);
  return ScorerNetwork(std::move(impl));
}

Status ScorerNetwork::Impl::TakeInputs() {
  const v1::ScorerShape& shape = manifest.scorer().shape();
  for (const v1::Task& task : manifest.schema().tasks()) ranges.push_back({task.min(), task.max()});
  FUSELINE_ASSIGN_OR_RETURN(layout, ScorerLayout::Of(manifest.schema(), shape));
  embedding = shape.embedding_width();
  past = shape.rate_prior() > 0 ? tasks.size() + 1 : 0;
  const std::size_t inputs = shared_width() + own_width();
  if (inputs == 0 || inputs > kInputsMax) return ErrorStatus(Code::kInvalidInput, "scorer has an impossible number of inputs:", inputs);
  return OkStatus();
}

// Whole x as weights number its columns: [embedding of each field | dense | past of each field], fields and dense in the schema's order of scopes.
InputSplit ScorerNetwork::Impl::Split() const {
  InputSplit split;
  const std::size_t fields = layout.shared_fields() + layout.item_fields(), dense_begin = fields * embedding;
  const std::size_t past_begin = dense_begin + layout.shared_dense() + layout.item_dense();
  const auto take = [](std::size_t from, std::size_t count, std::vector<std::uint32_t>& to) {
    for (std::size_t i = 0; i < count; ++i) to.push_back(static_cast<std::uint32_t>(from + i));
  };
  const auto take_field = [&](std::size_t field, std::vector<std::uint32_t>& to) {
    take(field * embedding, embedding, to);
    take(past_begin + field * past, past, to);
  };
  const std::size_t before_item = layout.user.fields.size() + layout.context.fields.size();
  const std::size_t before_ids = before_item + layout.item.fields.size();
  for (std::size_t field = 0; field < before_item; ++field) take_field(field, split.shared);
  for (std::size_t field = before_item; field < before_ids; ++field) take_field(field, split.own);
  if (layout.user_id.buckets > 0) take_field(before_ids, split.shared);
  if (layout.item_id.buckets > 0) take_field(fields - 1, split.own);
  take(dense_begin, layout.shared_dense(), split.shared);
  take(dense_begin + layout.shared_dense(), layout.item_dense(), split.own);
  return split;
}

// What is known of ids, and how the schema's numbers are normalised.
Status ScorerNetwork::Impl::TakeTable(const TensorMap& tensors) {
  const auto numbers = static_cast<std::uint32_t>(ScorerNumbers(manifest.scorer().shape(), tasks.size()));
  FUSELINE_ASSIGN_OR_RETURN(const Tensor* const mean, FindTensor(tensors, "normaliser.mean", {numbers}));
  FUSELINE_ASSIGN_OR_RETURN(const Tensor* const scale, FindTensor(tensors, "normaliser.scale", {numbers}));
  FUSELINE_ASSIGN_OR_RETURN(
      table, ScorerTable::Create(manifest.scorer().shape(), layout.rows, sets, tasks.size(), {mean->values, scale->values}, tensors));
  std::ptrdiff_t column = 0;
  const std::pair<const ScorerScope*, Numbers*> scopes[] = {{&layout.user, &user}, {&layout.context, &context}, {&layout.item, &item}};
  for (const auto& [scope, numbers_of] : scopes) {
    const std::ptrdiff_t end = column + static_cast<std::ptrdiff_t>(scope->absent_dense.size());
    numbers_of->mean.assign(mean->values.begin() + column, mean->values.begin() + end);
    numbers_of->scale.assign(scale->values.begin() + column, scale->values.begin() + end);
    column = end;
  }
  return OkStatus();
}

// Records of its ids, and its dense values, normalised; both are moved on. Errors: kInvalidInput.
Status ScorerNetwork::Impl::ReadScope(const ScorerScope& scope, const Numbers& numbers, const FeatureView& values, std::uint32_t*& records,
                                      float*& dense) const {
  FUSELINE_ASSIGN_OR_RETURN(const FeatureView read, scope.Read(values));
  for (std::size_t i = 0; i < read.ids.size(); ++i) *records++ = table.RecordOf(scope.fields[i].RowOf(read.ids[i]));
  for (std::size_t i = 0; i < read.dense.size(); ++i) *dense++ = Normalised(read.dense[i], numbers.mean[i], numbers.scale[i]);
  return OkStatus();
}

void ScorerNetwork::Impl::PutRecords(std::span<const std::uint32_t> records, std::size_t set, float* to) const {
  for (const std::uint32_t record : records) to = table.Put(record, set, to);
}

// scores [rows, k of the schema], where minima stand.
void ScorerNetwork::Impl::ServeBlock(const Space& space, float* scores) const {
  const bool products = manifest.scorer().backbone() == "esmm";
  for (std::size_t k = 0; k < tasks.size(); ++k) {
    const BlockView logit = backbone->Logit(k, space);
    const auto [min, max] = ranges[tasks[k]];
    for (std::size_t row = 0; row < space.rows; ++row) {
      float share = 1.0F / (1.0F + std::exp(-logit.values[row * logit.stride]));
      if (products && k > 0) {
        const BlockView first = backbone->Logit(0, space);
        share *= 1.0F / (1.0F + std::exp(-first.values[row * first.stride]));
      }
      scores[row * ranges.size() + tasks[k]] = std::clamp(min + share * (max - min), min, max);
    }
  }
}

Status ScorerNetwork::Score(const FeatureView& user, const FeatureView& context, std::string_view user_id,
                            std::span<const CandidateView> candidates, std::span<const std::string_view> item_ids,
                            ScorerWorkspace& workspace, std::span<float> scores) const {
  const Impl& net = *impl_;
  FUSELINE_CHECK(item_ids.size() == candidates.size() && scores.size() == candidates.size() * net.ranges.size());
  ScorerWorkspace::Impl& buffers = *workspace.impl_;
  const std::size_t own_width = net.own_width(), own_fields = net.layout.item_fields(), shared_fields = net.layout.shared_fields();
  buffers.Grow(buffers.shared, net.shared_width());
  buffers.Grow(buffers.shared_records, shared_fields);
  buffers.Grow(buffers.own, kScorerBlockRows * own_width);
  buffers.Grow(buffers.own_records, kScorerBlockRows * own_fields);
  buffers.Grow(buffers.request, net.plan.request);
  buffers.Grow(buffers.block, kScorerBlockRows * net.plan.row);
  Space space{buffers.request.data(), buffers.block.data(), 0};

  std::uint32_t* shared_record = buffers.shared_records.data();
  float* shared_dense = buffers.shared.data() + shared_fields * net.field_width();
  FUSELINE_RETURN_IF_ERROR(net.ReadScope(net.layout.user, net.user, user, shared_record, shared_dense));
  FUSELINE_RETURN_IF_ERROR(net.ReadScope(net.layout.context, net.context, context, shared_record, shared_dense));
  if (net.layout.user_id.buckets > 0) *shared_record = net.table.RecordOf(net.layout.user_id.RowOf(Fnv1a64(user_id)));
  for (std::size_t set = 0; set < net.sets; ++set) {
    net.PutRecords({buffers.shared_records.data(), shared_fields}, set, buffers.shared.data());
    net.backbone->TakeShared(set, buffers.shared.data(), space);
  }

  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = net.ranges[i % net.ranges.size()].min;
  for (std::size_t start = 0; start < candidates.size(); start += kScorerBlockRows) {
    space.rows = std::min(kScorerBlockRows, candidates.size() - start);
    for (std::size_t i = 0; i < space.rows; ++i) {
      std::uint32_t* record = buffers.own_records.data() + i * own_fields;
      float* dense = buffers.own.data() + (i + 1) * own_width - net.layout.item_dense();
      FUSELINE_RETURN_IF_ERROR(net.ReadScope(net.layout.item, net.item, candidates[start + i].features, record, dense));
      if (net.layout.item_id.buckets > 0) *record = net.table.RecordOf(net.layout.item_id.RowOf(Fnv1a64(item_ids[start + i])));
    }
    for (std::size_t set = 0; set < net.sets; ++set) {
      for (std::size_t i = 0; i < space.rows; ++i)
        net.PutRecords({buffers.own_records.data() + i * own_fields, own_fields}, set, buffers.own.data() + i * own_width);
      net.backbone->Forward(set, {buffers.own.data(), own_width}, space);
    }
    net.ServeBlock(space, scores.data() + start * net.ranges.size());
  }
  return OkStatus();
}

}  // namespace fuseline
