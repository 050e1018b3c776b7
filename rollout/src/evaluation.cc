#include "fuseline/rollout/evaluation.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

constexpr int kMetricCount = static_cast<int>(kMetrics);

// A row: user, arm, sessions, three sums, little-endian as every machine that we run on.
template <typename T>
void Put(T value, std::string* bytes) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T Take(const char*& at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  at += sizeof(value);
  return value;
}

// Index of the arm, made if it is new; -1: too many.
int ArmIndex(v1::ExperimentTotals& totals, std::string_view name) {
  for (int i = 0; i < totals.arms_size(); ++i) {
    if (totals.arms(i).name() == name) return i;
  }
  if (totals.arms_size() >= ExperimentEvaluation::kEvaluatedArmsMax) return -1;
  v1::ArmTotals& arm = *totals.add_arms();
  arm.set_name(std::string(name));
  for (int metric = 0; metric < kMetricCount; ++metric) arm.add_metrics();
  return totals.arms_size() - 1;
}

void CountEntry(v1::ArmTotals& arm, std::uint32_t coverage) {
  arm.set_users(arm.users() + 1);
  for (v1::EntryCount& entry : *arm.mutable_entries()) {
    if (entry.coverage() != coverage) continue;
    entry.set_users(entry.users() + 1);
    return;
  }
  v1::EntryCount& entry = *arm.add_entries();
  entry.set_coverage(coverage);
  entry.set_users(1);
}

bool AllFinite(const ObservedSession& session) {
  return std::all_of(session.metrics.begin(), session.metrics.end(), [](double value) { return std::isfinite(value); });
}

}  // namespace

ExperimentEvaluation::Experiment& ExperimentEvaluation::FindOrAdd(std::string_view name) {
  auto found = experiments_.find(name);
  if (found == experiments_.end()) {
    if (experiments_.size() >= kExperimentsMax) LetOldestGo(/*at_least_users=*/0, /*but=*/nullptr);
    found = experiments_.try_emplace(std::string(name)).first;
    found->second.totals.set_name(std::string(name));
  }
  found->second.last = ++order_;
  return found->second;
}

// No experiment can keep a smaller one from being judged, nor an ended one any other.
bool ExperimentEvaluation::HasRoomFor(const Experiment& experiment) {
  while (users_ >= max_users_) {
    if (!LetOldestGo(std::max<std::size_t>(1, experiment.users.size()), &experiment)) return false;
  }
  return true;
}

bool ExperimentEvaluation::LetOldestGo(std::size_t at_least_users, const Experiment* but) {
  auto oldest = experiments_.end();
  for (auto it = experiments_.begin(); it != experiments_.end(); ++it) {
    if (&it->second == but || it->second.users.size() < at_least_users) continue;
    if (oldest == experiments_.end() || it->second.last < oldest->second.last) oldest = it;
  }
  if (oldest == experiments_.end()) return false;
  if (let_go_) let_go_(oldest->second.totals);
  users_ -= oldest->second.users.size();
  experiments_.erase(oldest);
  return true;
}

void ExperimentEvaluation::Observe(const ObservedSession& session) {
  Experiment* const experiment = AllFinite(session) ? &FindOrAdd(session.experiment) : nullptr;
  const int arm = experiment == nullptr ? -1 : ArmIndex(experiment->totals, session.arm);
  const std::uint64_t id = Fnv1a64(session.user_id);
  if (arm < 0 || (!experiment->users.contains(id) && !HasRoomFor(*experiment))) {
    ++left_out_;
    return;
  }
  const auto [at, is_new] = experiment->users.try_emplace(id);
  User& user = at->second;
  v1::ExperimentTotals& totals = experiment->totals;
  v1::ArmTotals& sums = *totals.mutable_arms(arm);
  if (is_new) {
    ++users_;
    user.arm = static_cast<std::uint32_t>(arm);
    CountEntry(sums, session.coverage);
  }
  if (user.arm != static_cast<std::uint32_t>(arm)) {
    totals.set_crossed(totals.crossed() + 1);
    return;
  }
  // n -> n + 1 and y -> y + x: squares grow by 2 n + 1, 2 y x + x^2, and y n by y + x (n + 1).
  const double n = user.sessions;
  totals.set_sessions(totals.sessions() + 1);
  sums.set_sessions(sums.sessions() + 1);
  sums.set_squared_sessions(sums.squared_sessions() + 2 * n + 1);
  for (std::size_t i = 0; i < kMetrics; ++i) {
    v1::MetricTotals& metric = *sums.mutable_metrics(static_cast<int>(i));
    const double x = session.metrics[i], y = user.sums[i];
    metric.set_sum(metric.sum() + x);
    metric.set_squares(metric.squares() + 2 * y * x + x * x);
    metric.set_with_sessions(metric.with_sessions() + y + x * (n + 1));
    user.sums[i] += x;
  }
  ++user.sessions;
}

