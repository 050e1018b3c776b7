// Proven of every backbone: its gradient is that of central differences, its loss that of plain loops in double
// precision, it fits one batch to the bottom, and takes nothing from other tasks where it shares nothing.

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <gtest/gtest.h>
#include <numeric>

#include "fuseline/test_support/matchers.h"
#include "scorer/input_statistics.h"
#include "scorer/scorer_model.h"
#include "scorer_world.h"
#include "torch/scorer/backbone.h"

namespace fuseline {
namespace {

at::Tensor Same(const at::Tensor& x) { return x; }

const BackboneShape kShape{.fields = 3, .dense = 2, .tasks = 2, .sizes = SizesOf(test::ScorerConfig().scorer())};
constexpr std::int64_t kRows = 5;

struct World {
  explicit World(const Backbone& backbone)
      : parameters(backbone.networks().Initial(1, "t").to(at::kDouble)),
        embedded(at::randn({kRows, kShape.fields, kShape.sizes.embedding_width * backbone.embedding_sets()}, at::kDouble)),
        dense(at::randn({kRows, kShape.dense}, at::kDouble)),
        labels((at::rand({kRows, kShape.tasks}, at::kDouble) > 0.5).to(at::kDouble)),
        weights(at::rand({kRows, kShape.tasks}, at::kDouble) + 0.5) {}
  at::Tensor parameters, embedded, dense, labels, weights;
};

class BackboneTest : public ::testing::TestWithParam<std::string> {
 protected:
  BackboneTest() : seeded_((at::manual_seed(7), true)), backbone_(MakeBackbone(GetParam(), kShape, nullptr)), world_(*backbone_) {}
  LogScores Scores(const at::Tensor& parameters, const at::Tensor& embedded) const {
    return backbone_->Forward(backbone_->networks().Split(parameters), {embedded, world_.dense}, Same);
  }
  at::Tensor Loss(const at::Tensor& parameters, const at::Tensor& embedded) const {
    return WeightedLoss(Scores(parameters, embedded), world_.labels, world_.weights);
  }
  const bool seeded_;
  const std::unique_ptr<Backbone> backbone_;
  const World world_;
};

TEST_P(BackboneTest, ItsGradientIsThatOfCentralDifferences) {
  const at::Tensor parameters = world_.parameters.clone().requires_grad_(), embedded = world_.embedded.clone().requires_grad_();
  const auto gradients = torch::autograd::grad({Loss(parameters, embedded)}, {parameters, embedded});

  const auto check = [&](const at::Tensor& at, const at::Tensor& gradient, std::int64_t every, const auto& loss_at) {
    const at::Tensor flat = gradient.flatten();
    for (std::int64_t i = 0; i < flat.numel(); i += every) {
      constexpr double kStep = 1e-6;
      at::Tensor up = at.detach().clone(), down = at.detach().clone();
      up.view({-1})[i] += kStep;
      down.view({-1})[i] -= kStep;
      const double expected = (loss_at(up) - loss_at(down)).template item<double>() / (2 * kStep);
      EXPECT_NEAR(flat[i].item<double>(), expected, 1e-6 * std::max(1.0, std::abs(expected))) << i;
    }
  };
  check(parameters, gradients[0], 3, [&](const at::Tensor& x) { return Loss(x, world_.embedded); });
  check(embedded, gradients[1], 1, [&](const at::Tensor& x) { return Loss(world_.parameters, x); });
}

TEST_P(BackboneTest, ItsLossIsThatOfPlainLoops) {
  const LogScores scores = Scores(world_.parameters, world_.embedded);
  const at::Tensor p = scores.hit.exp();
  double expected = 0;
  std::vector<double> of_task(2, 0.0);
  for (std::int64_t n = 0; n < kRows; ++n) {
    for (std::int64_t k = 0; k < 2; ++k) {
      const double q = p[n][k].item<double>(), y = world_.labels[n][k].item<double>();
      EXPECT_NEAR(scores.miss[n][k].item<double>(), std::log(1 - q), 1e-12);
      const double one = -(y * std::log(q) + (1 - y) * std::log(1 - q));
      of_task[static_cast<std::size_t>(k)] += one / kRows;
      expected += world_.weights[n][k].item<double>() * one / kRows;
    }
  }
  EXPECT_NEAR(Loss(world_.parameters, world_.embedded).item<double>(), expected, 1e-12);
  const at::Tensor tasks = TaskLosses(scores, world_.labels);
  for (std::int64_t k = 0; k < 2; ++k) EXPECT_NEAR(tasks[k].item<double>(), of_task[static_cast<std::size_t>(k)], 1e-12);
}

TEST_P(BackboneTest, OnlyWhatSharesNothingGetsNoGradientOfAnotherTask) {
  const at::Tensor embedded = world_.embedded.clone().requires_grad_();
  const at::Tensor second = Scores(world_.parameters, embedded).hit.select(1, 1).sum();
  const at::Tensor gradient = torch::autograd::grad({second}, {embedded})[0];
  if (GetParam() == "single_task") {
    const std::int64_t width = kShape.sizes.embedding_width;
    EXPECT_EQ(gradient.narrow(2, 0, width).abs().sum().item<double>(), 0);
    EXPECT_GT(gradient.narrow(2, width, width).abs().sum().item<double>(), 0);
  } else {
    EXPECT_GT(gradient.abs().sum().item<double>(), 0);
  }
}

TEST_P(BackboneTest, EsmmsSecondProbabilityNeverExceedsItsFirst) {
  if (GetParam() != "esmm") return;
  const at::Tensor p = Scores(world_.parameters, 10 * world_.embedded).hit.exp();
  EXPECT_TRUE((p.select(1, 1) < p.select(1, 0)).all().item<bool>());
}

TEST_P(BackboneTest, OneBatchIsFittedToTheBottom) {
  const v1::Config config = test::ScorerConfig(
      {"scorer.backbone=" + GetParam(), "scorer.rate=0.003", "scorer.embedding_rate=0.02", "scorer.embedding_width=8", "scorer.bottom=32,16", "scorer.tower=16"});
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(config));
  ScorerRows rows = test::RandomRows(fields, 24, 3);
  InputStatistics inputs(fields.shape(), 2);
  test::Count(rows, 0, rows.size(), &inputs);
  std::vector<std::size_t> which(rows.size());
  std::iota(which.begin(), which.end(), std::size_t{0});
  const ScorerBatch batch = inputs.Gather(rows, which);
  ASSERT_OK_AND_ASSIGN(const auto model, CreateScorerModel(config, fields.shape(), 2));

