#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

#include "fuseline/fusion/scorer_inputs.h"
#include "scorer/embedding_table.h"
#include "scorer/scorer_model.h"
#include "torch/catch_torch.h"
#include "torch/compute.h"
#include "torch/scorer/adam_tensors.h"
#include "torch/scorer/critic_loss.h"
#include "torch/scorer/network_set.h"

namespace fuseline {
namespace {

constexpr float kBeginValue = 1.0F;  // Of the last bias: Q begins near -1. Near 0 the ReLU that ends it would let no gradient through.

at::Tensor View(const std::vector<float>& values, at::IntArrayRef shape) {
  return at::from_blob(const_cast<float*>(values.data()), shape, at::kFloat);
}

// One critic a task, each with embeddings of its own: [embeddings | linear of the dense values | linear of the
// action] → dense layers → -ReLU. Targets follow where a batch has been.
class Critics final : public ScorerCritics {
 public:
  Critics(const v1::Config& config, const v1::ScorerShape& shape, std::size_t tasks, Compute compute)
      : settings_(config.scorer()),
        compute_(std::move(compute)),
        tasks_(Size(tasks)),
        fields_(shape.buckets_size()),
        dense_(Size(ScorerNumbers(shape, tasks))),
        width_(SizesOf(settings_).embedding_width),
        networks_(compute_.kernels),
        parameters_(Begin(config.fuseline().seed())),
        target_(parameters_.clone()),
        adam_(parameters_),
        table_(RowsOf(shape), static_cast<std::size_t>(tasks_ * width_)),
        target_table_(table_) {}

  Result<double> Step(const CriticBatch& batch) override {
    return CatchTorch("a step of the scorer's critics", [&]() -> Result<double> {
      const std::int64_t n = Size(batch.at.size);
      const at::Tensor target = TargetOf(batch);
      const auto distinct = table_.Find(batch.at.ids);
      const at::Tensor leaf = Read(table_, distinct.rows).requires_grad_();
      const at::Tensor parameters = parameters_.detach().requires_grad_();
      const at::Tensor q = Forward(parameters, batch.at, leaf, distinct, View(batch.action, {n, tasks_}));
      const at::Tensor error = q - target;
      const auto gradients = torch::autograd::grad({error.square().mean(0).sum()}, {parameters, leaf});
      const double td_error = error.detach().abs().mean().item<double>();
      if (!std::isfinite(td_error + (gradients[0].norm() + gradients[1].norm()).item<double>()))
        return std::numeric_limits<double>::quiet_NaN();
      adam_.Update({parameters_, adam_.first, adam_.second}, gradients[0], 1.0, settings_.critic_rate(), parameters_);
      const at::Tensor of_rows = gradients[1].contiguous();
      table_.Update(distinct.rows, {of_rows.const_data_ptr<float>(), static_cast<std::size_t>(of_rows.numel())}, settings_.critic_rate(), 0);
      target_.lerp_(parameters_, settings_.soft_update());
      target_table_.Follow(table_, distinct.rows, settings_.soft_update());
      return td_error;
    });
  }

  Result<std::vector<float>> Values(const ScorerBatch& batch, const std::vector<float>& action) const override {
    return CatchTorch("values of the scorer's critics", [&]() -> Result<std::vector<float>> {
      const at::NoGradGuard no_gradient;
      return ToHost(Of(parameters_, table_, batch, action)).values;
    });
  }

  TensorMap Save() const override {
    TensorMap tensors;
    networks_.Export(parameters_, &tensors);
    tensors["target"] = ToHost(target_);
    table_.Export("embedding", /*moments=*/true, &tensors);
    target_table_.Export("target.embedding", /*moments=*/false, &tensors);
    SaveAdam(adam_, &tensors);
    return tensors;
  }

  Status Restore(const TensorMap& tensors) override {
    const auto target = tensors.find("target");
    if (target == tensors.end() || Size(target->second.values.size()) != target_.numel())
      return ErrorStatus(Code::kCorrupt, "the critics' target is absent, or of another size");
    FUSELINE_RETURN_IF_ERROR(networks_.Import(tensors, &parameters_));
    target_ = FromHost(target->second.values, {target_.numel()}, at::kCPU);
    FUSELINE_RETURN_IF_ERROR(table_.Import("embedding", /*moments=*/true, tensors));
    FUSELINE_RETURN_IF_ERROR(target_table_.Import("target.embedding", /*moments=*/false, tensors));
    return RestoreAdam(tensors, &adam_);
  }

 private:
  struct Numbers {
    std::size_t dense = 0, action = 0, body = 0;
  };

