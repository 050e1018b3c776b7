#include "gate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>

#include "evaluation.h"
#include "replay_buffer.h"

namespace fuseline {
namespace {

constexpr std::size_t kDeviationPairs = 4096;  // Enough for a mean; more would cost as much as many updates.

// Held-out requests with the policies' actions, one after another.
struct Evidence {
  std::vector<ConstRow> rows;
  std::vector<std::size_t> first_pair;  // Of each row.
  std::vector<std::size_t> session;     // Of each row.
  std::vector<float> states, candidate, incumbent, fixed;
  std::size_t sessions = 0;
};

Result<Evidence> Gather(const Normaliser& normaliser, const RowStore& held_out, const GateSubjects& subjects) {
  const RowLayout& layout = held_out.layout();
  const std::size_t width = layout.shared + layout.item;
  Evidence evidence;
  for (std::uint64_t number = held_out.first_row(); number < held_out.end_row(); ++number) {
    const ConstRow row = held_out.At(number);
    evidence.sessions += row.is(kSessionStart) ? 1 : 0;
    evidence.rows.push_back(row);
    evidence.session.push_back(evidence.sessions);
    evidence.first_pair.push_back(evidence.states.size() / width);
    evidence.states.resize(evidence.states.size() + row.header->items * width);
    NormalisedStates(layout, row, normaliser, evidence.states.data() + evidence.first_pair.back() * width);
  }
  if (evidence.rows.empty()) return evidence;
  FUSELINE_ASSIGN_OR_FAIL(evidence.candidate, subjects.candidate(evidence.states));
  FUSELINE_ASSIGN_OR_FAIL(evidence.incumbent, subjects.incumbent(evidence.states));
  FUSELINE_ASSIGN_OR_FAIL(evidence.fixed, subjects.fixed(evidence.states));
  return evidence;
}

class Judge {
 public:
  Judge(const v1::Config& config, const ActionSpace& space, const RowLayout& layout, const Evidence& evidence)
      : gate_(config.gate()), layout_(layout), evidence_(evidence), rows_(config, space, layout) {}

  // What is not finite can be compared to nothing: no other check is made then.
  bool CheckFinite(bool finite) {
    if (!finite) Refuse("a tensor is not finite");
    if (!std::ranges::all_of(evidence_.candidate, [](float action) { return std::isfinite(action); })) {
      finite = false;
      Refuse("an action is not finite");
    }
    return finite;
  }

  void CheckBox(const std::function<bool(const ConstRow&)>& in_round) {
    constexpr std::array kEdges{0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 2.0};
    std::array<double, kEdges.size()> bins{};
    double outside = 0, total = 0;
    for (std::size_t r = 0; r < evidence_.rows.size(); ++r) {
      const ConstRow& row = evidence_.rows[r];
      if (!in_round(row)) continue;
      for (std::size_t i = 0; i < row.header->items * layout_.action; ++i) {
        const double offset = evidence_.candidate[evidence_.first_pair[r] * layout_.action + i] - row.baseline[i];
        outside += offset < row.header->box_lower - 1e-6 || offset > row.header->box_upper + 1e-6 ? 1 : 0;
        ++bins[std::min<std::size_t>(static_cast<std::size_t>(std::ranges::lower_bound(kEdges, std::abs(offset)) - kEdges.begin()),
                                     bins.size() - 1)];
        ++total;
      }
    }
    if (total == 0) return Skip("box: no held-back request explored around a baseline of this round");
    auto& figures = *verdict_.mutable_figures();
    figures["outside_share"] = outside / total;
    for (std::size_t i = 0; i < bins.size(); ++i) {
      char name[32];
      std::snprintf(name, sizeof(name), "distance_to_%.2f", kEdges[i]);
      figures[name] = bins[i] / total;
    }
    if (outside / total > gate_.max_outside_share()) Refuse("box: outside_share above gate.max_outside_share");
  }

  Status CheckDeviation(const GateSubjects& subjects) {
    if (evidence_.rows.empty()) return Skip("ensemble: no held-back request"), OkStatus();
    const std::size_t width = layout_.shared + layout_.item;
    const std::size_t pairs = evidence_.states.size() / width, stride = (pairs + kDeviationPairs - 1) / kDeviationPairs;
    std::vector<float> states, actions;
    for (std::size_t pair = 0; pair < pairs; pair += stride) {
      states.insert(states.end(), &evidence_.states[pair * width], &evidence_.states[pair * width] + width);
      actions.insert(actions.end(), &evidence_.candidate[pair * layout_.action],
                     &evidence_.candidate[pair * layout_.action] + layout_.action);
    }
    FUSELINE_ASSIGN_OR_RETURN(const auto deviation, subjects.deviation(states, actions));
    for (std::size_t group = 0; group < deviation.size(); ++group) {
      const char* const name = deviation.size() == 1 ? "deviation" : group == 0 ? "deviation_engagement" : "deviation_watch";
      (*verdict_.mutable_figures())[name] = deviation[group];
      if (!(deviation[group] <= gate_.max_ensemble_deviation())) Refuse("ensemble: deviation above gate.max_ensemble_deviation");
    }
    return OkStatus();
  }

