#include "response_world.h"

#include <algorithm>
#include <cmath>

#include "fuseline/core/file.h"
#include "session_rules.h"

namespace fuseline {
namespace {

constexpr double kLongViewS = 18;                       // Of a longer video.
constexpr double kWatchCapS = 600;                      // Of one item; as the model was fitted.
constexpr std::size_t kPairsMax = 20'000'000;           // Of the table of predictions: 560 MB.
constexpr std::array<const char*, kResponseTasks> kTaskNames = {"click", "like", "follow", "comment", "forward", "long_view"};

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

// What xMTF's simulator rewards: play seconds alone.
v1::Rewards XmtfRewards(const v1::XmtfSessions& settings) {
  v1::Rewards rewards;
  rewards.set_valid_watch_ms(10'000);
  rewards.set_watch_second(1 / settings.reward_seconds());
  rewards.set_watch_cap_ms(86'400'000);
  return rewards;
}

}  // namespace

ResponseWorld::ResponseWorld(WorldFacts facts, ActionSpace space, ResponseModel model, LongViews long_views, const v1::World& file,
                             const v1::Rewards& rewards)
    : World(std::move(facts), std::move(space)),
      model_(std::move(model)),
      long_views_(long_views),
      file_(file),
      rewards_(rewards),
      table_(user_count() * item_count() * kResponseHeads) {
  for (std::size_t pair = 0; pair < user_count() * item_count(); ++pair) {
    const std::size_t item = pair % item_count();
    const std::span<float, kResponseHeads> heads(table_.data() + pair * kResponseHeads, kResponseHeads);
    model_.Predict(pair / item_count(), item, heads);
    if (long_views_ == LongViews::kByHead) continue;
    heads[kLongViewHead] =
        heads[kClickHead] * static_cast<float>(Phi((heads[kLogWatchHead] - std::log1p(LongViewS(item))) / model_.watch_spread()));
  }
}

double ResponseWorld::LongViewS(std::size_t item) const { return std::min(model_.DurationSeconds(item), kLongViewS); }

void ResponseWorld::Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const {
  for (const std::uint32_t item : items) {
    std::copy_n(Of(user, item).begin(), kResponseTasks, scores.begin());
    scores = scores.subspan(kResponseTasks);
  }
}

TrueResponse ResponseWorld::Truth(std::size_t user, std::size_t item) const {
  const Heads heads = Of(user, item);
  const double mean = heads[kLogWatchHead], spread = model_.watch_spread();
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
  truth.click = heads[kClickHead];
  truth.valid = truth.click * (1 - below(std::log1p(static_cast<double>(rewards_.valid_watch_ms()) / 1000)));
  truth.watch_s = truth.click * mean_watch_s(kWatchCapS);
  truth.like = std::min(heads[kLikeHead], heads[kClickHead]);
  truth.share = std::min(heads[kForwardHead], heads[kClickHead]);
  truth.reward = rewards_.valid() * truth.valid + rewards_.like() * truth.like + rewards_.share() * truth.share +
                 rewards_.comment() * std::min(heads[kCommentHead], heads[kClickHead]) +
                 rewards_.follow() * std::min(heads[kFollowHead], heads[kClickHead]) + rewards_.complete() * truth.click * (1 - below(std::log1p(model_.DurationSeconds(item)))) +
                 rewards_.watch_second() * truth.click *
                     mean_watch_s(std::min(kWatchCapS, static_cast<double>(rewards_.watch_cap_ms()) / 1000));
  if (is_xmtf()) {
    truth.satisfaction = truth.watch_s / file_.xmtf().reward_seconds();
  } else {
    for (std::size_t t = 0; t < kResponseTasks; ++t) truth.satisfaction += Weight(t) * std::min(heads[t], heads[kClickHead]);
  }
  return truth;
}

// Feedback is Bernoulli; without a click there is none.
Response ResponseWorld::React(std::size_t user, std::size_t item, Random& random) const {
  const Heads heads = Of(user, item);
  Response response;
  response.click = random.NextUniform() < heads[kClickHead];
  if (!response.click) return response;
  const auto also = [&](ResponseHead head) { return random.NextUniform() * heads[kClickHead] < heads[head]; };
  response.like = also(kLikeHead);
  response.follow = also(kFollowHead);
  response.comment = also(kCommentHead);
  response.share = also(kForwardHead);
  bool long_view = also(kLongViewHead);
  const double watch_s =
      std::clamp(std::expm1(heads[kLogWatchHead] + model_.watch_spread() * random.NextNormal()), 0.0, kWatchCapS);
  response.watch_ms = static_cast<std::int64_t>(watch_s * 1000);
  if (long_views_ == LongViews::kByWatch) long_view = watch_s >= LongViewS(item);
  response.valid = response.watch_ms > rewards_.valid_watch_ms();
  response.complete = response.watch_ms >= DurationMs(item);
  const double earning_s = std::min(watch_s, static_cast<double>(rewards_.watch_cap_ms()) / 1000);
  response.reward = rewards_.valid() * response.valid + rewards_.complete() * response.complete + rewards_.like() * response.like +
                    rewards_.share() * response.share + rewards_.comment() * response.comment +
                    rewards_.follow() * response.follow + rewards_.watch_second() * earning_s;
  response.satisfaction = is_xmtf() ? watch_s / file_.xmtf().reward_seconds()
                                    : Weight(kClickHead) + Weight(kLikeHead) * response.like + Weight(kFollowHead) * response.follow +
                                          Weight(kCommentHead) * response.comment + Weight(kForwardHead) * response.share +
                                          Weight(kLongViewHead) * long_view;
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

Result<TensorMap> LoadResponseTensors(const WorldSource& source) {
  const auto bytes = ReadFile(source.weights);
  if (!bytes && bytes.error().code == Code::kNotFound) {
    return Error(Code::kNotFound, "there is no response model " + source.weights.string() +
                                      "; make it with: fuseline world fit --data FOLDER --out " + source.weights.string());
  }
  if (!bytes) return tl::unexpected(bytes.error());
  return DecodeWeights(*bytes);
}

Status CheckResponseFacts(const WorldSource& source, const WorldFacts& facts, const ResponseModel& model) {
  if (facts.users > model.user_count() || facts.items > model.item_count() || facts.users > kPairsMax / facts.items) {
    return ErrorStatus(Code::kInvalidInput, "population is larger than its response model, or than 20,000,000 pairs: users", facts.users,
                       "of", model.user_count(), "items", facts.items, "of", model.item_count());
  }
  const int weights = source.file.kuaisim().feedback_weights_size();
  if (weights != 0 && weights != static_cast<int>(kResponseTasks)) {
    return ErrorStatus(Code::kInvalidInput, "kuaisim.feedback_weights needs 6 values or none, has", weights);
  }
  return OkStatus();
}

Result<std::unique_ptr<World>> CreateResponseWorld(const WorldSource& source) {
  FUSELINE_ASSIGN_OR_FAIL(TensorMap tensors, LoadResponseTensors(source));
  FUSELINE_ASSIGN_OR_FAIL(ResponseModel model, ResponseModel::Create(std::move(tensors)));
  WorldFacts facts = FactsOf(source, ResponseSchema(model));
  FUSELINE_FAIL_IF_ERROR(CheckResponseFacts(source, facts, model));
  if (source.file.kind() == "xmtf") facts.rewards = XmtfRewards(source.file.xmtf());
  const v1::Rewards rewards = facts.rewards.value_or(source.rewards);
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, CheckFacts(facts));
  return std::make_unique<ResponseWorld>(std::move(facts), std::move(space), std::move(model), LongViews::kByHead, source.file, rewards);
}

}  // namespace fuseline
