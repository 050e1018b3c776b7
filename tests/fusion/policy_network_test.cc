// The actor against plain loops in double precision, on every kernel that this machine has, and what Create refuses.
#include "fuseline/fusion/policy_network.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/core/random.h"
#include "fuseline/test_support/matchers.h"

#include "dense_layer.h"
#include "random_policy.h"

namespace fuseline {
namespace {

// mu(s) as the header describes it, nothing shared between candidates, in double precision.
std::vector<double> SlowActor(const Version& version, const Request& request, std::size_t candidate) {
  const FeatureEncoder encoder(version.manifest.schema());
  std::vector<float> state(encoder.state_width());
  const std::span<float> columns(state);
  EXPECT_THAT(encoder.EncodeShared(request.user(), request.context(), columns.first(encoder.shared_width())), IsOk());
  EXPECT_THAT(encoder.EncodeItem(request.candidates[candidate], columns.subspan(encoder.shared_width())), IsOk());
  std::vector<double> values(state.begin(), state.end());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double moved = (values[i] - version.tensors.at("normaliser.mean").values[i]) * version.tensors.at("normaliser.scale").values[i];
    values[i] = std::fmin(std::fmax(moved, -10.0), 10.0);
  }
  const int layers = version.manifest.actor().widths_size() - 1;
  for (int layer = 0; layer < layers; ++layer) {
    const Tensor& weight = version.tensors.at("actor." + std::to_string(layer) + ".weight");
    const Tensor& bias = version.tensors.at("actor." + std::to_string(layer) + ".bias");
    std::vector<double> next(weight.shape[0]);
    for (std::size_t out = 0; out < next.size(); ++out) {
      double sum = bias.values[out];
      for (std::size_t in = 0; in < values.size(); ++in) sum += static_cast<double>(weight.values[out * values.size() + in]) * values[in];
      next[out] = layer + 1 < layers ? std::fmax(sum, 0.0) : std::tanh(sum);
    }
    values = std::move(next);
  }
  return values;
}

TEST(PolicyNetworkTest, ActionsAreThoseOfPlainLoops) {
  const std::vector<std::vector<std::uint32_t>> networks{{}, {7}, {64, 64}, {33, 16, 5}, {256, 128, 64}};
  for (std::size_t network = 0; network < networks.size(); ++network) {
    const Version version = RandomVersion(networks[network], network);
    ASSERT_OK_AND_ASSIGN(const PolicyNetwork actor, PolicyNetwork::Create(version.manifest, version.tensors));
    ActorWorkspace workspace;
    for (const std::size_t n : {1U, 2U, 13U, 96U, 97U, 300U}) {
      const Request request(n, n);
      std::vector<float> actions(n * actor.action_space().width());
      ASSERT_THAT(actor.Act(request.user(), request.context(), request.candidates, workspace, actions), IsOk());
      for (std::size_t i = 0; i < n; i += 1 + n / 20) {
        const std::vector<double> expected = SlowActor(version, request, i);
        for (std::size_t d = 0; d < expected.size(); ++d) {
          ASSERT_NEAR(actions[i * expected.size() + d], expected[d], 1e-5) << "network " << network << " of " << n << ": " << i << ", " << d;
        }
      }
    }
  }
}

// A version of the other form: five codes of width 3, actions of `width`.
Version RandomGeneratedVersion(std::uint64_t seed, std::uint32_t width = 10) {
  Version version = RandomVersion({}, seed);
  const FeatureEncoder encoder(version.manifest.schema());
  const auto shared = static_cast<std::uint32_t>(encoder.shared_width());
  version.manifest.clear_actor();
  version.tensors.erase("actor.0.weight");
  version.tensors.erase("actor.0.bias");
  v1::BestOfGenerated& form = *version.manifest.mutable_best_of_generated();
  form.set_codes(5);
  form.set_rho(0.3F);
  Random random(seed, "generated", 0);
  const auto fill = [&](const std::string& name, std::vector<std::uint32_t> shape) {
    Tensor& tensor = version.tensors[name];
    tensor.shape = shape;
    tensor.values.resize(shape.size() == 2 ? std::size_t{shape[0]} * shape[1] : shape[0]);
    for (float& value : tensor.values) value = static_cast<float>(0.4 * random.NextNormal());
  };
  fill("codes", {5, 3});
  const auto add = [&](const std::string& name, v1::NetworkShape* shape, const std::vector<std::uint32_t>& widths) {
    for (const std::uint32_t layer_width : widths) shape->add_widths(layer_width);
    for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
      fill(name + "." + std::to_string(i) + ".weight", {widths[i + 1], widths[i]});
      fill(name + "." + std::to_string(i) + ".bias", {widths[i + 1]});
    }
  };
  add("decoder", form.mutable_decoder(), {shared + 3, 17, width});
  add("perturbation", form.mutable_perturbation(), {shared + width, 9, width});
  add("critic", form.mutable_critic(), {shared + width, 21, 6, 1});
  return version;
}