  void CheckGauc() {
    if (TooFewSessions("gauc")) return;
    const RankingQuality candidate = JudgeRanking(Pairs(evidence_.candidate)), incumbent = JudgeRanking(Pairs(evidence_.incumbent)),
                         fixed = JudgeRanking(Pairs(evidence_.fixed));
    auto& figures = *verdict_.mutable_figures();
    figures["gauc_users"] = static_cast<double>(candidate.users_used);
    figures["gauc_skipped_users"] = static_cast<double>(candidate.users_skipped);
    if (!candidate.gauc || !incumbent.gauc || !fixed.gauc) return Lack("gauc: no user has both classes");
    figures["gauc"] = candidate.gauc->value;
    figures["gauc_incumbent"] = incumbent.gauc->value;
    figures["gauc_static"] = fixed.gauc->value;
    if (candidate.gauc->value < incumbent.gauc->value - gate_.gauc_tolerance()) Refuse("gauc: below the incumbent's");
    if (candidate.gauc->value < fixed.gauc->value - gate_.static_gauc_tolerance())
      Refuse("gauc: below the floor, the static weights' less gate.static_gauc_tolerance");
  }

  void CheckNcis() {
    if (TooFewSessions("ncis")) return;
    const auto mine = Requests(evidence_.candidate), theirs = Requests(evidence_.incumbent), fixed = Requests(evidence_.fixed);
    if (mine.empty()) return Lack("ncis: no held-back request has a behaviour density");
    const NcisResult candidate = Ncis(mine, gate_.ncis_cap()), incumbent = Ncis(theirs, gate_.ncis_cap()),
                     floor = Ncis(fixed, gate_.ncis_cap());
    auto& figures = *verdict_.mutable_figures();
    figures["ncis"] = candidate.reward.value;
    figures["ncis_lower"] = candidate.lower;
    figures["ncis_effective"] = candidate.effective;
    figures["ncis_capped_share"] = candidate.capped_share;
    figures["ncis_incumbent"] = incumbent.reward.value;
    figures["ncis_incumbent_lower"] = incumbent.lower;
    figures["ncis_incumbent_effective"] = incumbent.effective;
    figures["ncis_static"] = floor.reward.value;
    figures["ncis_static_lower"] = floor.lower;
    figures["ncis_static_effective"] = floor.effective;
    if (std::min(candidate.effective, incumbent.effective) < gate_.ncis_min_effective()) {
      Lack("ncis: effective sample below gate.ncis_min_effective");
    } else if (FarBelow(candidate, incumbent, gate_.ncis_tolerance())) {
      Refuse("ncis: lower confidence bound below the incumbent's");
    }
    if (std::min(candidate.effective, floor.effective) < gate_.ncis_min_effective()) {
      Skip("ncis floor: effective sample below gate.ncis_min_effective");
    } else if (FarBelow(candidate, floor, gate_.static_ncis_tolerance())) {
      Refuse("ncis: lower confidence bound below the floor, the static weights' less gate.static_ncis_tolerance");
    }
  }

  v1::GateVerdict Verdict() {
    (*verdict_.mutable_figures())["sessions"] = static_cast<double>(evidence_.sessions);
    verdict_.set_passed(!refused_);
    return verdict_;
  }

 private:
  void Refuse(const std::string& reason) {
    refused_ = true;
    verdict_.add_reasons(reason);
  }
  void Skip(const std::string& reason) { verdict_.add_reasons("skipped " + reason); }
  // Of a comparison with the incumbent that cannot be made.
  void Lack(const std::string& reason) {
    if (gate_.without_evidence() != "refuse") return Skip(reason);
    Refuse("no evidence: " + reason + " (gate.without_evidence)");
  }

  static bool FarBelow(const NcisResult& candidate, const NcisResult& other, double tolerance) {
    return candidate.lower < other.lower - tolerance * std::abs(other.reward.value);
  }

  bool TooFewSessions(const std::string& check) {
    const bool few = evidence_.sessions < static_cast<std::size_t>(gate_.min_sessions());
    if (few) Lack(check + ": fewer held-back sessions than gate.min_sessions");
    return few;
  }

  std::span<const float> ActionsOf(const std::vector<float>& actions, std::size_t row) const {
    return std::span(actions).subspan(evidence_.first_pair[row] * layout_.action,
                                      evidence_.rows[row].header->items * layout_.action);
  }

  std::vector<ScoredPair> Pairs(const std::vector<float>& actions) const {
    std::vector<ScoredPair> pairs;
    for (std::size_t r = 0; r < evidence_.rows.size(); ++r) rows_.AddPairs(evidence_.rows[r], ActionsOf(actions, r), pairs);
    return pairs;
  }

  std::vector<LoggedRequest> Requests(const std::vector<float>& actions) const {
    std::vector<LoggedRequest> requests;
    for (std::size_t r = 0; r < evidence_.rows.size(); ++r) {
      const ConstRow& row = evidence_.rows[r];
      const auto kernel = rows_.KernelOf(row, ActionsOf(actions, r));
      if (kernel && kernel->common) requests.push_back({evidence_.session[r], rows_.LogRatio(row, *kernel), rows_.RewardOf(row)});
    }
    return requests;
  }

  const v1::Gate& gate_;
  const RowLayout& layout_;
  const Evidence& evidence_;
  const RowJudge rows_;
  v1::GateVerdict verdict_;
  bool refused_ = false;
};

}  // namespace

Result<v1::GateVerdict> JudgeVersion(const v1::Config& config, const ActionSpace& space, const Normaliser& normaliser,
                                     const RowStore& held_out, const GateSubjects& subjects) {
  FUSELINE_ASSIGN_OR_FAIL(const Evidence evidence, Gather(normaliser, held_out, subjects));
  Judge judge(config, space, held_out.layout(), evidence);
  if (!judge.CheckFinite(subjects.finite)) return judge.Verdict();
  judge.CheckBox(subjects.in_round);
  FUSELINE_FAIL_IF_ERROR(judge.CheckDeviation(subjects));
  judge.CheckGauc();
  judge.CheckNcis();
  return judge.Verdict();
}

}  // namespace fuseline
