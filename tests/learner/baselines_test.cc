// Each formula of the baselines and of BatchRL-MTF against plain loops in double precision on random inputs.

#include "torch/baselines.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include <gtest/gtest.h>

#include "torch/losses.h"

namespace fuseline {
namespace {

constexpr std::int64_t kB = 6, kM = 2, kK = 5, kD = 3, kZ = 4;

double At(const at::Tensor& tensor, at::IntArrayRef index) {
  at::Tensor value = tensor;
  for (const std::int64_t i : index) value = value[i];
  return value.item<double>();
}

double Sum(std::int64_t count, const std::function<double(std::int64_t)>& term) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += term(i);
  return sum;
}

class BaselinesTest : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(11); }
  static at::Tensor Random(at::IntArrayRef shape) { return at::randn(shape, at::kDouble); }
  at::Tensor weight_ = at::rand({kB}, at::kDouble) + 0.5;
};

TEST_F(BaselinesTest, ATargetBootstrapsUnlessItsSessionEnded) {
  const at::Tensor reward = Random({kB}), next = Random({kB}), terminated = at::rand({kB}, at::kDouble).gt(0.5).to(at::kDouble);
  const at::Tensor y = Bootstrapped(reward, terminated, next, 0.95);
  for (std::int64_t b = 0; b < kB; ++b)
    EXPECT_NEAR(At(y, {b}), At(reward, {b}) + (At(terminated, {b}) == 0 ? 0.95 * At(next, {b}) : 0), 1e-12);
}

TEST_F(BaselinesTest, AnActorsMeanIsWeighted) {
  const at::Tensor x = Random({kB});
  const double weights = Sum(kB, [&](auto b) { return At(weight_, {b}); });
  EXPECT_NEAR(WeightedMean(x, weight_).item<double>(), Sum(kB, [&](auto b) { return At(weight_, {b}) * At(x, {b}); }) / weights, 1e-12);
}

TEST_F(BaselinesTest, Td3sTargetActionHasClippedNoiseAndStaysInRange) {
  const at::Tensor mu = Random({kB, kD}).tanh(), normals = 3 * Random({kB, kD});
  const at::Tensor action = SmoothedAction(mu, normals, 0.2, 0.5);
  for (std::int64_t b = 0; b < kB; ++b)
    for (std::int64_t d = 0; d < kD; ++d) {
      const double noise = std::clamp(0.2 * At(normals, {b, d}), -0.5, 0.5);
      EXPECT_NEAR(At(action, {b, d}), std::clamp(At(mu, {b, d}) + noise, -1.0, 1.0), 1e-12);
    }
}

TEST_F(BaselinesTest, ANormalsLogDensityIsThatOfItsFormula) {
  const at::Tensor x = Random({kB, kD}), mean = Random({kB, kD}), log_std = Random({kD});
  const at::Tensor density = NormalLogDensity(x, mean, log_std);
  for (std::int64_t b = 0; b < kB; ++b) {
    const double expected = Sum(kD, [&](auto d) {
      const double std = std::exp(At(log_std, {d})), z = (At(x, {b, d}) - At(mean, {b, d})) / std;
      return -0.5 * z * z - std::log(std * std::sqrt(2 * std::numbers::pi));
    });
    EXPECT_NEAR(At(density, {b}), expected, 1e-10);
  }
}

TEST_F(BaselinesTest, ASquashedSamplesDensityCountsTheSquashing) {
  const at::Tensor outputs = Random({kB, 2 * kD}), normals = Random({kB, kD});
  const SquashedSample sample = SampleSquashed(outputs, normals);
  for (std::int64_t b = 0; b < kB; ++b) {
    double expected = 0;
    for (std::int64_t d = 0; d < kD; ++d) {
      const double log_std = std::clamp(At(outputs, {b, kD + d}), -5.0, 2.0), n = At(normals, {b, d});
      const double u = At(outputs, {b, d}) + std::exp(log_std) * n, a = std::tanh(u);
      EXPECT_NEAR(At(sample.action, {b, d}), a, 1e-12);
      expected += -0.5 * n * n - log_std - 0.5 * std::log(2 * std::numbers::pi) - std::log(1 - a * a);
    }
    EXPECT_NEAR(At(sample.log_density, {b}), expected, 1e-7);
  }
  const SquashedSample far = SampleSquashed(at::full({1, 2}, 30.0, at::kDouble), at::zeros({1, 1}, at::kDouble));
  EXPECT_TRUE(std::isfinite(far.log_density.item<double>())) << "where tanh is 1 in any precision";
}