// Of `version`, which says whole actions, the same policy with fixed biases: it says the powers.
Version WithFixedBiases(Version version) {
  version.manifest.mutable_ranges()->set_fixed_biases(true);
  auto& widths = *version.manifest.mutable_actor()->mutable_widths();
  const std::string last = "actor." + std::to_string(widths.size() - 2);
  const std::uint32_t powers = widths[widths.size() - 1] / 2;
  widths[widths.size() - 1] = powers;
  for (const char* part : {".weight", ".bias"}) {
    Tensor& tensor = version.tensors.at(last + part);
    tensor.shape[0] = powers;
    tensor.values.resize(tensor.values.size() / 2);
  }
  return version;
}

TEST(PolicyNetworkTest, WithFixedBiasesTheNetworkSaysThePowersAndTheRestIsStatic) {
  Version learned = RandomVersion({64, 64}, 3);
  for (int d = 5; d < 10; ++d) learned.manifest.mutable_ranges()->set_static_action(d, 0.1F * static_cast<float>(d));
  const Version fixed = WithFixedBiases(learned);
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork whole, PolicyNetwork::Create(learned.manifest, learned.tensors));
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork powers, PolicyNetwork::Create(fixed.manifest, fixed.tensors));
  EXPECT_THAT(PolicyNetwork::Create(fixed.manifest, learned.tensors), HasCode(Code::kInvalidInput));
  ActorWorkspace workspace;
  const Request request(100, 1);
  std::vector<float> one(1'000), other(1'000);
  ASSERT_THAT(whole.Act(request.user(), request.context(), request.candidates, workspace, one), IsOk());
  ASSERT_THAT(powers.Act(request.user(), request.context(), request.candidates, workspace, other), IsOk());
  for (std::size_t i = 0; i < one.size(); ++i)
    EXPECT_EQ(other[i], i % 10 < 5 ? one[i] : 0.1F * static_cast<float>(i % 10)) << i;
}

TEST(PolicyNetworkTest, WithFixedBiasesTheOtherFormGeneratesPowers) {
  Version version = RandomGeneratedVersion(2, /*width=*/5);
  EXPECT_THAT(PolicyNetwork::Create(version.manifest, version.tensors), HasCode(Code::kInvalidInput));
  version.manifest.mutable_ranges()->set_fixed_biases(true);
  version.manifest.mutable_ranges()->set_static_action(7, 0.5F);
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork network, PolicyNetwork::Create(version.manifest, version.tensors));
  ActorWorkspace workspace;
  const Request request(3, 1);
  std::vector<float> actions(30, 9.0F);
  ASSERT_THAT(network.Act(request.user(), request.context(), request.candidates, workspace, actions), IsOk());
  for (std::size_t i = 0; i < actions.size(); ++i) {
    if (i % 10 >= 5) {
      EXPECT_EQ(actions[i], i % 10 == 7 ? 0.5F : 0.0F);
    } else {
      EXPECT_LE(std::abs(actions[i]), 1.0F);
    }
  }
}

// One net of it in double precision.
std::vector<double> SlowNet(const Version& version, const std::string& name, std::vector<double> values, bool ends_in_tanh) {
  for (int layer = 0; version.tensors.contains(name + "." + std::to_string(layer) + ".weight"); ++layer) {
    const Tensor& weight = version.tensors.at(name + "." + std::to_string(layer) + ".weight");
    const bool last = !version.tensors.contains(name + "." + std::to_string(layer + 1) + ".weight");
    std::vector<double> next(weight.shape[0]);
    for (std::size_t out = 0; out < next.size(); ++out) {
      double sum = version.tensors.at(name + "." + std::to_string(layer) + ".bias").values[out];
      for (std::size_t in = 0; in < values.size(); ++in) sum += static_cast<double>(weight.values[out * values.size() + in]) * values[in];
      next[out] = !last ? std::fmax(sum, 0.0) : ends_in_tanh ? std::tanh(sum) : sum;
    }
    values = std::move(next);
  }
  return values;
}

