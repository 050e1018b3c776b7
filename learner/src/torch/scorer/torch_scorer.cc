#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "fuseline/core/random.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "scorer/embedding_table.h"
#include "scorer/scorer_model.h"
#include "torch/catch_torch.h"
#include "torch/compute.h"
#include "torch/scorer/backbone.h"
#include "torch/scorer/adam_tensors.h"

namespace fuseline {
namespace {

at::Tensor Same(const at::Tensor& x) { return x; }

// From Random(seed, "scorer.dropout", step): four 16-bit draws a number.
Dropout DropoutOf(double share, std::uint64_t seed, std::uint64_t step) {
  if (share <= 0) return Same;
  auto random = std::make_shared<Random>(seed, "scorer.dropout", step);
  const auto left_out = static_cast<std::uint64_t>(share * 65'536);
  return [random, left_out](const at::Tensor& x) {
    at::Tensor mask = at::empty(x.sizes(), at::kFloat);
    const float kept = 1.0F / (1.0F - static_cast<float>(left_out) / 65'536);
    float* const out = mask.data_ptr<float>();
    std::uint64_t bits = 0;
    for (std::int64_t i = 0; i < mask.numel(); ++i, bits >>= 16U) {
      if (i % 4 == 0) bits = random->NextU64();
      out[i] = (bits & 0xFFFFU) < left_out ? 0.0F : kept;
    }
    return x * mask;
  };
}

class TorchScorer final : public ScorerModel {
 public:
  TorchScorer(const v1::Config& config, const v1::ScorerShape& shape, std::size_t tasks, Compute compute)
      : settings_(config.scorer()),
        seed_(config.fuseline().seed()),
        compute_(std::move(compute)),
        shape_{.fields = shape.buckets_size(), .dense = Size(ScorerNumbers(shape, tasks)), .tasks = Size(tasks), .sizes = SizesOf(settings_)},
        backbone_(MakeBackbone(settings_.backbone(), shape_, compute_.kernels)),
        parameters_(backbone_->networks().Initial(seed_, "scorer")),
        adam_(parameters_),
        table_(RowsOf(shape), static_cast<std::size_t>(shape_.sizes.embedding_width * backbone_->embedding_sets())) {}

  Result<ScorerStep> Step(const ScorerBatch& batch, std::uint64_t step) override {
    return CatchTorch("a scorer's step", [&]() -> Result<ScorerStep> {
      const auto distinct = table_.Find(batch.ids);
      const at::Tensor leaf = Read(distinct.rows).requires_grad_();
      const at::Tensor parameters = parameters_.detach().requires_grad_();
      const at::Tensor labels = View(batch.labels, shape_.tasks), weights = View(batch.weights, shape_.tasks);
      const LogScores scores = backbone_->Forward(backbone_->networks().Split(parameters), InputOf(batch, leaf, distinct),
                                                  DropoutOf(shape_.sizes.dropout, seed_, step));
      const at::Tensor loss = WeightedLoss(scores, labels, weights);
      const auto gradients = torch::autograd::grad({loss}, {parameters, leaf});
      const at::Tensor of_tasks = TaskLosses({scores.hit.detach(), scores.miss.detach()}, labels).to(at::kDouble).contiguous();
      ScorerStep done{{of_tasks.data_ptr<double>(), of_tasks.data_ptr<double>() + shape_.tasks}, false};
      const double size = (loss.detach() + gradients[0].norm() + gradients[1].norm()).item<double>();
      if (!std::isfinite(size)) {
        done.undone = true;
        return done;
      }
      adam_.Update({parameters_, adam_.first, adam_.second}, gradients[0], 1.0, settings_.rate(), parameters_);
      const at::Tensor of_rows = gradients[1].contiguous();
      table_.Update(distinct.rows, {of_rows.const_data_ptr<float>(), static_cast<std::size_t>(of_rows.numel())},
                    settings_.embedding_rate(), shape_.sizes.embedding_decay);
      return done;
    });
  }

  Result<std::vector<float>> Predict(const ScorerBatch& batch) const override {
    return CatchTorch("a scorer's prediction", [&]() -> Result<std::vector<float>> {
      const at::NoGradGuard no_gradient;
      const auto distinct = table_.Find(batch.ids);
      const LogScores scores =
          backbone_->Forward(backbone_->networks().Split(parameters_), InputOf(batch, Read(distinct.rows), distinct), Same);
      return ToHost(scores.hit.exp()).values;
    });
  }

  TensorMap Weights() const override {
    TensorMap tensors;
    backbone_->networks().Export(parameters_, &tensors);
    table_.Export("embedding", /*moments=*/false, &tensors);
    return tensors;
  }

  Status Load(const TensorMap& weights) override {
    FUSELINE_RETURN_IF_ERROR(backbone_->networks().Import(weights, &parameters_));
    adam_ = FlatAdam(parameters_);
    return table_.Import("embedding", /*moments=*/false, weights);
  }

  TensorMap Save() const override {
    TensorMap tensors;
    backbone_->networks().Export(parameters_, &tensors);
    table_.Export("embedding", /*moments=*/true, &tensors);
    SaveAdam(adam_, &tensors);
    return tensors;
  }

  Status Restore(const TensorMap& tensors) override {
    FUSELINE_RETURN_IF_ERROR(backbone_->networks().Import(tensors, &parameters_));
    FUSELINE_RETURN_IF_ERROR(table_.Import("embedding", /*moments=*/true, tensors));
    return RestoreAdam(tensors, &adam_);
  }

  const ComputeFacts& facts() const override { return compute_.facts; }

 private:
  static std::size_t RowsOf(const v1::ScorerShape& shape) {
    std::size_t rows = 0;
    for (const std::uint32_t buckets : shape.buckets()) rows += buckets + 1;
    return rows;
  }
  static at::Tensor View(const std::vector<float>& values, std::int64_t width) {
    return at::from_blob(const_cast<float*>(values.data()), {width == 0 ? 0 : Size(values.size()) / width, width}, at::kFloat);
  }
  at::Tensor Read(const std::vector<std::uint32_t>& rows) const {
    at::Tensor values = at::empty({Size(rows.size()), Size(table_.width())}, at::kFloat);
    table_.Read(rows, values.data_ptr<float>());
    return values;
  }
  BackboneInput InputOf(const ScorerBatch& batch, const at::Tensor& rows, const EmbeddingTable::Distinct& distinct) const {
    const at::Tensor place = at::from_blob(const_cast<std::int64_t*>(distinct.place.data()), {Size(distinct.place.size())}, at::kLong);
    return {rows.index_select(0, place).view({Size(batch.size), shape_.fields, Size(table_.width())}),
            at::from_blob(const_cast<float*>(batch.dense.data()), {Size(batch.size), shape_.dense}, at::kFloat)};
  }

  const v1::Scorer settings_;
  const std::uint64_t seed_;
  const Compute compute_;
  const BackboneShape shape_;
  const std::unique_ptr<Backbone> backbone_;
  at::Tensor parameters_;
  FlatAdam adam_;
  EmbeddingTable table_;
};

Result<std::unique_ptr<ScorerModel>> Create(const v1::Config& config, const v1::ScorerShape& shape, std::size_t tasks) {
  v1::Learner where = config.learner();
  where.set_device("cpu");  // Its embeddings lie in the host's memory.
  where.set_precision("float32");
  FUSELINE_ASSIGN_OR_FAIL(Compute compute, ChooseCompute(where));
  return std::make_unique<TorchScorer>(config, shape, tasks, std::move(compute));
}

const ScorerRegistrar registrar({.model = Create, .critics = nullptr, .backbones = BackboneNames});

}  // namespace
}  // namespace fuseline
