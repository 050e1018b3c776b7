// The kernels for training on a CPU: values and gradients of whole ensembles against LibTorch's own operations and
// autograd in double precision, on shapes that fill no register; the same bits from each instruction set and any number
// of threads; Adam against plain loops.

#include "torch/cpu_ensemble.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <gtest/gtest.h>

#include "torch/networks.h"

namespace fuseline {
namespace {

struct Shape {
  std::int64_t members;
  std::vector<std::int64_t> widths;
  std::int64_t rows, more;  // `more` of the inputs come as a block of their own.
};
const Shape kShapes[] = {{1, {3, 1}, 1, 0},         {1, {5, 7, 4}, 6, 2},        {2, {6, 1, 9, 1, 3}, 40, 0},        {3, {59, 64, 64, 1}, 17, 10},
                         {2, {16, 33, 12}, 241, 0}, {4, {9, 20, 18, 3}, 500, 4}, {2, {60, 256, 128, 64, 1}, 250, 10},
                         {1, {700, 530, 300, 1}, 250, 10}};

struct Followed {
  at::Tensor y, by_parameters, by_x, by_more;
};

// Of a loss that treats every output differently.
Followed Follow(const at::Tensor& y, const at::Tensor& parameters, const at::Tensor& x, const at::Tensor& more) {
  const at::Tensor factor = at::arange(y.numel(), y.options()).sin().view_as(y);
  std::vector<at::Tensor> inputs{parameters, x};
  if (more.defined()) inputs.push_back(more);
  const auto gradients = torch::autograd::grad({(y * y * factor).sum()}, inputs);
  return {y.detach(), gradients[0], gradients[1], more.defined() ? gradients[2] : at::Tensor()};
}

double LargestDifference(const at::Tensor& fast, const at::Tensor& exact) {
  return ((fast.to(at::kDouble) - exact).abs().max() / exact.abs().max().clamp_min(1e-3)).item<double>();
}

class CpuEnsembleTest : public ::testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    if (ChooseDenseKernels() == nullptr)
      GTEST_SKIP() << "this CPU has no fused multiply-add: LibTorch's operations do the work";
    at::manual_seed(11);
    x_ = at::randn({GetParam().rows, GetParam().widths[0] - GetParam().more}).requires_grad_();
    if (GetParam().more > 0) more_ = at::randn({GetParam().rows, GetParam().more}).requires_grad_();
    parameters_ = net_.Initial(5, "net").requires_grad_();
  }

  Followed Fast() const { return Follow(net_.Forward(parameters_, x_, more_), parameters_, x_, more_); }

  const DenseEnsemble net_{GetParam().members, GetParam().widths};
  at::Tensor x_, more_, parameters_;
};

TEST_P(CpuEnsembleTest, ValuesAndGradientsAreThoseOfAutogradInDouble) {
  const auto exactly = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.detach().to(at::kDouble).requires_grad_() : tensor;
  };
  const at::Tensor x = exactly(x_), more = exactly(more_), parameters = exactly(parameters_);
  const at::Tensor input = more.defined() ? at::cat({x, more}, 1) : x;
  const Followed exact = Follow(net_.ForwardAnywhere(parameters, input), parameters, x, more);

  const Followed fast = Fast();

  EXPECT_LT(LargestDifference(fast.y, exact.y), 1e-5);
  EXPECT_LT(LargestDifference(fast.by_parameters, exact.by_parameters), 1e-4);
  EXPECT_LT(LargestDifference(fast.by_x, exact.by_x), 1e-4);
  if (more.defined()) {
    EXPECT_LT(LargestDifference(fast.by_more, exact.by_more), 1e-4);
  }
  const at::NoGradGuard no_gradient;
  EXPECT_TRUE(at::equal(net_.Forward(parameters_, x_, more_), fast.y)) << "what is not followed back is the same";
}

TEST_P(CpuEnsembleTest, OnlyWhatIsAskedForIsFollowedAndIsTheSame) {
  const Followed all = Fast();
  const at::Tensor y = net_.Forward(parameters_.detach(), x_.detach(), more_),
                   alone = net_.Forward(parameters_, x_.detach(), more_.defined() ? more_.detach() : more_);
  const at::Tensor factor = at::arange(y.numel(), y.options()).sin().view_as(y);
  EXPECT_TRUE(at::equal(torch::autograd::grad({(alone * alone * factor).sum()}, {parameters_})[0], all.by_parameters));
  if (!more_.defined()) return;
  EXPECT_TRUE(at::equal(torch::autograd::grad({(y * y * factor).sum()}, {more_})[0], all.by_more));
}

TEST_P(CpuEnsembleTest, ThreadsChangeNoBit) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Followed one = Fast();
  at::set_num_threads(3);
  const Followed three = Fast();
  at::set_num_threads(before);
  EXPECT_TRUE(at::equal(one.y, three.y));
  EXPECT_TRUE(at::equal(one.by_parameters, three.by_parameters));
  EXPECT_TRUE(at::equal(one.by_x, three.by_x));
}

