#include "fuseline/fusion/scorer_network.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/fusion/normaliser.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/fusion/scorer_layout.h"
#include "fuseline/fusion/sparse_rows.h"
#include "fuseline/proto/schema.h"

#include "packed_net.h"
#include "scorer_backbone.h"

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

// The tensor of that name and shape, all of whose values lie in [min, max]. Errors: those of FindTensor, kCorrupt.
Result<const Tensor*> FindWithin(const TensorMap& tensors, const std::string& name, const std::vector<std::uint32_t>& shape, float min, float max) {
  FUSELINE_ASSIGN_OR_FAIL(const Tensor* const tensor, FindTensor(tensors, name, shape));
  if (std::ranges::all_of(tensor->values, [&](float value) { return value >= min && value <= max; })) return tensor;
  return Error(Code::kCorrupt, "weights hold a value that cannot be:", name);
}

float Normalised(float value, float mean, float scale) { return std::clamp((value - mean) * scale, -kNormalisedMax, kNormalisedMax); }

}  // namespace

struct ScorerWorkspace::Impl {
  std::vector<float> shared, own;      // x of the request, and of a block's candidates.
  std::vector<float> request, block;   // The networks' values.
  std::vector<std::uint32_t> shared_rows, own_rows;  // Of ids: [fields], [rows, fields].

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
  Result<std::vector<float>> CountsOf(const TensorMap& tensors, const std::string& name, std::size_t width) const;
  Status TakeTable(const TensorMap& tensors);
  Status TakePast(const TensorMap& tensors, const Normaliser& normaliser);
  InputSplit Split() const;

  static Status ReadScope(const ScorerScope& scope, const Numbers& numbers, const FeatureView& values, std::uint32_t*& rows, float*& dense);
  float* PutRows(std::span<const std::uint32_t> rows, std::size_t set, float* to) const;
  void ServeBlock(const Space& space, float* scores) const;

  v1::PolicyManifest manifest;
  std::vector<std::size_t> tasks;   // Of each that it predicts, its number in the schema.
  std::vector<TaskRange> ranges;    // Of the schema's.
  ScorerLayout layout;
  Numbers user, context, item;
  std::size_t sets = 1, embedding = 0;
  std::size_t past = 0;             // Numbers of an id's past: K + 1, or 0.
  std::size_t record = 0;           // Floats of a row: embeddings of all sets, then the past, normalised.
  std::vector<float> table;         // [rows, record]
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
  const std::size_t of_inputs = impl->past > 0 ? 11 : 6;
  const std::size_t expected = of_inputs + impl->backbone->tensor_count();
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
  record = sets * embedding + past;
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

// What was counted of each row, [rows, width]. Errors: kCorrupt.
Result<std::vector<float>> ScorerNetwork::Impl::CountsOf(const TensorMap& tensors, const std::string& name, std::size_t width) const {
  FUSELINE_ASSIGN_OR_FAIL(std::vector<float> counts, UnpackRows(tensors, name, layout.rows, width));
  if (std::ranges::all_of(counts, [](float count) { return count >= 0 && std::isfinite(count); })) return counts;
  return Error(Code::kCorrupt, "weights hold a count that cannot be:", name);
}

// Each row's embeddings, those of the field's rare ids where it is one of them.
Status ScorerNetwork::Impl::TakeTable(const TensorMap& tensors) {
  const std::size_t width = sets * embedding;
  const std::size_t numbers = ScorerNumbers(manifest.scorer().shape(), tasks.size());
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<float> embeddings, UnpackRows(tensors, "embedding", layout.rows, width));
  if (!AllFinite(embeddings)) return ErrorStatus(Code::kCorrupt, "weights hold a value that is not finite: embedding");
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<float> frequency, CountsOf(tensors, "frequency", 1));
  FUSELINE_ASSIGN_OR_RETURN(const Tensor* const mean, FindTensor(tensors, "normaliser.mean", {static_cast<std::uint32_t>(numbers)}));
  FUSELINE_ASSIGN_OR_RETURN(const Tensor* const scale, FindTensor(tensors, "normaliser.scale", {static_cast<std::uint32_t>(numbers)}));
  const auto least = static_cast<float>(manifest.scorer().shape().min_frequency());
  table.resize(layout.rows * record);
  std::size_t row = 0;
  for (const std::uint32_t buckets : manifest.scorer().shape().buckets()) {
    const std::size_t rare = row;
    for (std::size_t i = 0; i <= buckets; ++i, ++row) {
      const std::size_t from = frequency[row] < least ? rare : row;
      std::copy_n(embeddings.begin() + static_cast<std::ptrdiff_t>(from * width), width,
                  table.begin() + static_cast<std::ptrdiff_t>(row * record));
    }
  }
  std::ptrdiff_t column = 0;
  const std::pair<const ScorerScope*, Numbers*> scopes[] = {{&layout.user, &user}, {&layout.context, &context}, {&layout.item, &item}};
  for (const auto& [scope, numbers_of] : scopes) {
    const std::ptrdiff_t end = column + static_cast<std::ptrdiff_t>(scope->absent_dense.size());
    numbers_of->mean.assign(mean->values.begin() + column, mean->values.begin() + end);
    numbers_of->scale.assign(scale->values.begin() + column, scale->values.begin() + end);
    column = end;
  }
  return past > 0 ? TakePast(tensors, {mean->values, scale->values}) : OkStatus();
}

