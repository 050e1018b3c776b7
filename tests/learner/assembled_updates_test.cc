// What joins the formulas of five algorithms into one update; each formula has a test of its own. After some steps, so
// that targets and networks differ, one step is redone by plain loops in double precision from what Save() gave before
// it and from the draws' seeds: TD errors, losses, each part's gradient and rate, and how far targets followed.

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numbers>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fuseline/test_support/matchers.h"
#include "random_batch.h"

namespace fuseline {
namespace {

using Vector = std::vector<double>;
using Tensors = std::map<std::string, Vector>;

constexpr std::size_t kB = 16, kD = test::kActionWidth, kHidden = 16, kLastHidden = 8;
constexpr std::uint64_t kSteps[] = {30, 31};  // The rarer updates are due at the second.
constexpr double kClose = 1e-4;               // Relative to what is about 1; float32 comes within a tenth of it.

v1::Config ConfigOf(const std::string& algorithm) {
  v1::Config config = test::SmallConfig();
  v1::Learner& learner = *config.mutable_learner();
  learner.set_algorithm(algorithm);
  learner.add_hidden(kLastHidden);
  learner.set_device("cpu");
  learner.set_omega_watch(0.5);
  learner.set_max_gradient_norm(1e6);  // Nothing is cut.
  return config;
}

// One step with what was before and after it, in double.
struct Observed {
  v1::Config config;
  std::uint64_t step;
  TransitionBatch critics, actor;
  Tensors before, after;
  StepFigures figures;
};

TransitionBatch Batch(std::uint64_t seed) {
  TransitionBatch batch = test::BatchFor({.per_request = true}, seed, kB);
  Random random(seed, "more", 0);
  for (std::size_t b = 0; b < kB; ++b) {
    batch.weight[b] = static_cast<float>(random.NextUniform(0.5, 1.5));
    batch.terminated[b] = random.NextBelow(8) == 0 ? 1.F : 0.F;
  }
  return batch;
}

Tensors Doubled(const TensorMap& tensors) {
  Tensors doubled;
  for (const auto& [name, tensor] : tensors) doubled[name] = {tensor.values.begin(), tensor.values.end()};
  return doubled;
}

Observed Observe(const v1::Config& config, std::uint64_t step) {
  const auto algorithm = CreateAlgorithm(config, test::kBatchProblem).value();
  for (std::uint64_t earlier = 0; earlier < step; ++earlier)
    EXPECT_THAT(algorithm->Step(Batch(earlier), Batch(1'000 + earlier), earlier), IsOk());
  Observed o{.config = config, .step = step, .critics = Batch(step), .actor = Batch(1'000 + step),
             .before = Doubled(algorithm->Save()), .after = {}, .figures = {}};
  o.figures = algorithm->Step(o.critics, o.actor, step).value();
  o.after = Doubled(algorithm->Save());
  EXPECT_FALSE(o.figures.undone);
  return o;
}

template <typename Value>
Vector Row(const std::vector<Value>& values, std::size_t row, std::size_t width) {
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(row * width);
  return {begin, begin + static_cast<std::ptrdiff_t>(width)};
}
Vector State(const TransitionBatch& t, std::size_t b) { return Row(t.state, b, test::kBatchState); }
Vector NextState(const TransitionBatch& t, std::size_t b) { return Row(t.next_state, b, test::kBatchState); }
Vector Action(const TransitionBatch& t, std::size_t b) { return Row(t.action, b, kD); }

Vector Beside(Vector left, const Vector& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

std::size_t MembersOf(const Vector& parameters, std::size_t inputs, std::size_t outputs) {
  return parameters.size() / (kHidden * (inputs + 1) + kLastHidden * (kHidden + 1) + outputs * (kLastHidden + 1));
}

// What one member of a net answers: ReLU between layers, all members' weights of a layer before all their biases.
Vector Ask(const Vector& parameters, Vector x, std::size_t outputs, std::size_t member = 0) {
  const std::size_t members = MembersOf(parameters, x.size(), outputs);
  const double* layer = parameters.data();
  for (const std::size_t out : {kHidden, kLastHidden, outputs}) {
    const std::size_t in = x.size();
    const double *weights = layer + member * out * in, *biases = layer + members * out * in + member * out;
    Vector y(biases, biases + out);
    for (std::size_t o = 0; o < out; ++o)
      for (std::size_t i = 0; i < in; ++i) y[o] += weights[o * in + i] * x[i];
    layer += members * out * (in + 1);
    const bool last = layer == parameters.data() + parameters.size();
    for (double& value : y) value = last ? value : std::max(value, 0.0);
    x = y;
  }
  return x;
}

Vector Tanh(Vector x) {
  for (double& value : x) value = std::tanh(value);
  return x;
}
Vector Mu(const Vector& actor, const Vector& state) { return Tanh(Ask(actor, state, kD)); }

// What each member of `critics` says, which sees an action in its own scale.
Vector Q(const Tensors& saved, const Vector& critics, const Vector& state, Vector action) {
  for (std::size_t d = 0; d < kD; ++d)
    action[d] = (action[d] - saved.at("critic.action_mean")[d]) * saved.at("critic.action_scale")[d];
  const Vector x = Beside(state, action);
  Vector q;
  for (std::size_t m = 0; m < MembersOf(critics, x.size(), 1); ++m) q.push_back(Ask(critics, x, 1, m)[0]);
  return q;
}
double Least(const Vector& q) { return *std::ranges::min_element(q); }

// The draws of (run seed, purpose, step): so many rows.
std::vector<Vector> Draws(const Observed& o, const std::string& purpose, std::size_t rows, std::size_t width,
                          bool normal = true) {
  Random random(o.config.fuseline().seed(), purpose, o.step);
  std::vector<Vector> draws(rows, Vector(width));
  for (Vector& row : draws)
    for (double& draw : row) draw = static_cast<float>(normal ? random.NextNormal() : random.NextUniform(-1, 1));
  return draws;
}

double MeanOver(const TransitionBatch& t, bool by_weights, const std::function<double(std::size_t b)>& term) {
  double sum = 0, weights = 0;
  for (std::size_t b = 0; b < kB; ++b) {
    sum += t.weight[b] * term(b);
    weights += t.weight[b];
  }
  return sum / (by_weights ? weights : kB);
}

// Targets y [B] of the critics' batch: r + gamma (1 - terminated) V'.
Vector Targets(const Observed& o, double gamma, const std::function<double(std::size_t b)>& next_value) {
  const v1::Learner& learner = o.config.learner();
  Vector y;
  for (std::size_t b = 0; b < kB; ++b)
    y.push_back(learner.omega_engagement() * o.critics.reward[b] + learner.omega_watch() * o.critics.reward[kB + b] +
                (o.critics.terminated[b] == 0 ? gamma * next_value(b) : 0));
  return y;
}

using Seen = std::function<Vector(const TransitionBatch& t, std::size_t b)>;

// The TD part of the critics' loss.
double TdLoss(const Observed& o, const Vector& critics, const Vector& y, const Seen& state = State) {
  return MeanOver(o.critics, false, [&](std::size_t b) {
    double squares = 0;
    for (const double q : Q(o.before, critics, state(o.critics, b), Action(o.critics, b)))
      squares += (q - y[b]) * (q - y[b]);
    return squares;
  });
}

void ExpectTdErrors(const Observed& o, const Vector& y, const Seen& state = State) {
  ASSERT_EQ(o.figures.td_error.size(), kB);
  for (std::size_t b = 0; b < kB; ++b) {
    double error = 0;
    const Vector q = Q(o.before, o.before.at("critic"), state(o.critics, b), Action(o.critics, b));
    for (const double of_member : q) error += std::abs(of_member - y[b]) / static_cast<double>(q.size());
    EXPECT_NEAR(o.figures.td_error[b], error, kClose * std::max(1.0, error))
        << "step " << o.step << " transition " << b;
  }
}

using Loss = std::function<double(const Vector& parameters)>;

// That `part` made an Adam step of this rate down this loss: its gradient, which the first moment tells, is that of
// central differences at the last `count` parameters.
void ExpectDescent(const Observed& o, const std::string& part, double rate, std::size_t count, const Loss& loss) {
  const Vector &from = o.before.at(part), &to = o.after.at(part), &updates = o.after.at(part + ".updates");
  const Vector &first = o.after.at(part + ".first"), &second = o.after.at(part + ".second");
  const double correction1 = 1 - std::pow(0.9, updates[1]), correction2 = 1 - std::pow(0.999, updates[1]);
  for (std::size_t i = from.size() - count; i < from.size(); ++i) {
    constexpr double kStep = 1e-6;
    Vector up = from, down = from;
    up[i] += kStep;
    down[i] -= kStep;
    const double expected = (loss(up) - loss(down)) / (2 * kStep);
    const double gradient = (first[i] - 0.9 * o.before.at(part + ".first")[i]) / 0.1;
    EXPECT_NEAR(gradient, expected, kClose * std::max(1.0, std::abs(expected)))
        << part << " step " << o.step << " parameter " << i;
    const double moved = rate * (first[i] / correction1) / (std::sqrt(second[i] / correction2) + 1e-8);
    EXPECT_NEAR(to[i], from[i] - moved, 1e-6) << part << " step " << o.step << " parameter " << i;
  }
}

// Rate 0: the target stayed.
void ExpectFollowed(const Observed& o, const std::string& part, double rate) {
  const Vector &before = o.before.at(part + ".target"), &after = o.after.at(part + ".target");
  const Vector& leader = o.after.at(part);
  for (std::size_t i = 0; i < before.size(); ++i)
    ASSERT_NEAR(after[i], before[i] + rate * (leader[i] - before[i]), 1e-6)
        << part << " step " << o.step << " parameter " << i;
}

void ExpectNear(double figure, double expected, const char* what) {
  EXPECT_NEAR(figure, expected, kClose * std::max(1.0, std::abs(expected))) << what;
}

constexpr std::size_t LastLayer(std::size_t outputs) { return outputs * (kLastHidden + 1); }

// DDPG's and TD3's: what the first critic says of mu(s).
double DeterministicActorLoss(const Observed& o, const Vector& actor) {
  return -MeanOver(o.actor, true, [&](std::size_t b) {
    const Vector state = State(o.actor, b);
    return Q(o.before, o.after.at("critic"), state, Mu(actor, state))[0];
  });
}

TEST(AssembledUpdatesTest, DdpgActsAndJudgesByItsTargets) {
  v1::Config config = ConfigOf("ddpg");
  v1::Ddpg& own = *config.mutable_ddpg();
  own.set_actor_rate(0.004);
  own.set_critic_rate(0.01);
  own.set_soft_update(0.05);
  for (const std::uint64_t step : kSteps) {
    const Observed o = Observe(config, step);

    const Vector y = Targets(o, config.learner().gamma(), [&](std::size_t b) {
      const Vector next = NextState(o.critics, b);
      return Q(o.before, o.before.at("critic.target"), next, Mu(o.before.at("actor.target"), next))[0];
    });
    const Loss critic = [&](const Vector& parameters) { return TdLoss(o, parameters, y); };
    const Loss actor = [&](const Vector& parameters) { return DeterministicActorLoss(o, parameters); };

    ExpectTdErrors(o, y);
    ExpectNear(o.figures.critic_loss, critic(o.before.at("critic")), "critic");
    ExpectNear(o.figures.actor_loss, actor(o.before.at("actor")), "actor");
    ExpectDescent(o, "critic", own.critic_rate(), LastLayer(1), critic);
    ExpectDescent(o, "actor", own.actor_rate(), LastLayer(kD), actor);
    for (const char* part : {"actor", "critic"}) ExpectFollowed(o, part, own.soft_update());
  }
}

TEST(AssembledUpdatesTest, Td3TakesTheSmallerCriticOfANoisyActionAndDelaysItsActor) {
  v1::Config config = ConfigOf("td3");
  v1::Td3& own = *config.mutable_td3();
  own.set_actor_rate(0.004);
  own.set_critic_rate(0.01);
  own.set_soft_update(0.05);
  own.set_target_noise_clip(0.25);  // So small that it cuts.
  for (const std::uint64_t step : kSteps) {
    const Observed o = Observe(config, step);
    const bool due = step == kSteps[1];

    const auto draws = Draws(o, "td3.target", kB, kD);
    const Vector y = Targets(o, config.learner().gamma(), [&](std::size_t b) {
      const Vector next = NextState(o.critics, b);
      Vector action = Mu(o.before.at("actor.target"), next);
      for (std::size_t d = 0; d < kD; ++d)
        action[d] = std::clamp(action[d] + std::clamp(own.target_noise() * draws[b][d], -0.25, 0.25), -1.0, 1.0);
      return Least(Q(o.before, o.before.at("critic.target"), next, action));
    });
    const Loss critic = [&](const Vector& parameters) { return TdLoss(o, parameters, y); };
    const Loss actor = [&](const Vector& parameters) { return DeterministicActorLoss(o, parameters); };

    ExpectTdErrors(o, y);
    ExpectNear(o.figures.critic_loss, critic(o.before.at("critic")), "critics");
    ExpectDescent(o, "critic", own.critic_rate(), 2 * LastLayer(1), critic);
    EXPECT_EQ(o.figures.actor_moved, due);
    for (const char* part : {"actor", "critic"}) ExpectFollowed(o, part, due ? own.soft_update() : 0);
    if (!due) {
      EXPECT_EQ(o.after.at("actor"), o.before.at("actor"));
      continue;
    }
    ExpectNear(o.figures.actor_loss, actor(o.before.at("actor")), "actor");
    ExpectDescent(o, "actor", own.actor_rate(), LastLayer(kD), actor);
  }
}

TEST(AssembledUpdatesTest, IqlBootstrapsFromVWhichAimsAtTheTargetCritics) {
  v1::Config config = ConfigOf("iql");
  v1::Iql& own = *config.mutable_iql();
  own.set_actor_rate(0.004);
  own.set_critic_rate(0.01);
  own.set_value_rate(0.006);
  own.set_soft_update(0.05);
  own.set_max_advantage_weight(1.5);  // So small that it cuts.
  for (const std::uint64_t step : kSteps) {
    const Observed o = Observe(config, step);

    const auto logged_q = [&](const TransitionBatch& t, std::size_t b) {
      return Least(Q(o.before, o.before.at("critic.target"), State(t, b), Action(t, b)));
    };
    const auto v = [](const Vector& parameters, const Vector& state) { return Ask(parameters, state, 1)[0]; };
    const Vector& moved_v = o.after.at("value");  // V moves first.
    const Vector y =
        Targets(o, config.learner().gamma(), [&](std::size_t b) { return v(moved_v, NextState(o.critics, b)); });
    const Loss critic = [&](const Vector& parameters) { return TdLoss(o, parameters, y); };
    const Loss value = [&](const Vector& parameters) {
      return MeanOver(o.critics, false, [&](std::size_t b) {
        const double u = logged_q(o.critics, b) - v(parameters, State(o.critics, b));
        return (u < 0 ? 1 - own.expectile() : own.expectile()) * u * u;
      });
    };
    const auto copying = [&](const Vector& actor, const Vector& log_std) {
      return MeanOver(o.actor, true, [&](std::size_t b) {
        const Vector state = State(o.actor, b), action = Action(o.actor, b), mu = Mu(actor, state);
        const double advantage = logged_q(o.actor, b) - v(moved_v, state);
        double log_density = 0;
        for (std::size_t d = 0; d < kD; ++d) {
          const double z = (action[d] - mu[d]) / std::exp(log_std[d]);
          log_density -= 0.5 * z * z + log_std[d] + 0.5 * std::log(2 * std::numbers::pi);
        }
        return -std::min(std::exp(own.temperature() * advantage), own.max_advantage_weight()) * log_density;
      });
    };
    const Loss actor = [&](const Vector& parameters) { return copying(parameters, o.before.at("log_std")); };
    const Loss log_std = [&](const Vector& parameters) { return copying(o.before.at("actor"), parameters); };

    ExpectTdErrors(o, y);
    ExpectNear(o.figures.critic_loss, critic(o.before.at("critic")), "critics");
    ExpectNear(o.figures.actor_loss, actor(o.before.at("actor")), "actor");
    ExpectDescent(o, "critic", own.critic_rate(), 2 * LastLayer(1), critic);
    ExpectDescent(o, "value", own.value_rate(), LastLayer(1), value);
    ExpectDescent(o, "actor", own.actor_rate(), LastLayer(kD), actor);
    ExpectDescent(o, "log_std", own.actor_rate(), kD, log_std);
    ExpectFollowed(o, "critic", own.soft_update());
  }
}

struct Sample {
  Vector action;
  double log_density = 0;
};

// SAC's policy at a state by one row of draws.
Sample Squashed(const Vector& actor, const Vector& state, const Vector& draws) {
  const Vector outputs = Ask(actor, state, 2 * kD);
  Sample sample;
  for (std::size_t d = 0; d < kD; ++d) {
    const double log_std = std::clamp(outputs[kD + d], -5.0, 2.0), u = outputs[d] + std::exp(log_std) * draws[d];
    sample.action.push_back(std::tanh(u));
    sample.log_density -= 0.5 * draws[d] * draws[d] + log_std + 0.5 * std::log(2 * std::numbers::pi);
    sample.log_density += 2 * std::log(std::cosh(u));
  }
  return sample;
}

TEST(AssembledUpdatesTest, CqlSacsTargetCountsTheEntropyAndItsTermTheDensityOfEachKindOfSample) {
  v1::Config config = ConfigOf("cql_sac");
  v1::CqlSac& own = *config.mutable_cql_sac();
  own.set_actor_rate(0.004);
  own.set_critic_rate(0.01);
  own.set_soft_update(0.05);
  own.set_conservative_samples(3);
  const auto samples = static_cast<std::size_t>(own.conservative_samples());
  for (const std::uint64_t step : kSteps) {
    const Observed o = Observe(config, step);
    const Vector& policy = o.before.at("actor");
    const double alpha = std::exp(o.before.at("log_alpha")[0]);

    const auto ahead = Draws(o, "cql_sac.target", kB, kD);
    const Vector y = Targets(o, config.learner().gamma(), [&](std::size_t b) {
      const Vector next = NextState(o.critics, b);
      const Sample sample = Squashed(policy, next, ahead[b]);
      return Least(Q(o.before, o.before.at("critic.target"), next, sample.action)) - alpha * sample.log_density;
    });
    const auto uniform = Draws(o, "cql_sac.uniform", kB * samples, kD, /*normal=*/false);
    const auto here = Draws(o, "cql_sac.here", kB * samples, kD), next = Draws(o, "cql_sac.next", kB * samples, kD);
    const Loss critic = [&](const Vector& parameters) {
      return TdLoss(o, parameters, y) + own.conservative_weight() * MeanOver(o.critics, false, [&](std::size_t b) {
        const Vector state = State(o.critics, b), logged = Q(o.before, parameters, state, Action(o.critics, b));
        Vector sums(logged.size(), 0);
        for (std::size_t row = b * samples; row < (b + 1) * samples; ++row)
          for (const Sample& sample : {Sample{uniform[row], kD * std::log(0.5)}, Squashed(policy, state, here[row]),
                                       Squashed(policy, NextState(o.critics, b), next[row])}) {
            const Vector q = Q(o.before, parameters, state, sample.action);
            for (std::size_t m = 0; m < q.size(); ++m) sums[m] += std::exp(q[m] - sample.log_density);
          }
        double term = 0;
        for (std::size_t m = 0; m < sums.size(); ++m) term += std::log(sums[m]) - logged[m];
        return term;
      });
    };
    const auto now = Draws(o, "cql_sac.actor", kB, kD);
    const Loss actor = [&](const Vector& parameters) {
      return MeanOver(o.actor, true, [&](std::size_t b) {
        const Sample sample = Squashed(parameters, State(o.actor, b), now[b]);
        return alpha * sample.log_density - Least(Q(o.before, o.after.at("critic"), State(o.actor, b), sample.action));
      });
    };
    const Loss temperature = [&](const Vector& log_alpha) {
      return -log_alpha[0] * MeanOver(o.actor, true, [&](std::size_t b) {
        return Squashed(policy, State(o.actor, b), now[b]).log_density + own.target_entropy() * kD;
      });
    };

    ExpectTdErrors(o, y);
    ExpectNear(o.figures.critic_loss, critic(o.before.at("critic")), "critics");
    ExpectNear(o.figures.actor_loss, actor(policy), "actor");
    ExpectDescent(o, "critic", own.critic_rate(), 2 * LastLayer(1), critic);
    ExpectDescent(o, "actor", own.actor_rate(), LastLayer(2 * kD), actor);
    ExpectDescent(o, "log_alpha", own.actor_rate(), 1, temperature);
    ExpectFollowed(o, "critic", own.soft_update());
  }
}

TEST(AssembledUpdatesTest, BatchRlsTargetIsTheBestOfItsTargetsAmongWhatItGenerates) {
  v1::Config config = ConfigOf("batch_rl");
  v1::BatchRl& own = *config.mutable_batch_rl();
  own.set_vae_rate(0.006);
  own.set_perturbation_rate(0.004);
  own.set_critic_rate(0.01);
  own.set_soft_update_every(4);
  own.set_samples(3);
  const std::size_t latent = 2 * kD;
  const auto samples = static_cast<std::size_t>(own.samples());
  const Seen shared = [](const TransitionBatch& t, std::size_t b) { return Row(State(t, b), 0, test::kBatchShared); };
  const auto generated = [&](const Vector& decoder, const Vector& state, Vector code) {
    for (double& z : code) z = std::clamp(z, -own.latent_clip(), own.latent_clip());
    return Tanh(Ask(decoder, Beside(state, code), kD));
  };
  const auto perturbed = [&](const Vector& perturbation, const Vector& state, Vector action) {
    const Vector towards = Tanh(Ask(perturbation, Beside(state, action), kD));
    for (std::size_t d = 0; d < kD; ++d) action[d] = std::clamp(action[d] + own.rho() * towards[d], -1.0, 1.0);
    return action;
  };
  for (const std::uint64_t step : kSteps) {
    const Observed o = Observe(config, step);
    const Vector& decoder = o.after.at("decoder");  // The generator moves first.

    const auto codes = Draws(o, "batch_rl.target", kB * samples, latent);
    const Vector y = Targets(o, own.gamma(), [&](std::size_t b) {
      const Vector next = Row(NextState(o.critics, b), 0, test::kBatchShared);
      Vector least;
      for (std::size_t row = b * samples; row < (b + 1) * samples; ++row) {
        const Vector action = perturbed(o.before.at("perturbation.target"), next, generated(decoder, next, codes[row]));
        least.push_back(Least(Q(o.before, o.before.at("critic.target"), next, action)));
      }
      return *std::ranges::max_element(least);
    });
    const Loss critic = [&](const Vector& parameters) { return TdLoss(o, parameters, y, shared); };
    const auto codes_here = Draws(o, "batch_rl.perturbed", kB, latent);
    const Loss perturbation = [&](const Vector& parameters) {
      return -MeanOver(o.actor, true, [&](std::size_t b) {
        const Vector state = shared(o.actor, b);
        const Vector action = perturbed(parameters, state, generated(decoder, state, codes_here[b]));
        return Q(o.before, o.after.at("critic"), state, action)[0];
      });
    };
    const auto draws = Draws(o, "batch_rl.encoded", kB, latent);
    const auto rebuilding = [&](const Vector& encoder_by, const Vector& decoder_by) {
      return MeanOver(o.actor, false, [&](std::size_t b) {
        const Vector state = shared(o.actor, b), action = Action(o.actor, b);
        const Vector code = Ask(encoder_by, Beside(state, action), 2 * latent);
        Vector z;
        double divergence = 0, error = 0;
        for (std::size_t i = 0; i < latent; ++i) {
          const double log_std = std::clamp(code[latent + i], -4.0, 15.0);
          z.push_back(code[i] + std::exp(log_std) * draws[b][i]);
          divergence += (code[i] * code[i] + std::exp(2 * log_std) - 1 - 2 * log_std) / 2 / static_cast<double>(latent);
        }
        const Vector rebuilt = Tanh(Ask(decoder_by, Beside(state, z), kD));
        for (std::size_t d = 0; d < kD; ++d) error += (action[d] - rebuilt[d]) * (action[d] - rebuilt[d]) / kD;
        return error + own.kl_weight() * divergence;
      });
    };
    const Loss encoding = [&](const Vector& parameters) { return rebuilding(parameters, o.before.at("decoder")); };
    const Loss decoding = [&](const Vector& parameters) { return rebuilding(o.before.at("encoder"), parameters); };

    ExpectTdErrors(o, y, shared);
    ExpectNear(o.figures.critic_loss, critic(o.before.at("critic")), "critics");
    ExpectNear(o.figures.actor_loss, perturbation(o.before.at("perturbation")), "perturbation");
    ExpectDescent(o, "critic", own.critic_rate(), 2 * LastLayer(1), critic);
    ExpectDescent(o, "perturbation", own.perturbation_rate(), LastLayer(kD), perturbation);
    ExpectDescent(o, "encoder", own.vae_rate(), LastLayer(2 * latent), encoding);
    ExpectDescent(o, "decoder", own.vae_rate(), LastLayer(kD), decoding);
    for (const char* part : {"perturbation", "critic"})
      ExpectFollowed(o, part, step == kSteps[1] ? own.soft_update() : 0);
  }
}

}  // namespace
}  // namespace fuseline