TEST_P(CpuEnsembleTest, EveryInstructionSetGivesTheSameBits) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "this CPU has one of the two";
  std::vector<Followed> results;
  const at::NoGradGuard no_gradient;
  for (const DenseKernels* kernels : {&kAvx2DenseKernels, &kAvx512DenseKernels}) {
    const CpuEnsemble ensemble(GetParam().members, GetParam().widths, kernels);
    CpuEnsemble::Tape tape;
    const at::Tensor y = ensemble.Forward(parameters_, x_, more_, &tape);
    const auto gradients = ensemble.Backward(parameters_, tape, y.cos(), true, 0, GetParam().widths[0]);
    results.push_back({y, gradients.parameters, gradients.input, {}});
  }
  EXPECT_TRUE(at::equal(results[0].y, results[1].y));
  EXPECT_TRUE(at::equal(results[0].by_parameters, results[1].by_parameters));
  EXPECT_TRUE(at::equal(results[0].by_x, results[1].by_x));
#endif
}

INSTANTIATE_TEST_SUITE_P(Shapes, CpuEnsembleTest, ::testing::ValuesIn(kShapes));

TEST(CpuEnsembleTest, TwoGraphsAtOnceKeepTheirOwnActivations) {
  at::manual_seed(12);
  const DenseEnsemble net(2, {4, 20, 1});
  const at::Tensor parameters = net.Initial(5, "net").requires_grad_(), x = at::randn({30, 4}),
                   other = at::randn({30, 4});
  const auto gradient = [&](const at::Tensor& loss) { return torch::autograd::grad({loss}, {parameters})[0]; };
  const at::Tensor alone = gradient(net.Forward(parameters, x).square().sum()),
                   also = gradient(net.Forward(parameters, other).square().sum());

  const at::Tensor together =
      gradient(net.Forward(parameters, x).square().sum() + net.Forward(parameters, other).square().sum());

  EXPECT_TRUE(at::allclose(together, alone + also, 1e-5, 1e-5));
}

// Where B's rows lie far apart its columns are copied together, and a long depth is taken in parts.
TEST(DenseKernelsTest, HowFarRowsLieApartChangesNoBit) {
  if (ChooseDenseKernels() == nullptr) GTEST_SKIP() << "this CPU has no fused multiply-add";
  at::manual_seed(16);
  constexpr std::int64_t kRows = 101, kDepth = 600, kColumns = 304;
  const at::Tensor a = at::randn({kRows, kDepth}), b = at::randn({kDepth, kColumns}), bias = at::randn({kColumns}),
                   before = at::randn({kRows, kColumns}), gate = at::randn({kRows, kColumns});
  const auto multiply = [&](DenseProduct product, std::int64_t width) {  // So many columns at a time, B's lying together.
    at::Tensor c = before.clone();
    for (std::int64_t column = 0; column < kColumns; column += width) {
      DenseProduct part = product;
      const at::Tensor columns = b.narrow(1, column, std::min(width, kColumns - column)).contiguous();
      part.a = a.const_data_ptr<float>();
      part.a_row = kDepth;
      part.b = columns.const_data_ptr<float>();
      part.b_stride = part.columns = static_cast<std::size_t>(columns.size(1));
      part.c = c.data_ptr<float>() + column;
      part.c_stride = kColumns;
      part.rows = kRows;
      part.depth = kDepth;
      if (part.bias != nullptr) part.bias += column;
      if (part.gate != nullptr) part.gate += column;
      ChooseDenseKernels()->multiply(part);
    }
    return c;
  };

  const DenseProduct plain, onto{.onto = true}, forward{.bias = bias.const_data_ptr<float>(), .relu = true},
      backward{.gate = gate.const_data_ptr<float>()};
  for (const DenseProduct& product : {plain, onto, forward, backward})
    EXPECT_TRUE(at::equal(multiply(product, kColumns), multiply(product, 32)));
}

at::Tensor Rounded(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kDouble); }

