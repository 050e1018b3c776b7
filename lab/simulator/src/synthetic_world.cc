#include <algorithm>
#include <array>
#include <cmath>

#include "feed_mood.h"
#include "viewing.h"
#include "world_kinds.h"

namespace fuseline {
namespace {

constexpr std::size_t kTasks = 5;
constexpr std::array<const char*, kTasks> kTaskNames = {"click", "valid", "watch", "like", "share"};
constexpr std::size_t kUserColumns = 4, kItemColumns = 3;
constexpr double kDurationS = 60;            // Of every item: behaviour follows g alone.
constexpr std::size_t kScaleSample = 4'000;  // Pairs from which the mean and spread of the fused score are taken.
// What keeps a session going; an item that is left early costs nothing, so that more of g is better in every way. A tenth of the feed's:
// there a request that is a tenth better makes sessions a fifth longer, and most of a policy's worth is that, not its rewards.
constexpr Pleasure kPleasure = {.valid = 0.04, .watch = 0.025, .like = 0.04, .skip_bores = 0.01, .bait_bores = 0, .any = 0.27};

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Nearly normal, mean 0 and variance 1, at most 3.5: the sum of four 16-bit uniform numbers. One draw and no transcendental
// function, since a request asks for hundreds.
double QuickNormal(Random& random) {
  const std::uint64_t bits = random.NextU64();
  const auto part = [&](int shift) { return static_cast<std::int64_t>((bits >> shift) & 0xffff); };
  constexpr double kScale = 1.0 / 37837.2;  // sqrt(4 * 65536^2 / 12)
  return static_cast<double>(part(0) + part(16) + part(32) + part(48) - 4 * 32768) * kScale;
}

double Bend(std::span<const double> law, std::span<const float> features) {
  double sum = 0;
  for (std::size_t i = 0; i < law.size(); ++i) sum += law[i] * features[i];
  return std::tanh(sum);
}

v1::FeatureSchema SyntheticSchema() {
  v1::FeatureSchema schema;
  const auto add = [&](const char* name, v1::FeatureScope scope, std::uint32_t width) {
    v1::Feature& feature = *schema.add_features();
    feature.set_name(name);
    feature.set_scope(scope);
    feature.mutable_dense()->set_width(width);
  };
  add("user_profile", v1::USER, kUserColumns);
  add("session_depth", v1::CONTEXT, 1);
  add("item_profile", v1::ITEM, kItemColumns);
  for (const char* name : kTaskNames) {
    v1::Task& task = *schema.add_tasks();
    task.set_name(name);
    task.set_max(1);
  }
  return schema;
}

// Behaviour follows g alone, the fused score under the best action brought to a mean (for each user the same) and spread; every probability and the
// time watched grow with g. So of two items the one with the larger g earns and pleases more in the sense of stochastic order,
// what is exposed now does not touch what is offered later, and content users stay longer and come back sooner: to expose the
// largest g is best now and for ever, whatever weights (none negative) the rewards have. The best action is a function of
// what a policy can see.
class SyntheticWorld final : public World {
 public:
  SyntheticWorld(WorldFacts facts, ActionSpace space, const v1::SyntheticWorld& settings, const v1::Rewards& rewards);

  std::int64_t DurationMs(std::size_t) const override { return static_cast<std::int64_t>(kDurationS * 1000); }
  FeatureView UserFeatures(std::size_t user) const override { return {users_[user], {}}; }
  FeatureView ItemFeatures(std::size_t item) const override { return {items_[item], {}}; }
  void ContextFeatures(std::size_t, std::int64_t, const Mood& mood, RequestContext* context) const override {
    context->dense.assign(1, static_cast<float>(mood.depth));
  }
  void Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const override;
  TrueResponse Truth(std::size_t user, std::size_t item) const override {
    return ExpectViewing(ViewingOf(user, item), kPleasure, rewards_);
  }
  Response React(std::size_t user, std::size_t item, Random& random) const override {
    return DrawViewing(ViewingOf(user, item), kPleasure, rewards_, random);
  }
  Mood FirstMood(std::size_t) const override { return FirstFeedMood(); }
  NextVisit AfterRequest(std::size_t, std::span<const Response> responses, Random& random, Mood* mood) const override {
    return AfterFeedRequest(responses, random, mood);
  }
  bool best_is_optimal() const override { return true; }
  void BestAction(std::size_t user, std::size_t item, std::span<float> action) const override;