  std::vector<double> loss;
  for (std::uint64_t step = 0; step < 800; ++step) {
    ASSERT_OK_AND_ASSIGN(const ScorerStep done, model->Step(batch, step));
    ASSERT_FALSE(done.undone);
    loss = done.loss;
  }

  EXPECT_LT(loss[0], 0.02);
  EXPECT_LT(loss[1], 0.02);
}

TEST_P(BackboneTest, AStepThatIsNotFiniteChangesNothing) {
  const v1::Config config = test::ScorerConfig({"scorer.backbone=" + GetParam()});
  ASSERT_OK_AND_ASSIGN(const auto fields, ScorerFields::Create(config));
  const ScorerRows rows = test::RandomRows(fields, 8, 3);
  const std::vector<std::size_t> which{0, 1, 2, 3};
  ScorerBatch batch = InputStatistics(fields.shape(), 2).Gather(rows, which);
  ASSERT_OK_AND_ASSIGN(const auto model, CreateScorerModel(config, fields.shape(), 2));
  const std::string before = EncodeWeights(model->Save());
  batch.weights[1] = std::nanf("");

  ASSERT_OK_AND_ASSIGN(const ScorerStep done, model->Step(batch, 0));

  EXPECT_TRUE(done.undone);
  EXPECT_EQ(EncodeWeights(model->Save()), before);
}

INSTANTIATE_TEST_SUITE_P(All, BackboneTest, ::testing::ValuesIn(BackboneNames()), [](const auto& which) { return which.param; });

}  // namespace
}  // namespace fuseline
