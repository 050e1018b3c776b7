#include "learner_case.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "fuseline/core/check.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "measure.h"

namespace fuseline::bench {
namespace {

constexpr int kItems = 5, kRequests = 4, kSessions = 2'000;
constexpr std::size_t kBatches = 4;

v1::Config ConfigOf(const std::string& preset, std::int64_t batch, std::int64_t threads, const std::string& precision) {
  v1::Config config = DefaultSettings();
  v1::Learner& learner = *config.mutable_learner();
  learner.set_preset(preset);
  learner.set_batch(batch);
  learner.set_threads(threads);
  learner.set_device("cpu");
  learner.set_precision(precision);
  return config;
}

void FillFeatures(const v1::FeatureSchema& schema, v1::FeatureScope scope, Random& random, v1::Features& values) {
  for (const v1::Feature& feature : schema.features()) {
    if (feature.scope() != scope) continue;
    if (!feature.has_dense()) values.add_ids(random.NextU64());
    for (std::uint32_t i = 0; feature.has_dense() && i < feature.dense().width(); ++i)
      values.add_dense(static_cast<float>(random.NextNormal()));
  }
}

// One explored session; longer watching the larger the first dimension of what was executed.
v1::Trajectory Session(const v1::Config& config, const v1::FeatureSchema& schema, std::uint64_t number) {
  Random random(1, "learner_bench", number);
  const auto ranges = Must(ActionRangesOf(config.policy(), schema));
  const auto bound = static_cast<float>(config.policy().box_upper());
  v1::Trajectory session;
  session.mutable_name()->set_offset(static_cast<std::int64_t>(number));
  session.set_user_id("u" + std::to_string(number));
  session.set_end(v1::TERMINATED);
  for (int request = 0; request < kRequests; ++request) {
    v1::Step& step = *session.add_steps();
    v1::Exposure& exposure = *step.mutable_exposure();
    exposure.set_schema_digest(SchemaDigest(schema));
    FillFeatures(schema, v1::USER, random, *exposure.mutable_user_features());
    FillFeatures(schema, v1::CONTEXT, random, *exposure.mutable_context_features());
    exposure.mutable_box()->set_lower(-bound);
    exposure.mutable_box()->set_upper(bound);
    exposure.set_log_density(-ranges.static_action_size() * std::log(2.0 * bound));
    for (int j = 0; j < kItems; ++j) {
      v1::ExposedItem& item = *exposure.add_items();
      item.set_item_id("i" + std::to_string(random.NextBelow(100'000)));
      item.set_position(static_cast<std::uint32_t>(j));
      FillFeatures(schema, v1::ITEM, random, *item.mutable_item_features());
      for (const float fixed : ranges.static_action()) {
        item.add_baseline_action(fixed);
        item.add_executed_action(
            std::clamp(fixed + static_cast<float>(random.NextUniform(-bound, bound)), -1.0F, 1.0F));
      }
      for (int task = 0; task < schema.tasks_size(); ++task)
        item.add_task_scores(static_cast<float>(random.NextUniform()));
      const double liking = item.executed_action(0) - item.baseline_action(0);
      step.add_rewards()->set_watch_ms(static_cast<std::int64_t>(20'000 * (0.5 + liking + 0.2 * random.NextUniform())));
    }
  }
  return session;
}

Tensor Flat(const std::vector<float>& values, std::vector<std::uint32_t> shape) { return {std::move(shape), values}; }

TensorMap TensorsOf(const TransitionBatch& b, std::uint32_t actions) {
  const auto batch = static_cast<std::uint32_t>(b.batch), items = static_cast<std::uint32_t>(b.items);
  const auto states = static_cast<std::uint32_t>(b.state.size()) / (batch * items);
  return {{"state", Flat(b.state, {batch * items, states})},
          {"next_state", Flat(b.next_state, {batch * items, states})},
          {"action", Flat(b.action, {batch * items, actions})},
          {"baseline", Flat(b.baseline, {batch, items, actions})},
          {"next_baseline", Flat(b.next_baseline, {batch, items, actions})},
          {"mask", Flat(b.mask, {batch, items})},
          {"next_mask", Flat(b.next_mask, {batch, items})},
          {"reward", Flat(b.reward, {static_cast<std::uint32_t>(kRewardGroups), batch, items})},
          {"terminated", Flat(b.terminated, {batch})},
          {"trains_actor", Flat(b.trains_actor, {batch})},
          {"weight", Flat(b.weight, {batch})},
          {"box", Flat(b.box, {batch, 2})},
          {"next_box", Flat(b.next_box, {batch, 2})}};
}

}  // namespace

LearnerCase::LearnerCase(const std::string& preset, std::int64_t batch, std::int64_t threads,
                         const std::string& precision)
    : name_(preset + "_" + std::to_string(batch)),
      config_(ConfigOf(preset, batch, threads, precision)),
      builder_(config_, SchemaOf(config_)),
      normaliser_(Normaliser::Identity(builder_.encoder().state_width())),
      rewards_(config_.rewards(), config_.learner().reward_cap()),
      replay_(builder_.layout(), 100'000) {
  const v1::FeatureSchema schema = SchemaOf(config_);
  for (std::uint64_t i = 0; i < kSessions; ++i) sessions_.push_back(Session(config_, schema, i).SerializeAsString());
  const auto ranges = Must(ActionRangesOf(config_.policy(), schema));
  algorithm_ = Must(CreateAlgorithm(config_, {builder_.layout().shared,
                                              builder_.layout().item,
                                              {ranges.static_action().begin(), ranges.static_action().end()}}));
  Ingest(kSessions * kRequests);
  for (std::size_t i = 0; i < kBatches; ++i) {
    Sample();
    batches_.push_back({critics_, actor_});
  }
}

void LearnerCase::Ingest(std::size_t transitions) {
  v1::Trajectory session;
  for (std::uint64_t done = 0; done < transitions; next_session_ = (next_session_ + 1) % sessions_.size()) {
    FUSELINE_CHECK(session.ParseFromString(sessions_[next_session_]));
    const TransitionBuilder::Account account = builder_.AppendTransitions(session, replay_.rows(), nullptr);
    for (const auto& [reason, count] : account.left_out)
      if (count > 0) Must<int>(Error(Code::kInternal, "a session of the benchmark is not learned from:", reason));
    done += account.transitions;
    replay_.Index();
  }
}

void LearnerCase::Sample() {
  const Sampling sampling{.seed = 1, .step = sampled_++, .count = static_cast<std::size_t>(config_.learner().batch())};
  replay_.Sample(sampling, normaliser_, rewards_, critics_);
  replay_.SampleForActor(sampling, normaliser_, rewards_, actor_);
}

StepFigures LearnerCase::Step() {
  const Batches& batches = batches_[step_ % kBatches];
  return Must(algorithm_->Step(batches.critics, batches.actor, step_++));
}

std::vector<LearnerCase::Shape> LearnerCase::shapes() const {
  std::vector<Shape> shapes;
  auto in = static_cast<std::int64_t>(builder_.encoder().state_width() + builder_.layout().action);
  for (const std::int64_t width : SizesOf(config_.learner()).hidden) {
    shapes.push_back({config_.learner().batch() * kItems, in, width});
    in = width;
  }
  return shapes;
}

double LearnerCase::flops() const {
  const NetworkSizes sizes = SizesOf(config_.learner());
  const auto states = static_cast<std::int64_t>(builder_.encoder().state_width()),
             actions = static_cast<std::int64_t>(builder_.layout().action);
  const auto macs = [&](std::int64_t in, std::int64_t out) {
    double sum = 0;
    for (const std::int64_t width : sizes.hidden) sum += static_cast<double>(in * width), in = width;
    return sum + static_cast<double>(in * out);
  };
  const auto first = static_cast<double>(sizes.hidden.front());
  const double critic = macs(states + actions, 1), actor = macs(states, actions);
  const double by_inputs = critic - first * static_cast<double>(states + actions);
  const double of_a_critic = 4 * critic + 2 * by_inputs + first * static_cast<double>(actions);
  const double of_the_actor = 4 * actor - first * static_cast<double>(states);
  const double members = static_cast<double>(2 * sizes.critics_per_group);
  return 2 * static_cast<double>(sizes.batch * kItems) * (members * of_a_critic + of_the_actor);
}

std::vector<double> LearnerCase::Losses(std::size_t steps) {
  std::vector<double> losses;
  for (std::size_t i = 0; i < steps; ++i) {
    const StepFigures figures = Step();
    losses.insert(losses.end(), {figures.critic_loss, figures.actor_loss});
  }
  return losses;
}

void LearnerCase::Write(const std::filesystem::path& folder, std::int64_t threads) const {
  const v1::Learner& learner = config_.learner();
  const NetworkSizes sizes = SizesOf(learner);
  const auto ranges = Must(ActionRangesOf(config_.policy(), SchemaOf(config_)));
  const auto widths = [&](std::int64_t in, std::int64_t out) {
    std::vector<std::int64_t> all = sizes.hidden;
    all.insert(all.begin(), in);
    all.push_back(out);
    return all;
  };
  const auto states = static_cast<std::int64_t>(builder_.encoder().state_width()),
             actions = static_cast<std::int64_t>(builder_.layout().action);
  std::vector<double> mean,
      scale;  // How critics see an action: its distance from the middle of the first box, in half-widths.
  for (const float fixed : ranges.static_action()) {
    const double low = std::max(-1.0, fixed + config_.policy().box_lower()),
                 high = std::min(1.0, fixed + config_.policy().box_upper());
    mean.push_back((low + high) / 2);
    scale.push_back(2 / (high - low));
  }
  const nlohmann::json description{
      {"threads", threads},
      {"batch", learner.batch()},
      {"batches", kBatches},
      {"steps_done", step_},
      {"groups", kRewardGroups},
      {"critic", {{"members", 2 * sizes.critics_per_group}, {"widths", widths(states + actions, 1)}}},
      {"actor", {{"widths", widths(states, actions)}}},
      {"action_mean", mean},
      {"action_scale", scale},
      {"omega", {learner.omega_engagement(), learner.omega_watch()}},
      {"gamma", learner.gamma()},
      {"alpha_d", learner.alpha_d()},
      {"beta", learner.beta()},
      {"eta", learner.eta()},
      {"lambda", learner.lambda()},
      {"actor_rate", learner.actor_rate()},
      {"critic_rate", learner.critic_rate()},
      {"max_gradient_norm", learner.max_gradient_norm()},
      {"soft_update", learner.soft_update()},
      {"soft_update_every", learner.soft_update_every()}};
  Must(WriteFileAtomically(folder / "case.json", description.dump(1)));
  Must(WriteFileAtomically(folder / "start.safetensors", EncodeWeights(algorithm_->Save())));
  for (std::size_t i = 0; i < kBatches; ++i) {
    const Batches& batches = batches_[(step_ + i) % kBatches];
    for (const auto& [name, batch] : {std::pair("critics", &batches.critics), std::pair("actor", &batches.actor)})
      Must(WriteFileAtomically(folder / (std::string(name) + "." + std::to_string(i) + ".safetensors"),
                               EncodeWeights(TensorsOf(*batch, static_cast<std::uint32_t>(actions)))));
  }
}

}  // namespace fuseline::bench