 private:
  double BestScore(std::size_t user, std::size_t item) const;
  double PowerOf(std::size_t user, std::size_t task) const;  // The best one, of the average item.
  double MeanOf(std::size_t user) const;
  Viewing ViewingOf(std::size_t user, std::size_t item) const;
  void ScaleScores();

  v1::SyntheticWorld settings_;
  v1::Rewards rewards_;
  std::vector<std::array<float, kUserColumns>> users_;
  std::vector<std::array<float, kItemColumns>> items_;
  std::array<std::array<double, kUserColumns>, kTasks> user_law_{};  // w: which users want which power.
  std::array<std::array<double, kItemColumns>, kTasks> item_law_{};  // v
  std::array<double, kTasks> log_means_{};  // Of log(score + b).
  double spread_ = 1;                       // Of the best fused score around its user's mean.
};

SyntheticWorld::SyntheticWorld(WorldFacts facts, ActionSpace space, const v1::SyntheticWorld& settings, const v1::Rewards& rewards)
    : World(std::move(facts), std::move(space)), settings_(settings), rewards_(rewards), users_(user_count()), items_(item_count()) {
  for (std::size_t u = 0; u < user_count(); ++u) {
    Random random(seed(), "synthetic.user", u);
    for (float& value : users_[u]) value = static_cast<float>(random.NextNormal());
  }
  for (std::size_t i = 0; i < item_count(); ++i) {
    Random random(seed(), "synthetic.item", i);
    for (float& value : items_[i]) value = static_cast<float>(random.NextNormal());
  }
  for (std::size_t t = 0; t < kTasks; ++t) {
    Random random(seed(), "synthetic.law", t);
    // Of length one and a half: tanh bends, and seldom saturates.
    const auto draw = [&](std::span<double> law) {
      double squares = 0;
      for (double& weight : law) {
        weight = random.NextNormal();
        squares += weight * weight;
      }
      for (double& weight : law) weight *= 1.5 / std::sqrt(squares);
    };
    draw(user_law_[t]);
    draw(item_law_[t]);
  }
  ScaleScores();
}

// Means of log(score + b) by task, then the spread of the best fused score around its user's mean.
void SyntheticWorld::ScaleScores() {
  Random random(seed(), "synthetic.scale", 0);
  std::array<float, kTasks> scores;
  for (std::size_t n = 0; n < kScaleSample; ++n) {
    const auto item = static_cast<std::uint32_t>(random.NextBelow(item_count()));
    Scores(random.NextBelow(user_count()), std::span(&item, 1), scores);
    for (std::size_t t = 0; t < kTasks; ++t) {
      log_means_[t] += std::log(scores[t] + settings_.biases(static_cast<int>(t))) / kScaleSample;
    }
  }
  double squares = 0;
  for (std::size_t n = 0; n < kScaleSample; ++n) {
    const std::size_t user = random.NextBelow(user_count());
    const double centred = BestScore(user, random.NextBelow(item_count())) - MeanOf(user);
    squares += centred * centred;
  }
  spread_ = std::sqrt(std::max(squares / kScaleSample, 1e-12));
}

double SyntheticWorld::PowerOf(std::size_t user, std::size_t task) const {
  return settings_.powers(static_cast<int>(task)) + settings_.user_spread() * Bend(user_law_[task], users_[user]);
}

// Of the user's best fused scores over its items; what items add to the powers has mean 0.
double SyntheticWorld::MeanOf(std::size_t user) const {
  double mean = 0;
  for (std::size_t t = 0; t < kTasks; ++t) mean += PowerOf(user, t) * log_means_[t];
  return mean;
}

void SyntheticWorld::Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const {
  const double together = std::sqrt(settings_.score_correlation()), alone = std::sqrt(1 - settings_.score_correlation());
  for (std::size_t n = 0; n < items.size(); ++n) {
    Random random(seed(), "synthetic.score", (std::uint64_t{user} << 32) ^ items[n]);
    const double shared = together * QuickNormal(random);
    for (std::size_t t = 0; t < kTasks; ++t) {
      const int task = static_cast<int>(t);
      const double deviation = shared + alone * QuickNormal(random);
      scores[n * kTasks + t] =
          static_cast<float>(Sigmoid(settings_.score_means(task) + settings_.score_spreads(task) * deviation));
    }
  }
}

void SyntheticWorld::BestAction(std::size_t user, std::size_t item, std::span<float> action) const {
  for (std::size_t t = 0; t < kTasks; ++t) {
    double power = PowerOf(user, t);
    if (settings_.item_spread() > 0) power += settings_.item_spread() * Bend(item_law_[t], items_[item]);
    action[t] = action_space().ToNormalised(t, static_cast<float>(power));
    action[kTasks + t] = action_space().ToNormalised(kTasks + t, static_cast<float>(settings_.biases(static_cast<int>(t))));
  }
}

double SyntheticWorld::BestScore(std::size_t user, std::size_t item) const {
  std::array<float, kTasks> scores;
  std::array<float, 2 * kTasks> action;
  const auto index = static_cast<std::uint32_t>(item);
  Scores(user, std::span(&index, 1), scores);
  BestAction(user, item, action);
  return action_space().FusedScore(scores, action);
}

Viewing SyntheticWorld::ViewingOf(std::size_t user, std::size_t item) const {
  const double g = settings_.level() + settings_.sharpness() * (BestScore(user, item) - MeanOf(user)) / spread_;
  Viewing viewing;
  viewing.click = Sigmoid(-0.7 + 0.8 * g);
  viewing.patience_s = 12 * std::exp(0.4 * g);
  viewing.like = Sigmoid(-2.5 + 0.6 * g);
  viewing.share = Sigmoid(-4 + 0.6 * g);
  viewing.duration_s = kDurationS;
  viewing.duration_ms = static_cast<std::int64_t>(kDurationS * 1000);
  return viewing;
}

Status CheckLists(const v1::SyntheticWorld& settings) {
  const auto check = [](const char* name, int size) {
    return size == static_cast<int>(kTasks)
               ? OkStatus()
               : ErrorStatus(Code::kInvalidInput, std::string("synthetic.") + name + " needs one value per task, 5, has", size);
  };
  FUSELINE_RETURN_IF_ERROR(check("powers", settings.powers_size()));
  FUSELINE_RETURN_IF_ERROR(check("biases", settings.biases_size()));
  FUSELINE_RETURN_IF_ERROR(check("score_means", settings.score_means_size()));
  return check("score_spreads", settings.score_spreads_size());
}

// Inside the ranges, not at their edge: else no policy reaches the optimum.
Status CheckReach(const v1::SyntheticWorld& settings, const v1::Policy& policy) {
  const double spread = settings.user_spread() + settings.item_spread();
  for (const double power : settings.powers()) {
    if (power - spread < policy.power_min() || power + spread > policy.power_max()) {
      return ErrorStatus(Code::kInvalidInput, "synthetic.powers with their spreads leave the range of policy: power", power,
                         "spread", spread);
    }
  }
  for (const double bias : settings.biases()) {
    if (bias < policy.bias_min() || bias > policy.bias_max()) {
      return ErrorStatus(Code::kInvalidInput, "synthetic.biases leave the range of policy:", bias);
    }
  }
  return OkStatus();
}

}  // namespace

Result<std::unique_ptr<World>> CreateSyntheticWorld(const WorldSource& source) {
  const v1::SyntheticWorld& settings = source.file.synthetic();
  const v1::Rewards& rewards = source.rewards;
  FUSELINE_FAIL_IF_ERROR(CheckLists(settings));
  if (std::min({rewards.valid(), rewards.complete(), rewards.like(), rewards.share(), rewards.watch_second()}) < 0) {
    return Error(Code::kInvalidInput, "the optimum of a synthetic world holds for rewards.valid, complete, like, share and watch_second from 0");
  }
  WorldFacts facts = FactsOf(source, SyntheticSchema());
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, CheckFacts(facts));
  FUSELINE_FAIL_IF_ERROR(CheckReach(settings, facts.policy));
  return std::make_unique<SyntheticWorld>(std::move(facts), std::move(space), settings, rewards);
}

}  // namespace fuseline