// And its past, normalised.
Status ScorerNetwork::Impl::TakePast(const TensorMap& tensors, const Normaliser& normaliser) {
  const auto count = static_cast<std::uint32_t>(tasks.size());
  constexpr auto kRateMin = static_cast<float>(kScorerRateMin);
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<float> seen, CountsOf(tensors, "seen", 1));
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<float> outcomes, CountsOf(tensors, "outcomes", count));
  FUSELINE_ASSIGN_OR_RETURN(const Tensor* const rates, FindWithin(tensors, "rates", {count}, kRateMin, 1 - kRateMin));
  std::size_t row = 0, column = manifest.scorer().shape().dense_width();
  for (const std::uint32_t buckets : manifest.scorer().shape().buckets()) {
    for (std::size_t i = 0; i <= buckets; ++i, ++row) {
      const std::span<const float> of_row(outcomes.data() + row * count, count);
      const float most = *std::ranges::max_element(of_row);
      const std::span<float> numbers(table.data() + row * record + sets * embedding, past);
      if (most > seen[row]) return ErrorStatus(Code::kCorrupt, "weights hold more outcomes than impressions, row:", row);
      PastOfId(seen[row], of_row, rates->values, manifest.scorer().shape().rate_prior(), numbers.data());
      normaliser.Apply(numbers, column);
      if (!AllFinite(numbers)) return ErrorStatus(Code::kCorrupt, "weights hold a past that is not finite, row:", row);
    }
    column += past;
  }
  return OkStatus();
}

// Rows of its ids, and its dense values, normalised; both are moved on. Errors: kInvalidInput.
Status ScorerNetwork::Impl::ReadScope(const ScorerScope& scope, const Numbers& numbers, const FeatureView& values, std::uint32_t*& to_rows,
                                      float*& to_dense) {
  FUSELINE_ASSIGN_OR_RETURN(const FeatureView read, scope.Read(values));
  for (std::size_t i = 0; i < read.ids.size(); ++i) *to_rows++ = scope.fields[i].RowOf(read.ids[i]);
  for (std::size_t i = 0; i < read.dense.size(); ++i) *to_dense++ = Normalised(read.dense[i], numbers.mean[i], numbers.scale[i]);
  return OkStatus();
}

// Of each row, embedding of `set` and past. Returns where it ended.
float* ScorerNetwork::Impl::PutRows(std::span<const std::uint32_t> of, std::size_t set, float* to) const {
  for (const std::uint32_t row : of) {
    const float* const from = table.data() + row * record;
    to = std::copy_n(from + set * embedding, embedding, to);
    to = std::copy_n(from + sets * embedding, past, to);
  }
  return to;
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
  buffers.Grow(buffers.shared_rows, shared_fields);
  buffers.Grow(buffers.own, kScorerBlockRows * own_width);
  buffers.Grow(buffers.own_rows, kScorerBlockRows * own_fields);
  buffers.Grow(buffers.request, net.plan.request);
  buffers.Grow(buffers.block, kScorerBlockRows * net.plan.row);
  Space space{buffers.request.data(), buffers.block.data(), 0};

  std::uint32_t* shared_row = buffers.shared_rows.data();
  float* shared_dense = buffers.shared.data() + shared_fields * net.field_width();
  FUSELINE_RETURN_IF_ERROR(net.ReadScope(net.layout.user, net.user, user, shared_row, shared_dense));
  FUSELINE_RETURN_IF_ERROR(net.ReadScope(net.layout.context, net.context, context, shared_row, shared_dense));
  if (net.layout.user_id.buckets > 0) *shared_row = net.layout.user_id.RowOf(Fnv1a64(user_id));
  for (std::size_t set = 0; set < net.sets; ++set) {
    net.PutRows({buffers.shared_rows.data(), shared_fields}, set, buffers.shared.data());
    net.backbone->TakeShared(set, buffers.shared.data(), space);
  }

  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = net.ranges[i % net.ranges.size()].min;
  for (std::size_t start = 0; start < candidates.size(); start += kScorerBlockRows) {
    space.rows = std::min(kScorerBlockRows, candidates.size() - start);
    for (std::size_t i = 0; i < space.rows; ++i) {
      std::uint32_t* row = buffers.own_rows.data() + i * own_fields;
      float* dense = buffers.own.data() + (i + 1) * own_width - net.layout.item_dense();
      FUSELINE_RETURN_IF_ERROR(net.ReadScope(net.layout.item, net.item, candidates[start + i].features, row, dense));
      if (net.layout.item_id.buckets > 0) *row = net.layout.item_id.RowOf(Fnv1a64(item_ids[start + i]));
    }
    for (std::size_t set = 0; set < net.sets; ++set) {
      for (std::size_t i = 0; i < space.rows; ++i)
        net.PutRows({buffers.own_rows.data() + i * own_fields, own_fields}, set, buffers.own.data() + i * own_width);
      net.backbone->Forward(set, {buffers.own.data(), own_width}, space);
    }
    net.ServeBlock(space, scores.data() + start * net.ranges.size());
  }
  return OkStatus();
}

}  // namespace fuseline