  static std::size_t RowsOf(const v1::ScorerShape& shape) {
    std::size_t rows = 0;
    for (const std::uint32_t buckets : shape.buckets()) rows += buckets + 1;
    return rows;
  }

  at::Tensor Begin(std::uint64_t seed) {
    const auto hidden = SizesOf(settings_).critic_hidden;
    for (std::int64_t k = 0; k < tasks_; ++k) {
      const std::string name = "critic_" + std::to_string(k);
      Numbers numbers;
      if (dense_ > 0) numbers.dense = networks_.Add(name + ".dense", 1, {dense_, width_});
      numbers.action = networks_.Add(name + ".action", 1, {1, width_});
      std::vector<std::int64_t> widths{(fields_ + 1 + (dense_ > 0 ? 1 : 0)) * width_};
      widths.insert(widths.end(), hidden.begin(), hidden.end());
      widths.push_back(1);
      numbers.body = networks_.Add(name, 1, widths);
      critics_.push_back(numbers);
    }
    at::Tensor flat = networks_.Initial(seed, "scorer.critics");
    const auto parts = networks_.Split(flat);
    for (const Numbers& critic : critics_) {
      const DenseEnsemble& body = networks_.network(critic.body);
      body.Layer(parts[critic.body], body.layers() - 1).second.fill_(kBeginValue);
    }
    return flat;
  }

  at::Tensor Read(const EmbeddingTable& table, const std::vector<std::uint32_t>& rows) const {
    at::Tensor values = at::empty({Size(rows.size()), Size(table.width())}, at::kFloat);
    table.Read(rows, values.data_ptr<float>());
    return values;
  }

  // action [n, K] → Q [n, K]
  at::Tensor Forward(const at::Tensor& parameters, const ScorerBatch& batch, const at::Tensor& rows,
                     const EmbeddingTable::Distinct& distinct, const at::Tensor& action) const {
    const std::int64_t n = Size(batch.size);
    const auto parts = networks_.Split(parameters);
    const at::Tensor place = at::from_blob(const_cast<std::int64_t*>(distinct.place.data()), {Size(distinct.place.size())}, at::kLong);
    const at::Tensor embedded = rows.index_select(0, place).view({n, fields_, tasks_ * width_});
    std::vector<at::Tensor> q;
    for (std::int64_t k = 0; k < tasks_; ++k) {
      const Numbers& critic = critics_[static_cast<std::size_t>(k)];
      std::vector<at::Tensor> x;
      x.reserve(3);
      x.push_back(embedded.narrow(2, k * width_, width_).flatten(1));
      if (dense_ > 0) x.push_back(networks_.Forward(parts, critic.dense, View(batch.dense, {n, dense_}))[0]);
      x.push_back(networks_.Forward(parts, critic.action, action.narrow(1, k, 1).contiguous())[0]);
      q.push_back(-networks_.Forward(parts, critic.body, at::cat(x, 1)).view({-1}).relu());
    }
    return at::stack(q, 1);
  }

  at::Tensor Of(const at::Tensor& parameters, const EmbeddingTable& table, const ScorerBatch& batch, const std::vector<float>& action) const {
    const auto distinct = table.Find(batch.ids);
    return Forward(parameters, batch, Read(table, distinct.rows), distinct, View(action, {Size(batch.size), tasks_}));
  }

  at::Tensor TargetOf(const CriticBatch& batch) const {
    const at::NoGradGuard no_gradient;
    const std::int64_t n = Size(batch.at.size);
    return CriticTarget(View(batch.reward, {n, tasks_}), View(batch.terminated, {n}), Of(target_, target_table_, batch.next, batch.next_action),
                        settings_.gamma());
  }

  const v1::Scorer settings_;
  const Compute compute_;
  const std::int64_t tasks_, fields_, dense_, width_;
  std::vector<Numbers> critics_;
  NetworkSet networks_;
  at::Tensor parameters_, target_;
  FlatAdam adam_;
  EmbeddingTable table_, target_table_;
};

Result<std::unique_ptr<ScorerCritics>> Create(const v1::Config& config, const v1::ScorerShape& shape, std::size_t tasks) {
  v1::Learner where = config.learner();
  where.set_device("cpu");
  where.set_precision("float32");
  FUSELINE_ASSIGN_OR_FAIL(Compute compute, ChooseCompute(where));
  return std::make_unique<Critics>(config, shape, tasks, std::move(compute));
}

const ScorerRegistrar registrar({.model = nullptr, .critics = Create, .backbones = nullptr});

}  // namespace

at::Tensor CriticTarget(const at::Tensor& reward, const at::Tensor& terminated, const at::Tensor& next_q, double gamma) {
  return reward + gamma * (1 - terminated).unsqueeze(1) * next_q;
}

}  // namespace fuseline
