#include "checkpoint.h"
#include "learner_impl.h"

namespace fuseline {

// The count is that of what this life has merged: a later life, or a replay, merges the same up to there.
Status Learner::Impl::WriteAct(v1::Act act) {
  if (!acts.acts().empty() && act.number() <= acts.acts().rbegin()->number()) return OkStatus();
  if (acts.acts_size() >= kActsMax) return ErrorStatus(Code::kInvalidInput, "the act log is full:", kActsMax);
  if (act.incumbent() != 0 && !actors.contains(act.incumbent())) {
    return ErrorStatus(Code::kNotFound, "the learner has no actor of version", act.incumbent(),
                       "any more (learner.keep_incumbents), it cannot become the incumbent");
  }
  act.set_trajectories(counts.trajectories());
  v1::ActLog with = acts;
  *with.add_acts() = act;
  FUSELINE_RETURN_IF_ERROR(WriteActs(folder, with));
  acts = std::move(with);
  log.Info("learner.act_logged", "number", act.number(), "incumbent", act.incumbent(), "holds", act.holds(), "trajectories",
           act.trajectories(), "who", act.who(), "why", act.why());
  return OkStatus();
}

Status Learner::Impl::ApplyDueActs() {
  while (ActDue()) {
    const v1::Act& act = acts.acts(static_cast<int>(acts_applied));
    if (act.trajectories() != counts.trajectories()) {
      return ErrorStatus(Code::kCorrupt, "the act log in", folder.string(), "has an act at", act.trajectories(),
                         "trajectories that the checkpoint, at", counts.trajectories(), ", does not know");
    }
    if (act.incumbent() != 0 && !actors.contains(act.incumbent()))
      return ErrorStatus(Code::kCorrupt, "the act log names version", act.incumbent(), "whose actor is not here");
    incumbent_holds = act.holds();
    SetIncumbent(act.incumbent());
    // What was accepted meanwhile is, or will be, what rankers serve.
    if (!incumbent_holds && !actors.empty() && actors.rbegin()->first > act.incumbent()) SetIncumbent(actors.rbegin()->first);
    ++acts_applied;
    log.Info("learner.act_applied", "number", act.number(), "incumbent", act.incumbent(), "trajectories", counts.trajectories());
  }
  return OkStatus();
}

void Learner::Impl::SetIncumbent(std::uint64_t version) {
  if (incumbents.back() == version) return;
  incumbents.push_back(version);
  SelectTransitions();
}

}  // namespace fuseline
