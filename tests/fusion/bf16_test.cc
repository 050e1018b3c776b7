// The actor in bfloat16: its kernel against plain loops that round as it does, and how far its actions, scores and
// orders are from those of float32 (docs/ranker.md quotes what this prints). On a processor without it: that float32 is
// computed instead.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "bf16_net.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/policy_network.h"
#include "fuseline/test_support/matchers.h"
#include "random_policy.h"

namespace fuseline {
namespace {

// Nearest with 8 bits of mantissa, ties to even.
float Rounded(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits + 0x7fffU + (bits >> 16 & 1U)) & 0xffff0000U);
}

struct Layer {
  Tensor weight;
  std::vector<float> bias;
};

Layer RandomLayer(std::uint32_t inputs, std::uint32_t outputs, Random& random) {
  Layer layer{{{outputs, inputs}, std::vector<float>(std::size_t{outputs} * inputs)}, std::vector<float>(outputs)};
  for (float& value : layer.weight.values) value = static_cast<float>(random.NextNormal() / std::sqrt(inputs));
  for (float& value : layer.bias) value = static_cast<float>(0.3 * random.NextNormal());
  return layer;
}

TEST(Bf16Test, ANetGivesWhatPlainLoopsWithRoundedNumbersGive) {
  if (!HasBfloat16()) GTEST_SKIP() << "this processor has no bfloat16";
  for (const auto& widths :
       {std::vector<std::uint32_t>{31, 64, 64, 10}, {1, 10}, {7, 3, 5, 1}, {50, 33, 16, 10}, {32, 256, 128, 64, 10}}) {
    // given
    Random random(1, "bf16", widths.size() * 1'000 + widths[0]);
    std::vector<Layer> layers;
    std::vector<PackedLayer> packed;
    for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
      layers.push_back(RandomLayer(widths[i], widths[i + 1], random));
      packed.push_back(Pack(layers[i].weight, 0, widths[i],
                            i + 2 < widths.size() ? Activation::kRelu : Activation::kTanh, BestDenseKernel().lanes));
      std::copy(layers[i].bias.begin(), layers[i].bias.end(), packed[i].bias.begin());
    }
    constexpr std::size_t kRows = 29;
    const std::size_t stride = RoundUp(widths[0], BestDenseKernel().lanes);
    std::vector<float> in(kRows * stride, 0.0F), out(kRows * packed.back().dense.columns);
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (i % stride < widths[0]) in[i] = static_cast<float>(3 * random.NextNormal());
    }

    // when
    const auto net = Bf16Net::Create(packed, stride);
    ASSERT_TRUE(net.has_value());
    Bf16Net::Buffers buffers;
    net->Forward(kRows, in.data(), packed[0].bias.data(), buffers, out.data());

    // then
    for (std::size_t row = 0; row < kRows; ++row) {
      const float* const begin = in.data() + row * stride;
      std::vector<float> values(begin, begin + widths[0]);
      for (std::size_t i = 0; i < layers.size(); ++i) {
        std::vector<float> next(widths[i + 1]);
        for (std::size_t o = 0; o < next.size(); ++o) {
          double sum = layers[i].bias[o];
          for (std::size_t k = 0; k < values.size(); ++k) {
            sum += static_cast<double>(Rounded(layers[i].weight.values[o * values.size() + k])) *
                   static_cast<double>(Rounded(values[k]));
          }
          next[o] = static_cast<float>(i + 1 < layers.size() ? std::fmax(sum, 0.0) : std::tanh(sum));
        }
        values = std::move(next);
      }
      for (std::size_t o = 0; o < values.size(); ++o) {
        // A sum that the order of additions moves over a rounding's edge is a unit of bfloat16 away.
        EXPECT_NEAR(out[row * packed.back().dense.columns + o], values[o], 4e-3)
            << "widths " << widths.size() << " row " << row << " output " << o;
      }
    }
  }
}

TEST(Bf16Test, AnActionDoesNotDependOnTheOtherCandidates) {
  const Version version = RandomVersion({64, 64}, 1);
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork actor,
                       PolicyNetwork::Create(version.manifest, version.tensors, Precision::kBfloat16));
  const std::size_t width = actor.action_space().width();
  const Request request(130, 9);
  ActorWorkspace workspace;
  std::vector<float> together(130 * width), alone(width);
  ASSERT_THAT(actor.Act(request.user(), request.context(), request.candidates, workspace, together), IsOk());
  for (std::size_t i = 0; i < 130; ++i) {
    ASSERT_THAT(
        actor.Act(request.user(), request.context(), std::span(request.candidates).subspan(i, 1), workspace, alone),
        IsOk());
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + static_cast<std::ptrdiff_t>(i * width))) << i;
  }
}