// Shapes beyond every block and tile, both ways of lying in memory, and all that stands before and after a product.
TEST(Bfloat16Test, AProductIsThatOfRoundedOperandsSummedInFloat) {
  if (ChooseBfloat16Kernels() == nullptr) GTEST_SKIP() << "this CPU has no avx512_bf16; that it is refused is tested in algorithm_test";
  at::manual_seed(14);
  for (const auto& [rows, columns, depth] : {std::array<std::int64_t, 3>{1, 16, 1}, {13, 32, 7}, {241, 48, 64}, {30, 16, 513}, {500, 80, 257}}) {
    const at::Tensor a = at::randn({rows, depth}), b = at::randn({depth, columns}), before = at::randn({rows, columns}), gate = at::randn({rows, columns}),
                     bias = at::randn({columns});
    const at::Tensor across = a.t().contiguous(), sum = at::mm(Rounded(a), Rounded(b));
    const auto multiply = [&](DenseProduct product) {
      at::Tensor c = before.clone();
      product.b = b.const_data_ptr<float>();
      product.b_stride = product.columns = product.c_stride = static_cast<std::size_t>(columns);
      product.c = c.data_ptr<float>();
      product.rows = static_cast<std::size_t>(rows);
      product.depth = static_cast<std::size_t>(depth);
      ChooseBfloat16Kernels()->multiply(product);
      return c;
    };
    const DenseProduct lying{.a = a.const_data_ptr<float>(), .a_row = static_cast<std::size_t>(depth)},
        standing{.a = across.const_data_ptr<float>(), .a_row = 1, .a_depth = static_cast<std::size_t>(rows)};
    for (DenseProduct product : {lying, standing}) {
      EXPECT_LT(LargestDifference(multiply(product), sum), 1e-5) << rows << ' ' << columns << ' ' << depth;
      product.gate = gate.const_data_ptr<float>();
      EXPECT_LT(LargestDifference(multiply(product), sum * (gate > 0)), 1e-5);
      product.gate = nullptr;
      product.onto = true;
      EXPECT_LT(LargestDifference(multiply(product), sum + before), 1e-5);
      product.onto = false;
      product.relu = true;
      product.bias = bias.const_data_ptr<float>();
      EXPECT_LT(LargestDifference(multiply(product), (sum + bias).clamp_min(0)), 1e-5);
    }
  }
}

TEST(Bfloat16Test, AnEnsembleSaysNearlyWhatItSaysInFloat32) {
  if (ChooseBfloat16Kernels() == nullptr) GTEST_SKIP() << "this CPU has no avx512_bf16";
  at::manual_seed(15);
  const DenseEnsemble exact(3, {59, 64, 64, 1}), rounding(3, {59, 64, 64, 1}, ChooseBfloat16Kernels());
  const at::Tensor parameters = exact.Initial(5, "net").requires_grad_(), x = at::randn({250, 59});
  const auto gradient = [&](const at::Tensor& y) { return torch::autograd::grad({y.square().sum()}, {parameters})[0]; };
  const at::Tensor one = exact.Forward(parameters, x), other = rounding.Forward(parameters, x);
  EXPECT_FALSE(at::equal(one, other));
  EXPECT_LT(LargestDifference(other, one.to(at::kDouble)), 0.02);
  EXPECT_LT(LargestDifference(gradient(other), gradient(one).to(at::kDouble)), 0.05);
}

TEST(FlatAdamTest, AStepIsThatOfPlainLoopsWhereverItIsWritten) {
  at::manual_seed(13);
  constexpr std::int64_t kSize = 37;
  const at::Tensor start = at::randn({kSize}), gradient = at::randn({kSize});
  FlatAdam beside(start), in_place(start);
  beside.updates = in_place.updates = 6;
  const FlatAdam::State from{start, at::randn({kSize}), at::rand({kSize})};
  in_place.first.copy_(from.first);
  in_place.second.copy_(from.second);
  at::Tensor moved = at::empty({kSize}), same = start.clone();

  EXPECT_TRUE(beside.Update(from, gradient, /*scale=*/0.5, /*rate=*/0.01, moved));
  EXPECT_TRUE(in_place.Update({same, in_place.first, in_place.second}, gradient, 0.5, 0.01, same));

  for (std::int64_t i = 0; i < kSize; ++i) {
    const double g = 0.5 * gradient[i].item<double>();
    const double m = 0.9 * from.first[i].item<double>() + 0.1 * g,
                 v = 0.999 * from.second[i].item<double>() + 0.001 * g * g;
    const double step = 0.01 * m / (1 - std::pow(0.9, 7)) / (std::sqrt(v / (1 - std::pow(0.999, 7))) + 1e-8);
    EXPECT_NEAR(moved[i].item<double>(), start[i].item<double>() - step, 1e-6);
    EXPECT_NEAR(beside.first[i].item<double>(), m, 1e-6);
    EXPECT_NEAR(beside.second[i].item<double>(), v, 1e-6);
  }
  EXPECT_TRUE(at::equal(moved, same));
  EXPECT_EQ(beside.updates, 7U);
}

TEST(FlatAdamTest, AStepThatIsNotFiniteSaysSo) {
  for (const std::int64_t at : {std::int64_t{3}, std::int64_t{36}}) {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      at::Tensor parameters = at::zeros({37}), gradient = at::ones({37});
      FlatAdam adam(parameters);
      gradient[at] = bad;
      EXPECT_FALSE(adam.Update({parameters, adam.first, adam.second}, gradient, 1, 0.01, parameters))
          << bad << " at " << at;
    }
  }
}

}  // namespace
}  // namespace fuseline
