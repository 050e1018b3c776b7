#include "fuseline/simulator/world.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "fuseline/proto/schema.h"
#include "segments.h"

namespace fuseline {
namespace {

constexpr std::size_t kTastes = 8;
constexpr std::size_t kCategories = 16;
constexpr double kProfileNoise = 0.5;      // Of the observable profiles, against tastes of variance 1.
constexpr double kMedianDurationS = 35, kShortestS = 8, kLongestS = 180;
constexpr double kPatienceS = 14;          // A clicked item of no particular merit is watched so long on average.
constexpr double kDisappointedS = 3;       // Clicked, and left sooner: bait.
constexpr double kSatisfyingS = 30;        // Watching so long counts once.

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

// What the user would do with the item in truth, in the model's own terms.
struct Pair {
  double click;       // Probability.
  double patience_s;  // Mean of the exponential time until the user leaves a clicked item.
  double like, share; // Probabilities once clicked.
};

// Feature values of one scope are drawn from a generator of their own: more items change no user.
void DrawProfile(Random& random, std::span<float> truth, std::span<float> observed) {
  for (std::size_t i = 0; i < truth.size(); ++i) {
    truth[i] = static_cast<float>(random.NextNormal());
    observed[i] = truth[i] + static_cast<float>(kProfileNoise * random.NextNormal());
  }
}

Result<std::size_t> ParseId(std::string_view id, char kind, std::size_t count) {
  std::size_t index = 0;
  const char* end = id.data() + id.size();
  if (id.size() > 1 && id[0] == kind) {
    const auto [stop, code] = std::from_chars(id.data() + 1, end, index);
    if (code == std::errc() && stop == end && index < count) return index;
  }
  return Error(Code::kNotFound, "the world has no", id);
}

std::uint64_t PairCounter(std::uint64_t a, std::uint64_t b) { return (a << 32) ^ b; }

}  // namespace

struct World::Impl {
  v1::Simulator settings;
  v1::Rewards rewards;
  std::uint64_t seed = 0;
  std::string schema_digest;
  std::vector<User> users;
  std::vector<Item> items;
  std::vector<std::string> item_ids;
  std::array<std::array<float, kScoredTasks>, kCategories> category_error;  // The scorer misjudges whole categories.

