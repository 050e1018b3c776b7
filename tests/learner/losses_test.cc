// Each formula of EnhancedRL against plain loops in double precision on random masks, and the gradients of both losses against
// central differences.

#include "torch/losses.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <span>

#include "algorithm.h"
#include "fuseline/fusion/action_space.h"
#include "learner_world.h"
#include "torch/compute.h"
#include "torch/networks.h"

namespace fuseline {
namespace {

constexpr std::int64_t kB = 5, kL = 3, kM = 4, kG = 2, kD = 4;

struct World {
  at::Tensor reward, mask, terminated, q, next_excess, next_mask;
};

World RandomWorld(std::uint64_t seed) {
  at::manual_seed(seed);
  const auto options = at::TensorOptions(at::kDouble);
  return {.reward = at::randn({kG, kB, kL}, options),
          .mask = at::rand({kB, kL}, options).gt(0.3).to(at::kDouble),
          .terminated = at::rand({kB}, options).gt(0.5).to(at::kDouble),
          .q = at::randn({kM, kB, kL}, options),
          .next_excess = at::randn({kB, kL, kD}, options).clamp_min(0) * 4,
          .next_mask = at::rand({kB, kL}, options).gt(0.3).to(at::kDouble)};
}

double At(const at::Tensor& tensor, at::IntArrayRef index) {
  at::Tensor value = tensor;
  for (const std::int64_t i : index) value = value[i];
  return value.item<double>();
}

double SlowPenalty(const at::Tensor& excess, std::int64_t b, std::int64_t l, bool literal) {
  double sum = 0;
  for (std::int64_t d = 0; d < kD; ++d) {
    const double x = At(excess, {b, l, d});
    const double continuous = x <= 6 ? std::exp(x) - 1 : std::exp(6.0) * (1 + x - 6) - 1;
    sum += !literal ? continuous : x > 0 ? std::exp(x) : 0;
  }
  return sum;
}

TEST(LossesTest, ThePenaltyIsContinuousWithItsTangentBeyondSix) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const World world = RandomWorld(seed);
    for (const bool literal : {false, true}) {
      const at::Tensor fast = BoxPenalty(world.next_excess, literal);
      for (std::int64_t b = 0; b < kB; ++b)
        for (std::int64_t l = 0; l < kL; ++l)
          EXPECT_NEAR(At(fast, {b, l}), SlowPenalty(world.next_excess, b, l, literal), 1e-6) << "seed " << seed;
    }
  }
}

TEST(LossesTest, TheExcessIsRelativeToTheBoxOfEachTransition) {
  at::manual_seed(3);
  const at::Tensor action = at::rand({kB, kL, kD}, at::kDouble) * 2 - 1, baseline = at::rand({kB, kL, kD}, at::kDouble) * 2 - 1;
  const at::Tensor box = at::stack({-at::rand({kB}, at::kDouble), at::rand({kB}, at::kDouble)}, 1);
  const at::Tensor fast = BoxExcess(action, baseline, box, 0.3);
  for (std::int64_t b = 0; b < kB; ++b)
    for (std::int64_t l = 0; l < kL; ++l)
      for (std::int64_t d = 0; d < kD; ++d) {
        const double lower = At(baseline, {b, l, d}) + At(box, {b, 0}), upper = At(baseline, {b, l, d}) + At(box, {b, 1});
        const double a = At(action, {b, l, d}), width = upper - lower;
        const double expected = (a < lower ? lower - a : a > upper ? a - upper : 0) / (0.3 * width);
        EXPECT_NEAR(At(fast, {b, l, d}), expected, 1e-9);
      }
}

