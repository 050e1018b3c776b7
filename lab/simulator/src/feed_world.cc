#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "feed_mood.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/simulator/world.h"
#include "segments.h"
#include "viewing.h"

namespace fuseline {
namespace {

constexpr std::size_t kTastes = 8;
constexpr std::size_t kCategories = 16;
constexpr double kProfileNoise = 0.5;      // Of the observable profiles, against tastes of variance 1.
constexpr double kMedianDurationS = 35, kShortestS = 8, kLongestS = 180;
constexpr double kPatienceS = 14;          // A clicked item of no particular merit is watched so long on average.
constexpr std::int64_t kDayMs = 86'400'000;

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Logit(double p) { return std::log(p / (1 - p)); }

struct User {
  std::array<float, kTastes> taste;
  std::array<float, kTastes> profile;  // What is observable of it.
  std::uint64_t segment;
};

struct Item {
  std::array<float, kTastes> kind;
  std::array<float, kTastes + 1> features;  // The observable profile, then the duration in seconds.
  float quality;     // Keeps watching.
  float bait;        // Earns clicks, loses watchers.
  float likeable, shareable;
  float duration_s;
  std::uint64_t category;
};

// Feature values of one scope are drawn from a generator of their own: more items change no user.
void DrawProfile(Random& random, std::span<float> truth, std::span<float> observed) {
  for (std::size_t i = 0; i < truth.size(); ++i) {
    truth[i] = static_cast<float>(random.NextNormal());
    observed[i] = truth[i] + static_cast<float>(kProfileNoise * random.NextNormal());
  }
}

std::uint64_t PairCounter(std::uint64_t a, std::uint64_t b) { return (a << 32) ^ b; }

class FeedWorld final : public World {
 public:
  FeedWorld(WorldFacts facts, ActionSpace space, const v1::Rewards& rewards);

  std::size_t segment_count() const override { return kSegments.size(); }
  std::size_t SegmentOf(std::size_t user) const override { return users_[user].segment; }
  std::int64_t DurationMs(std::size_t item) const override {
    return static_cast<std::int64_t>(items_[item].duration_s * 1000);
  }
  FeatureView UserFeatures(std::size_t user) const override {
    return {users_[user].profile, std::span(&users_[user].segment, 1)};
  }
  FeatureView ItemFeatures(std::size_t item) const override {
    return {items_[item].features, std::span(&items_[item].category, 1)};
  }
  void ContextFeatures(std::size_t user, std::int64_t now_ms, const Mood& mood, RequestContext* context) const override;
  void Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const override;
  TrueResponse Truth(std::size_t user, std::size_t item) const override;
  Response React(std::size_t user, std::size_t item, Random& random) const override;
  Mood FirstMood(std::size_t) const override { return FirstFeedMood(); }
  NextVisit AfterRequest(std::size_t, std::span<const Response> responses, Random& random, Mood* mood) const override {
    return AfterFeedRequest(responses, random, mood);
  }

 private:
  User DrawUser(std::size_t index) const;
  Item DrawItem(std::size_t index) const;
  Viewing ViewingOf(std::size_t user, std::size_t item) const;
  Pleasure PleasureOf(std::size_t user) const;
  void ScoresOf(std::size_t user, std::size_t item, std::span<float> scores) const;

