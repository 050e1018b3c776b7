#include "transition_builder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/proto/schema.h"

namespace fuseline {
namespace {

constexpr float kSameBias = 1e-4F;  // Normalised.

ActionSpace SpaceOf(const v1::Config& config) {
  const auto ranges = PolicyRangesOf(config);
  FUSELINE_CHECK(ranges.has_value());
  return ActionSpace::Create(*ranges).value();
}

}  // namespace

TransitionBuilder::TransitionBuilder(const v1::Config& config, const v1::FeatureSchema& schema)
    : config_(config),
      schema_digest_(SchemaDigest(schema)),
      encoder_(schema),
      space_(SpaceOf(config)),
      layout_{encoder_.shared_width(), encoder_.item_width(), space_.learned_width(),
              static_cast<std::size_t>(config.learner().max_items()), encoder_.task_count()},
      reward_spec_(config.rewards(), config.learner().reward_cap()) {}

std::uint64_t TransitionBuilder::UserHash(const std::string& user_id) { return Fnv1a64(user_id); }

// Writes the learned dimensions of a logged action [D]; false where it is none of ours.
bool TransitionBuilder::TakeAction(const google::protobuf::RepeatedField<float>& action, float* to) const {
  const std::span<const float> given(action.data(), static_cast<std::size_t>(action.size())),
      ours = space_.static_action();
  if (given.size() != ours.size()) return false;
  if (!std::ranges::all_of(given, [](float value) { return value >= -1.0F && value <= 1.0F; })) return false;
  for (std::size_t d = layout_.action; d < ours.size(); ++d)
    if (std::abs(given[d] - ours[d]) > kSameBias) return false;
  std::ranges::copy(given.first(layout_.action), to);
  return true;
}

bool TransitionBuilder::EncodeState(const v1::Exposure& exposure, const SessionTerms& terms, Row& row, Account& account) const {
  const auto leave_out = [&](const char* reason) { return ++account.left_out[reason], false; };
  if (exposure.items().empty()) return leave_out("empty");
  if (exposure.schema_digest() != schema_digest_) return leave_out("schema");
  const std::size_t items = std::min<std::size_t>(static_cast<std::size_t>(exposure.items_size()), layout_.max_items);

  if (!encoder_.EncodeShared(ViewOf(exposure.user_features()), ViewOf(exposure.context_features()), {row.shared, layout_.shared})
           .ok())
    return leave_out("features");
  for (std::size_t j = 0; j < items; ++j) {
    const v1::ExposedItem& item = exposure.items(static_cast<int>(j));
    if (!TakeAction(item.baseline_action(), row.baseline + j * layout_.action)) return leave_out("actions");
    if (!encoder_.EncodeItem(ViewOf(item), {row.items + j * layout_.item, layout_.item}).ok()) return leave_out("features");
  }
  if (!IsSane(row, items)) return leave_out("feature_magnitude");
  const double most_log_density = config_.learner().max_log_density() * static_cast<double>(layout_.action);
  if (exposure.has_log_density() && !(std::abs(exposure.log_density()) <= most_log_density)) return leave_out("density");
  const v1::Policy& policy = config_.policy();
  *row.header = {.behaviour_version = exposure.policy_version() > terms.newest_version ? kForeignVersion : exposure.policy_version(),
                 .log_density = exposure.log_density(),
                 .box_lower = exposure.has_box() ? exposure.box().lower() : static_cast<float>(policy.box_lower()),
                 .box_upper = exposure.has_box() ? exposure.box().upper() : static_cast<float>(policy.box_upper()),
                 .items = static_cast<std::uint32_t>(items),
                 .flags = exposure.has_log_density() ? static_cast<std::uint32_t>(kHasDensity) : 0U};
  return true;
}

// One request's 1e30 would blind the normaliser to everybody else's values.
bool TransitionBuilder::IsSane(const Row& row, std::size_t items) const {
  const auto limit = static_cast<float>(config_.learner().max_feature());
  const auto within = [limit](float value) { return std::abs(value) <= limit; };
  return std::all_of(row.shared, row.shared + layout_.shared, within) &&
         std::all_of(row.items, row.items + items * layout_.item, within);
}

bool TransitionBuilder::EncodeOutcome(const v1::Step& step, Row& row, SessionAllowance& allowance, Account& account) const {
  const auto leave_out = [&](const char* reason) { return ++account.left_out[reason], false; };
  if (step.rewards_size() != step.exposure().items_size()) return leave_out("rewards");
  account.left_out["items_over_limit"] += static_cast<std::uint64_t>(step.rewards_size()) - row.header->items;
  for (std::uint32_t j = 0; j < row.header->items; ++j) {
    const v1::ExposedItem& item = step.exposure().items(static_cast<int>(j));
    if (!TakeAction(item.executed_action(), row.executed + j * layout_.action)) return leave_out("actions");
    std::ranges::copy(ComponentsOf(step.rewards(static_cast<int>(j))), row.RewardsOf(j).begin());
    account.left_out["reward_capped"] += reward_spec_.Capped(row.RewardsOf(j)) ? 1 : 0;
    if (allowance.Spend(reward_spec_.Of(row.RewardsOf(j)))) continue;
    std::ranges::fill(row.RewardsOf(j), 0);
    ++account.left_out["session_reward_capped"];
  }
  return true;
}

TransitionBuilder::Encoded TransitionBuilder::Encode(const v1::Step& step, const SessionTerms& terms, Account& account) const {
  Encoded encoded{.row = std::vector<std::byte>(layout_.row_bytes())};
  Row row(layout_, encoded.row.data());
  encoded.state = EncodeState(step.exposure(), terms, row, account);
  return encoded;
}

void TransitionBuilder::Emit(const Encoded& encoded, std::uint32_t flags, bool outcome, std::uint64_t user,
                             RowStore& rows) const {
  const Row row = rows.Append();
  std::memcpy(row.header, encoded.row.data(), layout_.row_bytes());
  row.header->flags |= flags;
  row.header->user = user;
  if (outcome) return;
  std::fill_n(row.executed, layout_.max_items * layout_.action, 0.0F);
  std::fill_n(row.rewards, layout_.max_items * kRewardComponents, 0);
}

void TransitionBuilder::AddStatistics(const Encoded& encoded, NormaliserStatistics& statistics) const {
  const ConstRow row(layout_, encoded.row.data());
  std::vector<float> state(layout_.shared + layout_.item);
  std::copy_n(row.shared, layout_.shared, state.begin());
  for (std::uint32_t j = 0; j < row.header->items; ++j) {
    std::copy_n(row.items + j * layout_.item, layout_.item, state.begin() + static_cast<std::ptrdiff_t>(layout_.shared));
    statistics.Add(state);
  }
}

TransitionBuilder::Account TransitionBuilder::AppendTransitions(const v1::Trajectory& trajectory, RowStore& rows,
                                                                NormaliserStatistics* statistics, const SessionTerms& terms) const {
  Account account;
  SessionAllowance own(config_.learner().session_reward_cap());
  SessionAllowance& allowance = terms.allowance != nullptr ? *terms.allowance : own;
  const std::uint64_t user = UserHash(trajectory.user_id());
  const bool has_next = trajectory.end() == v1::TRUNCATED && trajectory.has_next_step();
  const int steps = trajectory.steps_size();

  // The state after step t is states[t + 1]; the account counts a request that cannot be encoded once.
  std::vector<Encoded> states;
  for (const v1::Step& step : trajectory.steps()) states.push_back(Encode(step, terms, account));
  if (has_next) states.push_back(Encode(trajectory.next_step(), terms, account));

  const auto usable = [&](int t) {
    const auto at = static_cast<std::size_t>(t);
    if (!states[at].state) return false;
    const bool last = t == steps - 1;
    const auto leave_out = [&](const char* reason) { return ++account.left_out[reason], false; };
    if (last && trajectory.end() == v1::TRUNCATED && !has_next) return leave_out("truncated_last");
    if (last && trajectory.end() != v1::TRUNCATED && trajectory.end() != v1::TERMINATED) return leave_out("flushed_last");
    Row row(layout_, states[at].row.data());
    if (!row.is(kHasDensity) && !config_.learner().train_on_static()) return leave_out("static_arm");
    if (at + 1 < states.size() && !states[at + 1].state) return leave_out("next_unusable");
    return EncodeOutcome(trajectory.steps(t), row, allowance, account);
  };
  bool previous_used = false;
  for (int t = 0; t < static_cast<int>(states.size()); ++t) {
    const Encoded& state = states[static_cast<std::size_t>(t)];
    const bool used = t < steps && usable(t);
    if (used || previous_used) {
      const bool ends = t == steps - 1 && trajectory.end() == v1::TERMINATED;
      Emit(state, used ? kTransition | (ends ? kTerminated : 0U) : 0U, used, user, rows);
    }
    if (used && statistics != nullptr) AddStatistics(state, *statistics);
    account.transitions += used ? 1 : 0;
    previous_used = used && !(t == steps - 1 && trajectory.end() == v1::TERMINATED);
  }
  return account;
}

TransitionBuilder::Account TransitionBuilder::AppendJudged(const v1::Trajectory& trajectory, RowStore& rows,
                                                           std::vector<int>* kept, const SessionTerms& terms) const {
  Account account;
  SessionAllowance own(config_.learner().session_reward_cap());
  SessionAllowance& allowance = terms.allowance != nullptr ? *terms.allowance : own;
  const std::uint64_t user = UserHash(trajectory.user_id());
  std::uint32_t flags = kSessionStart;
  for (int t = 0; t < trajectory.steps_size(); ++t) {
    const bool unfinished = t == trajectory.steps_size() - 1 && trajectory.end() == v1::FLUSHED;
    if (unfinished) {
      ++account.left_out["flushed_last"];
      continue;
    }
    Encoded encoded = Encode(trajectory.steps(t), terms, account);
    Row row(layout_, encoded.row.data());
    if (!encoded.state || !EncodeOutcome(trajectory.steps(t), row, allowance, account)) continue;
    Emit(encoded, flags, true, user, rows);
    if (kept != nullptr) kept->push_back(t);
    flags = 0;
  }
  return account;
}

}  // namespace fuseline