TEST(PolicyNetworkTest, TheBestOfWhatIsGeneratedIsThatOfPlainLoopsForEveryCandidate) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Version version = RandomGeneratedVersion(seed);
    ASSERT_OK_AND_ASSIGN(const PolicyNetwork network, PolicyNetwork::Create(version.manifest, version.tensors));
    const Request request(3, seed);
    const std::size_t width = network.action_space().width();
    std::vector<float> actions(3 * width);
    ActorWorkspace workspace;
    ASSERT_THAT(network.Act(request.user(), request.context(), request.candidates, workspace, actions), IsOk());

    std::vector<float> shared(network.encoder().shared_width());
    ASSERT_THAT(network.encoder().EncodeShared(request.user(), request.context(), shared), IsOk());
    std::vector<double> state;
    for (std::size_t i = 0; i < shared.size(); ++i) {
      const double moved = (shared[i] - version.tensors.at("normaliser.mean").values[i]) * version.tensors.at("normaliser.scale").values[i];
      state.push_back(std::fmin(std::fmax(moved, -10.0), 10.0));
    }
    std::vector<double> best;
    double best_value = -std::numeric_limits<double>::infinity();
    for (std::size_t k = 0; k < 5; ++k) {
      std::vector<double> input = state;
      for (std::size_t z = 0; z < 3; ++z) input.push_back(version.tensors.at("codes").values[3 * k + z]);
      std::vector<double> action = SlowNet(version, "decoder", input, true);
      input = state;
      input.insert(input.end(), action.begin(), action.end());
      const std::vector<double> towards = SlowNet(version, "perturbation", input, true);
      for (std::size_t d = 0; d < width; ++d) action[d] = std::fmin(std::fmax(action[d] + static_cast<double>(0.3F) * towards[d], -1.0), 1.0);
      input = state;
      input.insert(input.end(), action.begin(), action.end());
      const double value = SlowNet(version, "critic", input, false)[0];
      if (value > best_value) best = action, best_value = value;
    }
    for (std::size_t i = 0; i < actions.size(); ++i) EXPECT_NEAR(actions[i], best[i % width], 1e-5) << "seed " << seed;
  }
}

TEST(PolicyNetworkTest, AGeneratedPolicyThatDoesNotFitTogetherIsRefused) {
  const std::vector<std::function<void(Version&)>> changes{
      [](Version& v) { v.manifest.mutable_best_of_generated()->set_codes(4); },
      [](Version& v) { v.manifest.mutable_best_of_generated()->set_codes(0); },
      [](Version& v) { v.manifest.mutable_best_of_generated()->set_rho(-1); },
      [](Version& v) { v.manifest.mutable_best_of_generated()->mutable_decoder()->set_widths(0, 1); },
      [](Version& v) { v.manifest.mutable_best_of_generated()->mutable_critic()->set_widths(3, 2); },
      [](Version& v) { v.manifest.mutable_best_of_generated()->clear_perturbation(); },
      [](Version& v) { v.manifest.mutable_actor()->add_widths(2); },
      [](Version& v) { v.tensors.erase("codes"); },
      [](Version& v) { v.tensors["more"] = {{1}, {0}}; }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    Version version = RandomGeneratedVersion(1);
    changes[i](version);
    EXPECT_THAT(PolicyNetwork::Create(version.manifest, version.tensors), HasCode(Code::kInvalidInput)) << "change " << i;
  }
}

TEST(PolicyNetworkTest, AnActionDoesNotDependOnTheOtherCandidates) {
  const Version version = RandomVersion({64, 64}, 1);
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork actor, PolicyNetwork::Create(version.manifest, version.tensors));
  const std::size_t width = actor.action_space().width();
  const Request request(200, 9);
  ActorWorkspace workspace;
  std::vector<float> together(200 * width);
  ASSERT_THAT(actor.Act(request.user(), request.context(), request.candidates, workspace, together), IsOk());

  for (std::size_t i = 0; i < 200; ++i) {
    std::vector<float> alone(width);
    ASSERT_THAT(actor.Act(request.user(), request.context(), std::span(request.candidates).subspan(i, 1), workspace, alone), IsOk());
    ASSERT_EQ(alone, std::vector<float>(together.begin() + static_cast<std::ptrdiff_t>(i * width),
                                        together.begin() + static_cast<std::ptrdiff_t>((i + 1) * width))) << i;
  }
}

