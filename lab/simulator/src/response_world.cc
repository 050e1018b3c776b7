#include <algorithm>
#include <cmath>

#include "fuseline/core/file.h"
#include "response_model.h"
#include "session_rules.h"
#include "world_kinds.h"

namespace fuseline {
namespace {

constexpr double kWatchCapS = 600;                      // Of one item; as the model was fitted.
constexpr std::size_t kPairsMax = 20'000'000;           // Of the table of predictions: 560 MB.
constexpr std::array<const char*, kResponseTasks> kTaskNames = {"click", "like", "follow", "comment", "forward", "long_view"};
enum Head { kClick, kLike, kFollow, kComment, kForward, kLongView, kLogWatch };
using Heads = std::span<const float, kResponseHeads>;

double Phi(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

v1::FeatureSchema ResponseSchema(const ResponseModel& model) {
  v1::FeatureSchema schema;
  const auto add = [&](const char* name, v1::FeatureScope scope, std::size_t width) {
    v1::Feature& feature = *schema.add_features();
    feature.set_name(name);
    feature.set_scope(scope);
    feature.mutable_dense()->set_width(static_cast<std::uint32_t>(width));
  };
  add("user_profile", v1::USER, model.UserProfile(0).size());
  add("session_depth", v1::CONTEXT, 1);
  add("item_profile", v1::ITEM, model.ItemProfile(0).size());
  for (const char* name : kTaskNames) {
    v1::Task& task = *schema.add_tasks();
    task.set_name(name);
    task.set_max(1);
  }
  return schema;
}

// Users of a log, by a model of them. The model is the scorer too, as in both papers: predictions are the truth in expectation, and a
// policy learns which of them make a session.
class ResponseWorld final : public World {
 public:
  ResponseWorld(WorldFacts facts, ActionSpace space, ResponseModel model, const v1::World& file, const v1::Rewards& rewards)
      : World(std::move(facts), std::move(space)), model_(std::move(model)), file_(file), rewards_(rewards) {
    table_.resize(user_count() * item_count() * kResponseHeads);
    for (std::size_t pair = 0; pair < user_count() * item_count(); ++pair) {
      model_.Predict(pair / item_count(), pair % item_count(),
                     std::span<float, kResponseHeads>(table_.data() + pair * kResponseHeads, kResponseHeads));
    }
  }

  std::int64_t DurationMs(std::size_t item) const override {
    return static_cast<std::int64_t>(model_.DurationSeconds(item) * 1000);
  }
  FeatureView UserFeatures(std::size_t user) const override { return {model_.UserProfile(user), {}}; }
  FeatureView ItemFeatures(std::size_t item) const override { return {model_.ItemProfile(item), {}}; }
  void ContextFeatures(std::int64_t, const Mood& mood, std::vector<float>* dense) const override {
    dense->assign(1, static_cast<float>(mood.depth));
  }
  void Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const override {
    for (const std::uint32_t item : items) {
      std::copy_n(Of(user, item).begin(), kResponseTasks, scores.begin());
      scores = scores.subspan(kResponseTasks);
    }
  }
  TrueResponse Truth(std::size_t user, std::size_t item) const override;
  Response React(std::size_t user, std::size_t item, Random& random) const override;
  Mood FirstMood(std::size_t user) const override;
  NextVisit AfterRequest(std::size_t user, std::span<const Response> responses, Random& random, Mood* mood) const override;

 private:
  bool is_xmtf() const { return file_.kind() == "xmtf"; }
  Heads Of(std::size_t user, std::size_t item) const {
    return Heads(table_.data() + (user * item_count() + item) * kResponseHeads, kResponseHeads);
  }
  double Weight(std::size_t task) const {
    const auto& weights = file_.kuaisim().feedback_weights();
    return weights.empty() ? 1 : weights.Get(static_cast<int>(task));
  }

  ResponseModel model_;
  v1::World file_;
  v1::Rewards rewards_;
  std::vector<float> table_;  // [users, items, heads]
};

TrueResponse ResponseWorld::Truth(std::size_t user, std::size_t item) const {
  const Heads heads = Of(user, item);
  const double mean = heads[kLogWatch], spread = model_.watch_spread();
  // exp(normal) - 1 seconds, cut at 0 and at a cap: partial expectations of a lognormal variable.
  const auto below = [&](double log_limit) { return Phi((log_limit - mean) / spread); };
  const auto part_below = [&](double log_limit) {
    return std::exp(mean + spread * spread / 2) * Phi((log_limit - mean - spread * spread) / spread);
  };
  const auto mean_watch_s = [&](double cap_s) {
    const double log_cap = std::log1p(cap_s);
    return part_below(log_cap) - part_below(0) + below(0) + (1 + cap_s) * (1 - below(log_cap)) - 1;
  };
  TrueResponse truth;
  truth.click = heads[kClick];
  truth.valid = truth.click * (1 - below(std::log1p(static_cast<double>(rewards_.valid_watch_ms()) / 1000)));
  truth.watch_s = truth.click * mean_watch_s(kWatchCapS);
  truth.like = std::min(heads[kLike], heads[kClick]);
  truth.share = std::min(heads[kForward], heads[kClick]);
  truth.reward = rewards_.valid() * truth.valid + rewards_.like() * truth.like + rewards_.share() * truth.share +
                 rewards_.comment() * std::min(heads[kComment], heads[kClick]) +
                 rewards_.follow() * std::min(heads[kFollow], heads[kClick]) + rewards_.complete() * truth.click * (1 - below(std::log1p(model_.DurationSeconds(item)))) +
                 rewards_.watch_second() * truth.click *
                     mean_watch_s(std::min(kWatchCapS, static_cast<double>(rewards_.watch_cap_ms()) / 1000));
  if (is_xmtf()) {
    truth.satisfaction = truth.watch_s / file_.xmtf().reward_seconds();
  } else {
    for (std::size_t t = 0; t < kResponseTasks; ++t) truth.satisfaction += Weight(t) * std::min(heads[t], heads[kClick]);
  }
  return truth;
}

// Feedback is Bernoulli; without a click there is none.
Response ResponseWorld::React(std::size_t user, std::size_t item, Random& random) const {
  const Heads heads = Of(user, item);
  Response response;
  response.click = random.NextUniform() < heads[kClick];
  if (!response.click) return response;
  const auto also = [&](Head head) { return random.NextUniform() * heads[kClick] < heads[head]; };
  response.like = also(kLike);
  response.follow = also(kFollow);
  response.comment = also(kComment);
  response.share = also(kForward);
  const bool long_view = also(kLongView);
  const double watch_s =
      std::clamp(std::expm1(heads[kLogWatch] + model_.watch_spread() * random.NextNormal()), 0.0, kWatchCapS);
  response.watch_ms = static_cast<std::int64_t>(watch_s * 1000);
  response.valid = response.watch_ms > rewards_.valid_watch_ms();
  response.complete = response.watch_ms >= DurationMs(item);
  const double earning_s = std::min(watch_s, static_cast<double>(rewards_.watch_cap_ms()) / 1000);
  response.reward = rewards_.valid() * response.valid + rewards_.complete() * response.complete + rewards_.like() * response.like +
                    rewards_.share() * response.share + rewards_.comment() * response.comment +
                    rewards_.follow() * response.follow + rewards_.watch_second() * earning_s;
  response.satisfaction = is_xmtf() ? watch_s / file_.xmtf().reward_seconds()
                                    : Weight(kClick) + Weight(kLike) * response.like + Weight(kFollow) * response.follow +
                                          Weight(kComment) * response.comment + Weight(kForward) * response.share +
                                          Weight(kLongView) * long_view;
  return response;
}

Mood ResponseWorld::FirstMood(std::size_t user) const {
  return {is_xmtf() ? FirstXmtf(file_.xmtf(), model_.PlaySeconds(user)) : file_.kuaisim().temper(), 0};
}

NextVisit ResponseWorld::AfterRequest(std::size_t user, std::span<const Response> responses, Random& random, Mood* mood) const {
  double mean = 0;
  for (const Response& response : responses) mean += response.satisfaction / static_cast<double>(responses.size());
  NextVisit next;
  next.leaves = is_xmtf() ? AfterXmtf(file_.xmtf(), mean, mood) : AfterKuaisim(file_.kuaisim(), mean, mood);
  next.wait_ms = next.leaves ? DrawReturnMs(random) : static_cast<std::int64_t>(random.NextUniform(500, 2'000));
  if (next.leaves) *mood = FirstMood(user);
  return next;
}

// What xMTF's simulator rewards: play seconds alone.
v1::Rewards XmtfRewards(const v1::XmtfSessions& settings) {
  v1::Rewards rewards;
  rewards.set_valid_watch_ms(10'000);
  rewards.set_watch_second(1 / settings.reward_seconds());
  rewards.set_watch_cap_ms(86'400'000);
  return rewards;
}

Result<ResponseModel> LoadModel(const std::filesystem::path& weights) {
  const auto bytes = ReadFile(weights);
  if (!bytes && bytes.error().code == Code::kNotFound) {
    return Error(Code::kNotFound, "there is no response model " + weights.string() +
                                      "; make it with: fuseline world fit --data FOLDER --out " + weights.string());
  }
  if (!bytes) return tl::unexpected(bytes.error());
  FUSELINE_ASSIGN_OR_FAIL(TensorMap tensors, DecodeWeights(*bytes));
  return ResponseModel::Create(std::move(tensors));
}

}  // namespace

Result<std::unique_ptr<World>> CreateResponseWorld(const WorldSource& source) {
  FUSELINE_ASSIGN_OR_FAIL(ResponseModel model, LoadModel(source.weights));
  WorldFacts facts = FactsOf(source, ResponseSchema(model));
  if (facts.users > model.user_count() || facts.items > model.item_count() || facts.users > kPairsMax / facts.items) {
    return Error(Code::kInvalidInput, "population is larger than its response model, or than 20,000,000 pairs: users", facts.users, "of",
                 model.user_count(), "items", facts.items, "of", model.item_count());
  }
  const int weights = source.file.kuaisim().feedback_weights_size();
  if (weights != 0 && weights != static_cast<int>(kResponseTasks)) {
    return Error(Code::kInvalidInput, "kuaisim.feedback_weights needs 6 values or none, has", weights);
  }
  if (source.file.kind() == "xmtf") facts.rewards = XmtfRewards(source.file.xmtf());
  const v1::Rewards rewards = facts.rewards.value_or(source.rewards);
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, CheckFacts(facts));
  return std::make_unique<ResponseWorld>(std::move(facts), std::move(space), std::move(model), source.file, rewards);
}

}  // namespace fuseline