TEST(LossesTest, TargetAndCriticLossAreThoseOfPlainLoops) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (int variant = 0; variant < 8; ++variant) {
      SCOPED_TRACE("seed " + std::to_string(seed) + " variant " + std::to_string(variant));
      const World w = RandomWorld(seed);
      const TargetForm form{.gamma = 0.9, .alpha_d = 0.1, .phi = (variant & 1) != 0, .literal = (variant & 4) != 0, .per_item = (variant & 2) != 0};
      const at::Tensor target = TdTarget(w.reward, w.mask, w.terminated, w.q, w.next_excess, w.next_mask, form);
      const at::Tensor q = w.q * 0.5 + 1;
      const at::Tensor weight = at::rand({kB}, at::kDouble) + 0.5;
      double loss = 0;
      std::vector<double> sizes(kB);
      for (std::int64_t m = 0; m < kM; ++m) {
        for (std::int64_t b = 0; b < kB; ++b) {
          double next = 0, earned = 0, sum_q = 0, items = 0;
          for (std::int64_t l = 0; l < kL; ++l) {
            double excess = 0;
            for (std::int64_t d = 0; d < kD; ++d) excess += At(w.next_excess, {b, l, d});
            const double value = form.phi ? At(w.q, {m, b, l}) * std::exp(-excess)
                                          : At(w.q, {m, b, l}) - 0.1 * SlowPenalty(w.next_excess, b, l, form.literal);
            next += At(w.next_mask, {b, l}) * value;
            earned += At(w.mask, {b, l}) * At(w.reward, {m / (kM / kG), b, l});
            sum_q += At(w.mask, {b, l}) * At(q, {m, b, l});
            items += At(w.mask, {b, l});
          }
          next *= 0.9 * (1 - At(w.terminated, {b}));
          if (!form.per_item) {
            EXPECT_NEAR(At(target, {m, b}), earned + next, 1e-8);
            loss += At(weight, {b}) * std::pow(sum_q - earned - next, 2) / kB;
            sizes[static_cast<std::size_t>(b)] += std::abs(sum_q - earned - next) / kM;
            continue;
          }
          for (std::int64_t l = 0; l < kL; ++l) {
            if (At(w.mask, {b, l}) == 0) continue;
            const double y = At(w.reward, {m / (kM / kG), b, l}) + next / items;
            EXPECT_NEAR(At(target, {m, b, l}), y, 1e-8);
            loss += At(weight, {b}) * std::pow(At(q, {m, b, l}) - y, 2) / kB;
            sizes[static_cast<std::size_t>(b)] += std::abs(At(q, {m, b, l}) - y) / kM;
          }
        }
      }
      const at::Tensor difference = TdDifference(q, w.mask, target, form.per_item);
      EXPECT_NEAR(CriticLoss(difference, weight).item<double>(), loss, 1e-6 * std::max(1.0, loss));
      for (std::int64_t b = 0; b < kB; ++b)
        EXPECT_NEAR(At(MeanTdError(difference), {b}), sizes[static_cast<std::size_t>(b)], 1e-8);
    }
  }
}

// The next request of a terminated session is all zeros, its box too: what lies outside that is infinitely far outside.
TEST(LossesTest, WhatComesAfterTheEndDoesNotTouchTheTarget) {
  World w = RandomWorld(5);
  w.terminated.fill_(1);
  w.next_mask.zero_();
  w.next_excess.fill_(1e6);
  for (const bool literal : {false, true}) {
    const TargetForm form{.gamma = 0.9, .alpha_d = 0.1, .phi = false, .literal = literal, .per_item = false};
    const at::Tensor target = TdTarget(w.reward, w.mask, w.terminated, w.q, w.next_excess, w.next_mask, form);
    const at::Tensor earned = (w.reward * w.mask).sum(-1).repeat_interleave(kM / kG, 0);
    EXPECT_TRUE(at::equal(target, earned)) << literal;
  }
}

TEST(LossesTest, TheActorLossIsThatOfPlainLoops) {
  const World w = RandomWorld(4);
  const at::Tensor omega = at::tensor({1.0, 0.5}, at::kDouble), penalty = BoxPenalty(w.next_excess, false);
  double sum = 0, weights = 0;
  for (std::int64_t b = 0; b < kB; ++b)
    for (std::int64_t l = 0; l < kL; ++l) {
      double pair = 1.2 * At(penalty, {b, l});
      for (std::int64_t g = 0; g < kG; ++g) {
        double mean = 0, square = 0;
        for (std::int64_t m = 0; m < kM / kG; ++m) {
          const double q = At(w.q, {g * (kM / kG) + m, b, l});
          mean += q / (kM / kG);
          square += q * q / (kM / kG);
        }
        pair += At(omega, {g}) * (0.2 * std::sqrt(square - mean * mean + 1e-8) - mean);
      }
      sum += At(w.mask, {b, l}) * pair;
      weights += At(w.mask, {b, l});
    }
  EXPECT_NEAR(ActorLoss(w.q, omega, 1.2 * penalty, w.mask, 0.2).item<double>(), sum / weights, 1e-8);
}

TEST(LossesTest, WhatAnActorSaysBeyondItsLargestLogitIsSquaredAndSummed) {
  const at::Tensor logits = at::tensor({-3.0, 0.5, 2.0, 2.5, -1.0, 4.0}, at::kDouble).view({2, 3}), excess = Saturation(logits, 2);
  EXPECT_NEAR(At(excess, {0}), 1, 1e-12);
  EXPECT_NEAR(At(excess, {1}), 0.25 + 4, 1e-12);
}