void ExperimentEvaluation::ObserveShadow(std::string_view name, const v1::ShadowScore& score) {
  v1::ExperimentTotals& totals = FindOrAdd(name).totals;
  v1::ShadowTotals* found = nullptr;
  for (v1::ShadowTotals& shadow : *totals.mutable_shadows()) {
    if (shadow.policy_version() == score.policy_version()) found = &shadow;
  }
  if (found == nullptr) {
    if (totals.shadows_size() >= kEvaluatedShadowsMax) return;
    found = totals.add_shadows();
    found->set_policy_version(score.policy_version());
  }
  found->set_requests(found->requests() + 1);
  found->set_rank_correlation(found->rank_correlation() + score.rank_correlation());
  found->set_top_overlap(found->top_overlap() + score.top_overlap());
  found->set_action_difference(found->action_difference() + score.action_difference());
}

const v1::ExperimentTotals* ExperimentEvaluation::Find(std::string_view experiment) const {
  const auto found = experiments_.find(experiment);
  return found == experiments_.end() ? nullptr : &found->second.totals;
}

v1::EvaluationState ExperimentEvaluation::State() const {
  v1::EvaluationState state;
  state.set_left_out(left_out_);
  std::vector<const Experiment*> by_last_session;
  for (const auto& [name, experiment] : experiments_) by_last_session.push_back(&experiment);
  std::sort(by_last_session.begin(), by_last_session.end(), [](const Experiment* a, const Experiment* b) { return a->last < b->last; });
  for (const Experiment* const each : by_last_session) {
    const Experiment& experiment = *each;
    v1::ExperimentTotals& totals = *state.add_experiments();
    totals = experiment.totals;
    std::vector<std::uint64_t> ids;
    ids.reserve(experiment.users.size());
    for (const auto& [id, user] : experiment.users) ids.push_back(id);
    std::sort(ids.begin(), ids.end());
    std::string rows;
    rows.reserve(ids.size() * kUserRowBytes);
    for (const std::uint64_t id : ids) {
      const User& user = experiment.users.at(id);
      Put(id, &rows);
      Put(user.arm, &rows);
      Put(user.sessions, &rows);
      for (const double sum : user.sums) Put(sum, &rows);
    }
    totals.set_users(std::move(rows));
  }
  return state;
}

Status ExperimentEvaluation::Restore(const v1::EvaluationState& state) {
  std::map<std::string, Experiment, std::less<>> restored;
  std::size_t users = 0;
  std::uint64_t order = 0;
  for (const v1::ExperimentTotals& totals : state.experiments()) {
    Experiment& experiment = restored[totals.name()];
    experiment.totals = totals;
    experiment.last = ++order;
    experiment.totals.clear_users();
    const std::string& rows = totals.users();
    if (rows.size() % kUserRowBytes != 0) return ErrorStatus(Code::kCorrupt, "users of experiment", totals.name(), "are cut");
    for (const char* at = rows.data(); at != rows.data() + rows.size();) {
      const auto id = Take<std::uint64_t>(at);
      User user;
      user.arm = Take<std::uint32_t>(at);
      user.sessions = Take<std::uint32_t>(at);
      for (double& sum : user.sums) sum = Take<double>(at);
      const bool known = user.arm < static_cast<std::uint32_t>(totals.arms_size());
      if (!known || !experiment.users.emplace(id, user).second) {
        return ErrorStatus(Code::kCorrupt, "users of experiment", totals.name(), "name an unknown arm, or one user twice");
      }
    }
    for (const v1::ArmTotals& arm : totals.arms()) {
      if (arm.metrics_size() != kMetricCount) return ErrorStatus(Code::kCorrupt, "arm", arm.name(), "has other metrics");
    }
    users += experiment.users.size();
  }
  experiments_ = std::move(restored);
  users_ = users;
  order_ = order;
  left_out_ = state.left_out();
  return OkStatus();
}

}  // namespace fuseline