  v1::Rewards rewards_;
  std::vector<User> users_;
  std::vector<Item> items_;
  std::array<std::array<float, kScoredTasks>, kCategories> category_error_;  // The scorer misjudges whole categories.
};

FeedWorld::FeedWorld(WorldFacts facts, ActionSpace space, const v1::Rewards& rewards)
    : World(std::move(facts), std::move(space)), rewards_(rewards) {
  for (std::size_t u = 0; u < user_count(); ++u) users_.push_back(DrawUser(u));
  for (std::size_t i = 0; i < item_count(); ++i) items_.push_back(DrawItem(i));
  Random random(seed(), "simulator.category", 0);
  for (auto& errors : category_error_) {
    for (std::size_t t = 0; t < kScoredTasks; ++t) {
      errors[t] = static_cast<float>(kScorer[t].category_error * random.NextNormal());
    }
  }
}

User FeedWorld::DrawUser(std::size_t index) const {
  Random random(seed(), "simulator.user", index);
  User user{};
  DrawProfile(random, user.taste, user.profile);
  // Of length one: users differ in what they like, not in how much.
  double squares = 0;
  for (const float taste : user.taste) squares += static_cast<double>(taste) * taste;
  for (float& taste : user.taste) taste /= static_cast<float>(std::sqrt(squares));
  user.segment = random.NextBelow(kSegments.size());
  return user;
}

Item FeedWorld::DrawItem(std::size_t index) const {
  Random random(seed(), "simulator.item", index);
  Item item{};
  DrawProfile(random, item.kind, std::span(item.features).first(kTastes));
  item.quality = static_cast<float>(random.NextNormal());
  item.bait = static_cast<float>(random.NextNormal());
  item.likeable = static_cast<float>(0.5 * random.NextNormal());
  item.shareable = static_cast<float>(0.7 * random.NextNormal());
  item.duration_s = static_cast<float>(
      std::clamp(kMedianDurationS * std::exp(0.8 * random.NextNormal()), kShortestS, kLongestS));
  item.features[kTastes] = item.duration_s;
  item.category = random.NextBelow(kCategories);
  return item;
}

Viewing FeedWorld::ViewingOf(std::size_t user_index, std::size_t item_index) const {
  const User& user = users_[user_index];
  const Item& item = items_[item_index];
  const Segment& segment = kSegments[user.segment];
  double affinity = 0;
  for (std::size_t i = 0; i < kTastes; ++i) affinity += static_cast<double>(user.taste[i]) * item.kind[i];
  Viewing viewing;
  viewing.click = Sigmoid(-0.4 + 0.7 * affinity + 1.2 * item.bait + 0.2 * item.quality);
  viewing.patience_s =
      kPatienceS * segment.patience * std::exp(0.6 * affinity + 0.7 * item.quality - 1.0 * item.bait);
  viewing.like = Sigmoid(-3.2 + segment.like + 0.8 * affinity + 0.7 * item.quality + item.likeable);
  viewing.share = Sigmoid(-4.6 + segment.share + 0.5 * affinity + 0.6 * item.quality + item.shareable);
  viewing.duration_s = item.duration_s;
  viewing.duration_ms = DurationMs(item_index);
  return viewing;
}

Pleasure FeedWorld::PleasureOf(std::size_t user) const {
  const Segment& segment = kSegments[users_[user].segment];
  return {segment.valid_pleases, segment.watch_pleases, segment.like_pleases, kSkipBores, kBaitBores};
}

void FeedWorld::ContextFeatures(std::size_t, std::int64_t now_ms, const Mood& mood, RequestContext* context) const {
  const double angle = 2 * std::numbers::pi * static_cast<double>(now_ms % kDayMs) / static_cast<double>(kDayMs);
  context->dense.assign({static_cast<float>(std::sin(angle)), static_cast<float>(std::cos(angle)), static_cast<float>(mood.depth)});
}

// Truth, distorted by the scorer's calibration, an error that its tasks share, one of the category and one of each task's own.
void FeedWorld::ScoresOf(std::size_t user, std::size_t item, std::span<float> scores) const {
  const TrueResponse truth = Truth(user, item);
  const std::array<double, kScoredTasks> values = {truth.click, truth.valid, truth.watch_s, truth.like, truth.share};
  const Segment& segment = kSegments[users_[user].segment];
  const auto& of_category = category_error_[items_[item].category];
  Random random(seed(), "simulator.score", PairCounter(user, item));
  const double shared = random.NextNormal();
  for (std::size_t t = 0; t < kScoredTasks; ++t) {
    const Scorer& scorer = kScorer[t];
    const double error = scorer.shift + scorer.shared_error * shared + of_category[t] +
                         scorer.own_error * segment.own_error[t] * random.NextNormal();
    // Seconds are distorted in their logarithm, probabilities in their log-odds.
    scores[t] = t == kWatchTask
                    ? static_cast<float>(std::clamp(std::exp(scorer.slope * std::log(values[t] + 0.1) + error), 0.0, 600.0))
                    : static_cast<float>(Sigmoid(scorer.slope * Logit(std::clamp(values[t], 1e-5, 1 - 1e-5)) + error));
  }
}

void FeedWorld::Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const {
  for (std::size_t n = 0; n < items.size(); ++n) ScoresOf(user, items[n], scores.subspan(n * kScoredTasks, kScoredTasks));
}

TrueResponse FeedWorld::Truth(std::size_t user, std::size_t item) const {
  return ExpectViewing(ViewingOf(user, item), PleasureOf(user), rewards_);
}

Response FeedWorld::React(std::size_t user, std::size_t item, Random& random) const {
  return DrawViewing(ViewingOf(user, item), PleasureOf(user), rewards_, random);
}

}  // namespace

Result<std::unique_ptr<World>> CreateFeedWorld(const v1::Simulator& settings, const v1::Rewards& rewards, std::uint64_t seed,
                                               const v1::FeatureSchema& schema) {
  if (SchemaDigest(schema) != SchemaDigest(DefaultSchema())) {
    return Error(Code::kInvalidInput, "the simulator knows the default schema only: leave section schema out");
  }
  WorldFacts facts;
  facts.name = "feed";
  facts.seed = seed;
  facts.users = static_cast<std::size_t>(settings.users());
  facts.items = static_cast<std::size_t>(settings.items());
  facts.candidates = static_cast<std::size_t>(settings.candidates());
  facts.exposed = static_cast<std::size_t>(settings.exposed());
  facts.feedback_missing = settings.feedback_missing();
  facts.schema = schema;
  facts.policy = DefaultSettings().policy();
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, CheckFacts(facts));
  return std::make_unique<FeedWorld>(std::move(facts), std::move(space), rewards);
}

}  // namespace fuseline