TEST(LossesTest, ThePullsInsideTheBoxAreThoseOfPlainLoops) {
  at::manual_seed(8);
  const at::Tensor action = at::rand({kB, kL, kD}, at::kDouble) - 0.5, baseline = at::rand({kB, kL, kD}, at::kDouble) - 0.5;
  const at::Tensor box = at::rand({kB, 2}, at::kDouble) + at::tensor({-1.0, 0.1}, at::kDouble);
  const at::Tensor inside = InsidePull(action, baseline, box), power_sum = PowerSumPull(action, kD / 2, 0.2);
  const at::Tensor mask = RandomWorld(8).mask, list = ListPull(action, mask, box);
  for (std::int64_t b = 0; b < kB; ++b)
    for (std::int64_t l = 0; l < kL; ++l) {
      const double lower = At(box, {b, 0}), upper = At(box, {b, 1});
      double squares = 0, powers = 0;
      for (std::int64_t d = 0; d < kD; ++d) {
        const double middle = At(baseline, {b, l, d}) + (lower + upper) / 2;
        squares += std::pow((At(action, {b, l, d}) - middle) / ((upper - lower) / 2), 2);
        if (d < kD / 2) powers += At(action, {b, l, d}) / static_cast<double>(kD / 2);
      }
      EXPECT_NEAR(At(inside, {b, l}), squares, 1e-12);
      EXPECT_NEAR(At(power_sum, {b, l}), (powers - 0.2) * (powers - 0.2), 1e-12);
      double apart = 0;
      for (std::int64_t d = 0; d < kD; ++d) {
        double sum = 0, count = 0;
        for (std::int64_t other = 0; other < kL; ++other) {
          sum += At(mask, {b, other}) * At(action, {b, other, d});
          count += At(mask, {b, other});
        }
        apart += std::pow((At(action, {b, l, d}) - sum / count) / ((upper - lower) / 2), 2);
      }
      EXPECT_NEAR(At(list, {b, l}), apart, 1e-12);
    }
}

TEST(LossesTest, FusedScoresAreThoseOfTheActionSpace) {
  v1::ActionRanges ranges;
  for (const auto& [lower, upper] : {std::pair(0.0F, 2.0F), {0.5F, 1.5F}, {0.01F, 0.4F}, {0.1F, 1.0F}}) {
    ranges.add_lower(lower);
    ranges.add_upper(upper);
    ranges.add_static_action(0);
  }
  at::manual_seed(9);
  const at::Tensor action = at::rand({kB, kL, kD}) * 2 - 1, scores = at::rand({kB, kL, kD / 2});
  for (const bool fixed_biases : {false, true}) {
    ranges.set_fixed_biases(fixed_biases);
    const ActionSpace space = ActionSpace::Create(ranges).value();
    const auto width = static_cast<std::int64_t>(space.learned_width());
    const Problem problem = ProblemOf(FeatureEncoder(test::SmallSchema()), space);
    const at::Tensor fused = FusedScores(action.narrow(-1, 0, width), scores, FromHost(problem.lower, {kD}, at::kCPU),
                                         FromHost(problem.upper, {kD}, at::kCPU));
    for (std::int64_t b = 0; b < kB; ++b)
      for (std::int64_t l = 0; l < kL; ++l) {
        const std::span of_pair(scores[b][l].data_ptr<float>(), kD / 2), by(action[b][l].data_ptr<float>(), space.learned_width());
        EXPECT_NEAR(At(fused, {b, l}), space.FusedScore(of_pair, by), 1e-5) << "fixed biases " << fixed_biases;
      }
  }
}

TEST(LossesTest, TheSelectionDifferentialIsThatOfPlainLoops) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const World w = RandomWorld(seed);
    const at::Tensor fused = w.q[0], value = w.q[1], weight = w.mask * (at::rand({kB, 1}, at::kDouble) + 0.5);
    double product = 0, square = 0, weights = 0;
    for (std::int64_t b = 0; b < kB; ++b) {
      double mean_fused = 0, mean_value = 0, of_list = 0;
      for (std::int64_t l = 0; l < kL; ++l) {
        mean_fused += At(weight, {b, l}) * At(fused, {b, l});
        mean_value += At(weight, {b, l}) * At(value, {b, l});
        of_list += At(weight, {b, l});
      }
      for (std::int64_t l = 0; l < kL && of_list > 0; ++l) {
        const double f = At(fused, {b, l}) - mean_fused / of_list, v = At(value, {b, l}) - mean_value / of_list;
        product += At(weight, {b, l}) * f * v;
        square += At(weight, {b, l}) * f * f;
      }
      weights += of_list;
    }
    const double expected = product / std::sqrt(square * weights);
    EXPECT_NEAR(SelectionDifferential(fused, value, weight).item<double>(), expected, 1e-6) << "seed " << seed;
    EXPECT_NEAR(SelectionDifferential(3 * fused + 7, value, weight).item<double>(), expected, 1e-6) << "seed " << seed;
    EXPECT_LE(expected, SelectionDifferential(value, value, weight).item<double>()) << "seed " << seed;
  }
  const at::Tensor alike = at::ones({kB, kL}, at::kDouble);
  EXPECT_EQ(SelectionDifferential(alike, alike, alike).item<double>(), 0);
}