// How the candidates would be ordered, and by what.
struct Ranked {
  std::vector<float> actions;
  std::vector<double> scores;
  std::vector<std::size_t> order;
};

Ranked Rank(const PolicyNetwork& actor, const Request& request) {
  const std::size_t n = request.candidates.size(), width = actor.action_space().width();
  Ranked ranked{std::vector<float>(n * width), std::vector<double>(n), std::vector<std::size_t>(n)};
  ActorWorkspace workspace;
  EXPECT_THAT(actor.Act(request.user(), request.context(), request.candidates, workspace, ranked.actions), IsOk());
  for (std::size_t i = 0; i < n; ++i) {
    std::vector<float> scores(request.candidates[i].task_scores.begin(), request.candidates[i].task_scores.end());
    actor.encoder().ClampTaskScores(scores);
    ranked.scores[i] = actor.action_space().FusedScore(scores, std::span(ranked.actions).subspan(i * width, width));
  }
  std::iota(ranked.order.begin(), ranked.order.end(), std::size_t{0});
  std::stable_sort(ranked.order.begin(), ranked.order.end(),
                   [&](std::size_t a, std::size_t b) { return ranked.scores[a] > ranked.scores[b]; });
  return ranked;
}

TEST(Bf16Test, ActionsScoresAndOrdersStayNearThoseOfFloat32) {
  constexpr std::size_t kCandidates = 300, kTop = 10;
  constexpr std::uint64_t kVersions = 20, kRequests = 25;
  struct Case {
    std::vector<std::uint32_t> hidden;
    double action_bound, score_bound, changed_bound, left_bound;
  };
  for (const Case& each : {Case{{64, 64}, 0.1, 0.3, 0.6, 0.03}, Case{{256, 128, 64}, 0.1, 0.3, 0.6, 0.03}}) {
    double largest_action = 0, largest_score = 0, squares = 0, changed = 0, left = 0;
    for (std::uint64_t seed = 1; seed <= kVersions; ++seed) {
      // given
      const Version version = RandomVersion(each.hidden, seed);
      ASSERT_OK_AND_ASSIGN(const PolicyNetwork exact, PolicyNetwork::Create(version.manifest, version.tensors));
      ASSERT_OK_AND_ASSIGN(const PolicyNetwork rounded,
                           PolicyNetwork::Create(version.manifest, version.tensors, Precision::kBfloat16));
      for (std::uint64_t number = 0; number < kRequests; ++number) {
        // when
        const Request request(kCandidates, seed * 1'000 + number);
        const Ranked a = Rank(exact, request), b = Rank(rounded, request);

        // then
        for (std::size_t i = 0; i < a.actions.size(); ++i) {
          const double difference = std::abs(a.actions[i] - b.actions[i]);
          largest_action = std::max(largest_action, difference);
          squares += difference * difference / static_cast<double>(a.actions.size());
        }
        for (std::size_t i = 0; i < kCandidates; ++i)
          largest_score = std::max(largest_score, std::abs(a.scores[i] - b.scores[i]));
        const auto top = [](const Ranked& ranked) {
          return std::vector(ranked.order.begin(), ranked.order.begin() + kTop);
        };
        const auto of_a = top(a), of_b = top(b);
        changed += of_a != of_b ? 1 : 0;
        for (const std::size_t item : of_a)
          left += std::find(of_b.begin(), of_b.end(), item) == of_b.end() ? 1.0 / kTop : 0;
      }
    }
    constexpr double kAll = static_cast<double>(kVersions * kRequests);
    std::printf(
        "%zu hidden layers: action at most %.4f off, %.5f rms; fused score at most %.4f; top %zu in another order "
        "%.3f, of its items %.4f others\n",
        each.hidden.size(), largest_action, std::sqrt(squares / kAll), largest_score, kTop, changed / kAll,
        left / kAll);
    EXPECT_LE(largest_action, each.action_bound);
    EXPECT_LE(largest_score, each.score_bound);
    EXPECT_LE(changed / kAll, each.changed_bound);
    EXPECT_LE(left / kAll, each.left_bound);
    if (HasBfloat16())
      EXPECT_GT(largest_action, 0) << "it was not used";
    else
      EXPECT_EQ(largest_action, 0);
  }
}

}  // namespace
}  // namespace fuseline