TEST(PolicyNetworkTest, NoCandidatesAreNoActions) {
  const Version version = RandomVersion({8}, 1);
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork actor, PolicyNetwork::Create(version.manifest, version.tensors));
  const Request request(0, 1);
  ActorWorkspace workspace;
  EXPECT_THAT(actor.Act(request.user(), request.context(), {}, workspace, {}), IsOk());
}

TEST(PolicyNetworkTest, FeaturesThatCannotBeEncodedAreRefused) {
  const Version version = RandomVersion({8}, 1);
  ASSERT_OK_AND_ASSIGN(const PolicyNetwork actor, PolicyNetwork::Create(version.manifest, version.tensors));
  ActorWorkspace workspace;
  std::vector<float> actions(3 * actor.action_space().width());
  Request bad_item(3, 1);
  bad_item.item_dense[2][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(actor.Act(bad_item.user(), bad_item.context(), bad_item.candidates, workspace, actions), HasCode(Code::kInvalidInput));
  Request bad_user(3, 1);
  bad_user.user_ids.push_back(4);
  EXPECT_THAT(actor.Act(bad_user.user(), bad_user.context(), bad_user.candidates, workspace, actions), HasCode(Code::kInvalidInput));
}

TEST(PolicyNetworkTest, ManifestAndTensorsThatDoNotFitAreRefused) {
  using Change = void (*)(Version&);
  const Change changes[] = {
      [](Version& v) { v.manifest.mutable_actor()->clear_widths(); },
      [](Version& v) { v.manifest.mutable_actor()->set_widths(0, 3); },
      [](Version& v) { v.manifest.mutable_actor()->set_widths(1, 0); },
      [](Version& v) { v.manifest.mutable_actor()->set_widths(1, 1U << 30); },
      [](Version& v) { v.manifest.mutable_actor()->set_widths(1, 9); },
      [](Version& v) { v.manifest.mutable_actor()->set_widths(2, 12); },
      [](Version& v) { v.manifest.mutable_actor()->add_widths(10); },
      [](Version& v) { v.manifest.mutable_schema()->clear_tasks(); },
      [](Version& v) { v.manifest.mutable_schema()->mutable_features()->RemoveLast(); },
      [](Version& v) { v.manifest.mutable_ranges()->set_lower(0, 5); },
      [](Version& v) { v.manifest.mutable_ranges()->mutable_lower()->RemoveLast(); },
      [](Version& v) { v.tensors.erase("actor.1.bias"); },
      [](Version& v) { v.tensors.erase("normaliser.mean"); },
      [](Version& v) { v.tensors["actor.2.bias"] = {{1}, {0}}; },
      [](Version& v) { v.tensors["actor.0.weight"].shape = {1, 8 * 49}; },
  };
  for (std::size_t i = 0; i < std::size(changes); ++i) {
    Version version = RandomVersion({8}, 1);
    changes[i](version);
    EXPECT_THAT(PolicyNetwork::Create(version.manifest, version.tensors), HasCode(Code::kInvalidInput)) << "change " << i;
  }
}

TEST(PolicyNetworkTest, WeightsThatAreNotFiniteAreRefused) {
  for (const char* const name : {"actor.0.weight", "actor.1.bias", "normaliser.scale"}) {
    Version version = RandomVersion({8}, 1);
    version.tensors.at(name).values.back() = std::numeric_limits<float>::infinity();
    EXPECT_THAT(PolicyNetwork::Create(version.manifest, version.tensors), HasCode(Code::kCorrupt)) << name;
  }
}

std::vector<const DenseKernel*> KernelsOfThisMachine() {
  std::vector<const DenseKernel*> kernels{&kPortableKernel};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kernels.push_back(&kAvx2Kernel);
  if (__builtin_cpu_supports("avx512f")) kernels.push_back(&kAvx512Kernel);
#endif
  return kernels;
}

// One layer through a kernel: weights [columns, inputs] packed as dense_layer.h says.
std::vector<float> RunKernel(const DenseKernel& kernel, const std::vector<float>& weight, std::size_t inputs, std::size_t outputs,
                             const std::vector<float>& x, const std::vector<float>& bias, Activation activation) {
  const std::size_t lanes = kernel.lanes;
  const std::size_t columns = (outputs + lanes - 1) / lanes * lanes;
  std::vector<float> packed;
  for (std::size_t start = 0; start < columns; start += 2 * lanes) {
    for (std::size_t k = 0; k < inputs; ++k) {
      for (std::size_t c = start; c < std::min(start + 2 * lanes, columns); ++c) packed.push_back(c < outputs ? weight[c * inputs + k] : 0.0F);
    }
  }
  std::vector<float> padded_bias(columns, 0.0F);
  std::copy(bias.begin(), bias.end(), padded_bias.begin());
  const std::size_t rows = x.size() / inputs;
  std::vector<float> y(rows * columns);
  kernel.run({packed.data(), inputs, columns, activation}, x.data(), inputs, padded_bias.data(), rows, y.data());
  std::vector<float> result;
  for (std::size_t row = 0; row < rows; ++row) {
    result.insert(result.end(), y.begin() + static_cast<std::ptrdiff_t>(row * columns),
                  y.begin() + static_cast<std::ptrdiff_t>(row * columns + outputs));
  }
  return result;
}

TEST(DenseKernelTest, EveryKernelComputesTheLayerAndTheWideOnesTheSameBits) {
  Random random(21, "kernel", 0);
  for (int round = 0; round < 60; ++round) {
    // given
    const std::size_t inputs = 1 + random.NextBelow(70);
    const std::size_t outputs = 1 + random.NextBelow(70);
    const std::size_t rows = 1 + random.NextBelow(40);
    const auto floats = [&](std::size_t count) {
      std::vector<float> values(count);
      for (float& value : values) value = static_cast<float>(random.NextNormal());
      return values;
    };
    const std::vector<float> weight = floats(inputs * outputs);
    const std::vector<float> x = floats(inputs * rows);
    const std::vector<float> bias = floats(outputs);
    const auto activation = static_cast<Activation>(random.NextBelow(3));

    std::vector<float> first_wide;
    for (const DenseKernel* kernel : KernelsOfThisMachine()) {
      // when
      const std::vector<float> y = RunKernel(*kernel, weight, inputs, outputs, x, bias, activation);

      // then
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t out = 0; out < outputs; ++out) {
          double sum = bias[out];
          for (std::size_t k = 0; k < inputs; ++k) sum += static_cast<double>(weight[out * inputs + k]) * x[row * inputs + k];
          if (activation == Activation::kRelu) sum = std::fmax(sum, 0.0);
          if (activation == Activation::kTanh) sum = std::tanh(sum);
          ASSERT_NEAR(y[row * outputs + out], sum, 2e-5) << kernel->name << " round " << round;
        }
      }
      if (kernel == &kPortableKernel) continue;
      if (first_wide.empty()) first_wide = y;
      EXPECT_EQ(y, first_wide) << kernel->name << " round " << round;
    }
  }
}

TEST(DenseKernelTest, TanhHoldsFromEndToEnd) {
  std::vector<float> x;
  for (float value = -12.0F; value <= 12.0F; value += 0.001F) x.push_back(value);
  for (const float value : {0.0F, -0.0F, 1e-8F, 100.0F, -100.0F, 3e38F, -3e38F}) x.push_back(value);
  for (const DenseKernel* kernel : KernelsOfThisMachine()) {
    const std::vector<float> y = RunKernel(*kernel, {1.0F}, 1, 1, x, {0.0F}, Activation::kTanh);
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(y[i], std::tanh(static_cast<double>(x[i])), 2e-7) << kernel->name << " of " << x[i];
      ASSERT_LE(std::abs(y[i]), 1.0F);
    }
  }
}

TEST(DenseKernelTest, WhatIsNotANumberStaysVisible) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const DenseKernel* kernel : KernelsOfThisMachine()) {
    for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kTanh}) {
      EXPECT_TRUE(std::isnan(RunKernel(*kernel, {1.0F}, 1, 1, {nan}, {0.0F}, activation)[0])) << kernel->name;
    }
  }
}

}  // namespace
}  // namespace fuseline