// The gradient of loss(parameters of `actor`) against central differences, at every third parameter.
void ExpectCentralDifferences(const DenseEnsemble& actor, const std::function<at::Tensor(const at::Tensor&)>& loss) {
  const at::Tensor parameters = actor.Initial(1, "a").to(at::kDouble).requires_grad_();
  const at::Tensor gradient = torch::autograd::grad({loss(parameters)}, {parameters})[0];
  for (std::int64_t i = 0; i < actor.parameters(); i += 3) {
    constexpr double kStep = 1e-6;
    at::Tensor up = parameters.detach().clone(), down = parameters.detach().clone();
    up[i] += kStep;
    down[i] -= kStep;
    const double expected = (loss(up) - loss(down)).item<double>() / (2 * kStep);
    EXPECT_NEAR(At(gradient, {i}), expected, 1e-4 * std::max(1.0, std::abs(expected))) << "parameter " << i;
  }
}

// The selection's loss as the actor has it: mu(s) through fused scores and pulls.
TEST(LossesTest, TheSelectionsGradientIsThatOfCentralDifferences) {
  at::manual_seed(10);
  const DenseEnsemble actor(1, {3, 6, kD});
  const at::Tensor states = at::randn({kB * kL, 3}, at::kDouble), scores = at::rand({kB, kL, kD / 2}, at::kDouble);
  const at::Tensor lower = at::tensor({0.0, 0.5, 0.01, 0.1}, at::kDouble), upper = at::tensor({2.0, 1.5, 0.4, 1.0}, at::kDouble);
  const World w = RandomWorld(10);
  const at::Tensor value = PairValue(w.q, at::tensor({1.0, 2.0}, at::kDouble), 0.2);
  const auto loss = [&](const at::Tensor& parameters) {
    const at::Tensor action = actor.Forward(parameters, states)[0].tanh().view({kB, kL, kD});
    return WeightedMean(3 * PowerSumPull(ListMean(action, w.mask), kD / 2, 0.2), w.mask) -
           SelectionDifferential(FusedScores(action, scores, lower, upper), value, w.mask);
  };
  ExpectCentralDifferences(actor, loss);
}

// mu(s) through critics, deviation and penalty at once, some actions outside the box.
TEST(LossesTest, TheActorsGradientIsThatOfCentralDifferences) {
  at::manual_seed(5);
  const DenseEnsemble actor(1, {3, 6, kD}), critic(kM, {3 + kD, 5, 7, 1});
  const at::Tensor states = at::randn({kB * kL, 3}, at::kDouble), critic_parameters = critic.Initial(1, "c").to(at::kDouble);
  const at::Tensor baseline = at::rand({kB, kL, kD}, at::kDouble) - 0.5, omega = at::tensor({1.0, 2.0}, at::kDouble);
  const at::Tensor mask = RandomWorld(5).mask, box = at::tensor({-0.15, 0.15}, at::kDouble).expand({kB, 2});
  const auto loss = [&](const at::Tensor& parameters) {
    const at::Tensor mu = actor.Forward(parameters, states)[0].tanh();
    const at::Tensor q = critic.Forward(critic_parameters, at::cat({states, mu}, 1)).reshape({kM, kB, kL});
    const at::Tensor action = mu.view({kB, kL, kD}), penalty = BoxPenalty(BoxExcess(action, baseline, box, 0.3), false);
    const at::Tensor pulls = 0.1 * InsidePull(action, baseline, box) + 3 * PowerSumPull(action, kD / 2, 0.2) +
                             0.3 * ListPull(action, mask, box);
    return ActorLoss(q, omega, 1.2 * penalty + pulls, mask, 0.2);
  };
  ExpectCentralDifferences(actor, loss);
}

TEST(LossesTest, TheBatchedEnsembleIsALoopOverItsMembers) {
  at::manual_seed(6);
  const DenseEnsemble net(kM, {3, 5, 4, 2});
  const at::Tensor parameters = net.Initial(9, "x").to(at::kDouble), x = at::randn({7, 3}, at::kDouble);
  const at::Tensor fast = net.Forward(parameters, x);
  for (std::int64_t m = 0; m < kM; ++m) {
    at::Tensor h = x;
    for (std::int64_t layer = 0; layer < net.layers(); ++layer) {
      const auto [weights, biases] = net.Layer(parameters, layer);
      h = at::matmul(h, weights[m].t()) + biases[m];
      if (layer + 1 < net.layers()) h = h.relu();
    }
    EXPECT_TRUE(at::allclose(fast[m], h, 1e-9, 1e-9));
  }
}

}  // namespace
}  // namespace fuseline