TEST_F(BaselinesTest, SacsActorAndTemperatureAreThoseOfPlainLoops) {
  const at::Tensor density = Random({kB}), q = Random({kM, kB}), log_alpha = at::full({1}, -0.7, at::kDouble);
  const double weights = Sum(kB, [&](auto b) { return At(weight_, {b}); });
  const double actor = Sum(kB, [&](auto b) {
    return At(weight_, {b}) * (std::exp(-0.7) * At(density, {b}) - std::min(At(q, {0, b}), At(q, {1, b}))) / weights;
  });
  EXPECT_NEAR(EntropyActorLoss(log_alpha.exp(), density, q, weight_).item<double>(), actor, 1e-12);
  const double temperature = Sum(kB, [&](auto b) { return 0.7 * At(weight_, {b}) * (At(density, {b}) - 3) / weights; });
  EXPECT_NEAR(TemperatureLoss(log_alpha, density, -3, weight_).item<double>(), temperature, 1e-12);
}

TEST_F(BaselinesTest, AFittedQsLossIsItsErrorAndWhatItSaysMoreOfTheJudgedActions) {
  const at::Tensor logged = Random({kB}), judged = Random({kB}), target = Random({kB});
  const double error = Sum(kB, [&](auto b) { return std::pow(At(logged, {b}) - At(target, {b}), 2) / kB; });
  EXPECT_NEAR(FittedQLoss(logged, {}, target, 0).item<double>(), error, 1e-12);
  const double more = Sum(kB, [&](auto b) { return (At(judged, {b}) - At(logged, {b})) / kB; });
  EXPECT_NEAR(FittedQLoss(logged, judged, target, 0.25).item<double>(), error + 0.25 * more, 1e-12);
}

TEST_F(BaselinesTest, TheConservativeTermIsThatOfPlainLoops) {
  const at::Tensor sampled = Random({kM, kB, kK}), density = Random({kB, kK}), data = Random({kM, kB});
  double expected = 0;
  for (std::int64_t m = 0; m < kM; ++m)
    for (std::int64_t b = 0; b < kB; ++b) {
      const double sum = Sum(kK, [&](auto k) { return std::exp(At(sampled, {m, b, k}) - At(density, {b, k})); });
      expected += At(weight_, {b}) * (std::log(sum) - At(data, {m, b})) / kB;
    }
  EXPECT_NEAR(ConservativeTerm(sampled, density, data, weight_).item<double>(), expected, 1e-10);
}

TEST_F(BaselinesTest, TheExpectileLossWeighsWhatVMissesAboveMoreThanBelow) {
  const at::Tensor q = Random({kB}), v = Random({kB});
  const double expected = Sum(kB, [&](auto b) {
    const double u = At(q, {b}) - At(v, {b});
    return At(weight_, {b}) * (u < 0 ? 0.3 : 0.7) * u * u / kB;
  });
  EXPECT_NEAR(ExpectileLoss(q, v, 0.7, weight_).item<double>(), expected, 1e-12);
  const at::Tensor one = at::ones({1}, at::kDouble), zero = at::zeros({1}, at::kDouble);
  EXPECT_GT(ExpectileLoss(one, zero, 0.7, one).item<double>(), ExpectileLoss(zero, one, 0.7, one).item<double>())
      << "Q above V pulls V up harder than Q below V pulls it down";
}

TEST_F(BaselinesTest, AnActionIsCopiedAsItsAdvantageSaysUpToTheCap) {
  const at::Tensor advantage = 2 * Random({kB}), density = Random({kB});
  const double weights = Sum(kB, [&](auto b) { return At(weight_, {b}); });
  const double expected = Sum(kB, [&](auto b) {
    return -At(weight_, {b}) * std::min(std::exp(3 * At(advantage, {b})), 20.0) * At(density, {b}) / weights;
  });
  EXPECT_NEAR(AdvantageWeightedLoss(advantage, density, 3, 20, weight_).item<double>(), expected, 1e-10);
}

TEST_F(BaselinesTest, TheGeneratorsLossIsErrorAndDivergence) {
  const at::Tensor action = Random({kB, kD}), rebuilt = Random({kB, kD}), mean = Random({kB, kZ}), log_std = 0.5 * Random({kB, kZ});
  const double expected = Sum(kB, [&](auto b) {
    const double error = Sum(kD, [&](auto d) { return std::pow(At(action, {b, d}) - At(rebuilt, {b, d}), 2) / kD; });
    const double kl = Sum(kZ, [&](auto z) {
      const double m = At(mean, {b, z}), s = std::exp(At(log_std, {b, z}));
      return 0.5 * (m * m + s * s - 1 - std::log(s * s)) / kZ;
    });
    return At(weight_, {b}) * (error + 0.5 * kl) / kB;
  });
  EXPECT_NEAR(GeneratorLoss(action, rebuilt, mean, log_std, 0.5, weight_).item<double>(), expected, 1e-10);
}

TEST_F(BaselinesTest, TheNextValueIsTheBestActionByItsWorstCritic) {
  const at::Tensor q = Random({kM, kB, kK}), value = BestOfWorst(q);
  for (std::int64_t b = 0; b < kB; ++b) {
    double best = -1e9;
    for (std::int64_t k = 0; k < kK; ++k) best = std::max(best, std::min(At(q, {0, b, k}), At(q, {1, b, k})));
    EXPECT_NEAR(At(value, {b}), best, 1e-12);
  }
}

}  // namespace
}  // namespace fuseline