  User DrawUser(std::size_t index) const;
  Item DrawItem(std::size_t index) const;
  Pair PairOf(std::size_t user, std::size_t item) const;
  double valid_s() const { return static_cast<double>(rewards.valid_watch_ms()) / 1000; }
  double cap_s() const { return static_cast<double>(rewards.watch_cap_ms()) / 1000; }
};

User World::Impl::DrawUser(std::size_t index) const {
  Random random(seed, "simulator.user", index);
  User user{};
  DrawProfile(random, user.taste, user.profile);
  // Of length one: users differ in what they like, not in how much.
  double squares = 0;
  for (const float taste : user.taste) squares += static_cast<double>(taste) * taste;
  for (float& taste : user.taste) taste /= static_cast<float>(std::sqrt(squares));
  user.segment = random.NextBelow(kSegments.size());
  return user;
}

Item World::Impl::DrawItem(std::size_t index) const {
  Random random(seed, "simulator.item", index);
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

Pair World::Impl::PairOf(std::size_t user_index, std::size_t item_index) const {
  const User& user = users[user_index];
  const Item& item = items[item_index];
  const Segment& segment = kSegments[user.segment];
  double affinity = 0;
  for (std::size_t i = 0; i < kTastes; ++i) affinity += static_cast<double>(user.taste[i]) * item.kind[i];
  Pair pair{};
  pair.click = Sigmoid(-0.4 + 0.7 * affinity + 1.2 * item.bait + 0.2 * item.quality);
  pair.patience_s =
      kPatienceS * segment.patience * std::exp(0.6 * affinity + 0.7 * item.quality - 1.0 * item.bait);
  pair.like = Sigmoid(-3.2 + segment.like + 0.8 * affinity + 0.7 * item.quality + item.likeable);
  pair.share = Sigmoid(-4.6 + segment.share + 0.5 * affinity + 0.6 * item.quality + item.shareable);
  return pair;
}

World::World(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
World::World(World&&) noexcept = default;
World& World::operator=(World&&) noexcept = default;
World::~World() = default;

Result<World> World::Create(const v1::Simulator& settings, const v1::Rewards& rewards, std::uint64_t seed,
                            const v1::FeatureSchema& schema) {
  if (SchemaDigest(schema) != SchemaDigest(DefaultSchema())) {
    return Error(Code::kInvalidInput, "the simulator knows the default schema only: leave section schema out");
  }
  if (settings.users() < 1 || settings.items() < settings.candidates() || settings.candidates() < settings.exposed() ||
      settings.exposed() < 1) {
    return Error(Code::kInvalidInput, "simulator needs users >= 1 and items >= candidates >= exposed >= 1, has",
                 settings.users(), settings.items(), settings.candidates(), settings.exposed());
  }
  auto impl = std::make_unique<Impl>();
  impl->settings = settings;
  impl->rewards = rewards;
  impl->seed = seed;
  impl->schema_digest = SchemaDigest(schema);
  for (std::size_t u = 0; u < static_cast<std::size_t>(settings.users()); ++u) impl->users.push_back(impl->DrawUser(u));
  for (std::size_t i = 0; i < static_cast<std::size_t>(settings.items()); ++i) {
    impl->items.push_back(impl->DrawItem(i));
    impl->item_ids.push_back("i" + std::to_string(i));
  }
  Random random(seed, "simulator.category", 0);
  for (auto& errors : impl->category_error) {
    for (std::size_t t = 0; t < kScoredTasks; ++t) {
      errors[t] = static_cast<float>(kScorer[t].category_error * random.NextNormal());
    }
  }
  return World(std::move(impl));
}

std::size_t World::user_count() const { return impl_->users.size(); }
std::size_t World::item_count() const { return impl_->items.size(); }
std::size_t World::candidate_count() const { return static_cast<std::size_t>(impl_->settings.candidates()); }
std::size_t World::exposed_count() const { return static_cast<std::size_t>(impl_->settings.exposed()); }
std::size_t World::segment_count() const { return kSegments.size(); }
double World::feedback_missing() const { return impl_->settings.feedback_missing(); }
std::uint64_t World::seed() const { return impl_->seed; }
const std::string& World::schema_digest() const { return impl_->schema_digest; }

std::string World::UserId(std::size_t user) const { return "u" + std::to_string(user); }
const std::string& World::ItemId(std::size_t item) const { return impl_->item_ids[item]; }
Result<std::size_t> World::UserOf(std::string_view id) const { return ParseId(id, 'u', impl_->users.size()); }
Result<std::size_t> World::ItemOf(std::string_view id) const { return ParseId(id, 'i', impl_->items.size()); }
std::size_t World::SegmentOf(std::size_t user) const { return impl_->users[user].segment; }
std::int64_t World::DurationMs(std::size_t item) const {
  return static_cast<std::int64_t>(impl_->items[item].duration_s * 1000);
}

FeatureView World::UserFeatures(std::size_t user) const {
  return {impl_->users[user].profile, std::span(&impl_->users[user].segment, 1)};
}
FeatureView World::ItemFeatures(std::size_t item) const {
  return {impl_->items[item].features, std::span(&impl_->items[item].category, 1)};
}

void World::Candidates(std::size_t user, std::uint64_t request, std::vector<std::uint32_t>* items) const {
  Random random(impl_->seed, "simulator.candidates", PairCounter(user, request));
  items->clear();
  // Floyd's sampling: distinct without a table of the whole catalogue.
  for (std::size_t j = item_count() - candidate_count(); j < item_count(); ++j) {
    const auto drawn = static_cast<std::uint32_t>(random.NextBelow(j + 1));
    const bool is_new = std::find(items->begin(), items->end(), drawn) == items->end();
    items->push_back(is_new ? drawn : static_cast<std::uint32_t>(j));
  }
}

void World::Scores(std::size_t user, std::size_t item, std::span<float> scores) const {
  const TrueResponse truth = Truth(user, item);
  const std::array<double, kScoredTasks> values = {truth.click, truth.valid, truth.watch_s, truth.like, truth.share};
  const Segment& segment = kSegments[impl_->users[user].segment];
  const auto& of_category = impl_->category_error[impl_->items[item].category];
  Random random(impl_->seed, "simulator.score", PairCounter(user, item));
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

TrueResponse World::Truth(std::size_t user, std::size_t item) const {
  const Pair pair = impl_->PairOf(user, item);
  const Segment& segment = kSegments[impl_->users[user].segment];
  const auto& rewards = impl_->rewards;
  const double duration_s = impl_->items[item].duration_s;
  // The time watched is exponential with mean `patience_s`, cut at `limit_s`.
  const auto mean_watch_s = [&](double limit_s) { return pair.patience_s * (1 - std::exp(-limit_s / pair.patience_s)); };
  const double valid = duration_s > impl_->valid_s() ? std::exp(-impl_->valid_s() / pair.patience_s) : 0;
  const double complete = std::exp(-duration_s / pair.patience_s);
  TrueResponse truth;
  truth.click = pair.click;
  truth.valid = pair.click * valid;
  truth.watch_s = pair.click * mean_watch_s(duration_s);
  truth.like = pair.click * pair.like;
  truth.share = pair.click * pair.share;
  truth.reward = rewards.valid() * truth.valid + rewards.complete() * pair.click * complete + rewards.like() * truth.like +
                 rewards.share() * truth.share +
                 rewards.watch_second() * pair.click * mean_watch_s(std::min(duration_s, impl_->cap_s()));
  truth.satisfaction = segment.valid_pleases * truth.valid + segment.watch_pleases * truth.watch_s / kSatisfyingS +
                       segment.like_pleases * truth.like - kSkipBores * (1 - pair.click) -
                       kBaitBores * pair.click * (1 - std::exp(-kDisappointedS / pair.patience_s));
  return truth;
}

Response World::React(std::size_t user, std::size_t item, Random& random) const {
  const Pair pair = impl_->PairOf(user, item);
  const Segment& segment = kSegments[impl_->users[user].segment];
  const auto& rewards = impl_->rewards;
  Response response;
  response.click = random.NextUniform() < pair.click;
  if (!response.click) {
    response.satisfaction = -kSkipBores;
    return response;
  }
  const double duration_s = impl_->items[item].duration_s;
  const double until_left_s = -pair.patience_s * std::log(1 - random.NextUniform());
  const double watch_s = std::min(until_left_s, duration_s);
  response.complete = until_left_s >= duration_s;
  response.watch_ms = response.complete ? DurationMs(item) : static_cast<std::int64_t>(watch_s * 1000);
  response.like = random.NextUniform() < pair.like;
  response.share = random.NextUniform() < pair.share;
  response.valid = response.watch_ms > rewards.valid_watch_ms();
  response.reward = rewards.valid() * response.valid + rewards.complete() * response.complete +
                    rewards.like() * response.like + rewards.share() * response.share +
                    rewards.watch_second() * std::min(watch_s, impl_->cap_s());
  response.satisfaction = segment.valid_pleases * response.valid + segment.watch_pleases * watch_s / kSatisfyingS +
                          segment.like_pleases * response.like - (watch_s < kDisappointedS ? kBaitBores : 0);
  return response;
}

}  // namespace fuseline
