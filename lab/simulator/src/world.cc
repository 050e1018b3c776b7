#include "fuseline/simulator/world.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "fuseline/core/check.h"
#include "fuseline/proto/schema.h"
#include "fuseline/simulator/local_rankers.h"

namespace fuseline {
namespace {

constexpr double kPatience = 2;  // What satisfaction is worth in rewards to who orders by the truth: docs/simulator.md.

Result<std::size_t> ParseId(std::string_view id, char kind, std::size_t count) {
  std::size_t index = 0;
  const char* end = id.data() + id.size();
  if (id.size() > 1 && id[0] == kind) {
    const auto [stop, code] = std::from_chars(id.data() + 1, end, index);
    if (code == std::errc() && stop == end && index < count) return index;
  }
  return Error(Code::kNotFound, "the world has no", id);
}

Result<std::size_t> FindId(const std::unordered_map<std::string_view, std::size_t>& ids, std::string_view id) {
  if (const auto found = ids.find(id); found != ids.end()) return found->second;
  return Error(Code::kNotFound, "the world has no", id);
}

}  // namespace

World::World(WorldFacts facts, ActionSpace action_space)
    : facts_(std::move(facts)), schema_digest_(SchemaDigest(facts_.schema)), action_space_(std::move(action_space)) {
  for (const std::string& id : facts_.user_ids) user_of_.emplace(id, user_of_.size());
  for (const std::string& id : facts_.item_ids) item_of_.emplace(id, item_of_.size());
  if (!facts_.item_ids.empty()) return;
  facts_.item_ids.reserve(facts_.items);
  for (std::size_t i = 0; i < facts_.items; ++i) facts_.item_ids.push_back("i" + std::to_string(i));
}
World::~World() = default;

std::string World::UserId(std::size_t user) const {
  return facts_.user_ids.empty() ? "u" + std::to_string(user) : facts_.user_ids[user];
}
Result<std::size_t> World::UserOf(std::string_view id) const {
  return user_of_.empty() ? ParseId(id, 'u', user_count()) : FindId(user_of_, id);
}
Result<std::size_t> World::ItemOf(std::string_view id) const {
  return item_of_.empty() ? ParseId(id, 'i', item_count()) : FindId(item_of_, id);
}

void World::Candidates(std::size_t user, std::uint64_t request, std::vector<std::uint32_t>* items) const {
  Random random(seed(), "simulator.candidates", (std::uint64_t{user} << 32) ^ request);
  items->clear();
  // Floyd's sampling: distinct without a table of the whole catalogue.
  for (std::size_t j = item_count() - candidate_count(); j < item_count(); ++j) {
    const auto drawn = static_cast<std::uint32_t>(random.NextBelow(j + 1));
    const bool is_new = std::find(items->begin(), items->end(), drawn) == items->end();
    items->push_back(is_new ? drawn : static_cast<std::uint32_t>(j));
  }
}

void World::BestAction(std::size_t, std::size_t, std::span<float>) const { FUSELINE_CHECK(best_is_optimal()); }

std::unique_ptr<RankService> World::BestPolicy(const std::string& arm) const {
  if (best_is_optimal()) {
    return std::make_unique<ActionRanker>(
        *this, [this](std::size_t user, std::size_t item, std::span<float> action) { BestAction(user, item, action); }, arm);
  }
  return std::make_unique<OracleRanker>(*this, kPatience, arm);
}

std::unique_ptr<RankService> World::StaticPolicy(const std::string& arm) const {
  const auto action = action_space_.static_action();
  std::vector<std::vector<float>> actions = {{action.begin(), action.end()}};
  return std::make_unique<FixedActionRanker>(*this, action_space_, std::move(actions), arm);
}

Result<ActionSpace> CheckFacts(const WorldFacts& facts) {
  if (facts.users < 1 || facts.items < facts.candidates || facts.candidates < facts.exposed || facts.exposed < 1) {
    return Error(Code::kInvalidInput, "a world needs users >= 1 and items >= candidates >= exposed >= 1, has", facts.users,
                 facts.items, facts.candidates, facts.exposed);
  }
  for (const auto& [ids, count] : {std::pair{&facts.user_ids, facts.users}, std::pair{&facts.item_ids, facts.items}}) {
    if (!ids->empty() && (ids->size() != count || std::set(ids->begin(), ids->end()).size() != count)) {
      return Error(Code::kInvalidInput, "a world's users or items need an id of their own each, are", count, "ids", ids->size());
    }
  }
  FUSELINE_ASSIGN_OR_FAIL(const v1::ActionRanges ranges, ActionRangesOf(facts.policy, facts.schema));
  return ActionSpace::Create(ranges);
}

v1::Config SettingsFor(const World& world, v1::Config config) {
  *config.mutable_schema() = world.schema();
  const v1::Policy& from = world.policy();
  v1::Policy& to = *config.mutable_policy();
  to.set_power_min(from.power_min());
  to.set_power_max(from.power_max());
  to.set_bias_min(from.bias_min());
  to.set_bias_max(from.bias_max());
  *to.mutable_static_powers() = from.static_powers();
  *to.mutable_static_biases() = from.static_biases();
  if (!from.biases().empty()) to.set_biases(from.biases());
  if (world.rewards()) *config.mutable_rewards() = *world.rewards();
  config.mutable_learner()->set_max_items(static_cast<std::int64_t>(world.exposed_count()));
  return config;
}

}  // namespace fuseline
