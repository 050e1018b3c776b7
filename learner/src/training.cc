#include <algorithm>
#include <cmath>
#include <limits>

#include "learner_impl.h"

namespace fuseline {

Status Learner::Impl::Absorb(const v1::Trajectory& trajectory) {
  for (const auto& see : see_merged) see(trajectory);
  counts.set_trajectories(counts.trajectories() + 1);
  counts.set_learned_through_ms(trajectory.stream_time_ms());
  trajectories_total.Increment();
  if (!trajectory.stub_reason().empty()) return counts.set_stubs(counts.stubs() + 1), OkStatus();
  if (scorer) FUSELINE_RETURN_IF_ERROR(scorer->Take(trajectory, IsHeldBack(config, trajectory.user_id())));

  const bool frozen = counts.transitions_at_warmup() > 0;
  TransitionBuilder::Account account;
  const std::uint64_t user = TransitionBuilder::UserHash(trajectory.user_id());
  SessionAllowance allowance = guard.Allow(user, trajectory.stream_time_ms());
  // Versions have numbers alone. What was explored around one that is not made yet was explored around another lineage's; so was, in a
  // history that was made before this learner, everything that was not the static weights.
  const bool history = !inputs.empty() && inputs.back().history();
  const SessionTerms terms{.allowance = &allowance, .newest_version = history ? 0 : counts.versions()};
  if (IsHeldBack(config, trajectory.user_id())) {
    counts.set_held_back(counts.held_back() + 1);
    account = builder.AppendJudged(trajectory, held_out.rows(), nullptr, terms);
    held_out.Index();
  } else {
    const std::uint64_t first_row = replay.rows().end_row();
    account = builder.AppendTransitions(trajectory, replay.rows(), frozen ? nullptr : &statistics, terms);
    FUSELINE_RETURN_IF_ERROR(ScoreProgressively(first_row));
    replay.Index();
  }
  guard.Note(user, trajectory, allowance);
  counts.set_transitions(counts.transitions() + account.transitions);
  transitions_total.Increment(static_cast<double>(account.transitions));
  for (const auto& [reason, number] : account.left_out) (*counts.mutable_left_out())[reason] += number;

  if (frozen || counts.transitions() < Unsigned(config.learner().warmup_transitions())) return OkStatus();
  counts.set_transitions_at_warmup(counts.transitions());
  if (started_from == 0) normaliser = statistics.Finish();  // Else the actor is bound to the one that it came with.
  return OkStatus();
}

// floor(transitions since warm-up x rate) - steps, the rate in millionths: from the counts alone, so that nothing drifts.
std::uint64_t Learner::Impl::StepsOwed() const {
  if (counts.transitions_at_warmup() == 0) return 0;
  constexpr std::uint64_t kMillion = 1'000'000;
  const auto millionths = Unsigned(std::llround(config.learner().steps_per_transition() * static_cast<double>(kMillion)));
  const std::uint64_t taken = counts.transitions() - counts.transitions_at_warmup();
  std::uint64_t due = taken / kMillion * millionths + taken % kMillion * millionths / kMillion;
  if (const std::uint64_t most = Unsigned(config.learner().max_steps()); most > 0) due = std::min(due, most);
  return due > counts.steps() ? due - counts.steps() : 0;
}

// How many baselines of exploration followed `version`; no end of them where it never was one.
std::uint64_t Learner::Impl::RoundsSince(std::uint64_t version) const {
  const auto last = std::find(incumbents.rbegin(), incumbents.rend(), version);
  return last == incumbents.rend() ? std::numeric_limits<std::uint64_t>::max() : static_cast<std::uint64_t>(last - incumbents.rbegin());
}

// Explored around the incumbent or one at most box_rounds before it: an older baseline's box would nail the policy to it.
bool Learner::Impl::TrainsActor(const ConstRow& row) const {
  if (!row.is(kHasDensity)) return config.learner().anchor_on_static();
  return RoundsSince(row.header->behaviour_version) <= Unsigned(config.learner().box_rounds());
}

// What a transition still counts. The static arm follows no baseline, so nothing of it grows stale; nor what is explored around the
// static action, of an algorithm that goes on doing so.
float Learner::Impl::FreshnessOf(const ConstRow& row) const {
  const std::uint64_t limit = Unsigned(config.learner().max_staleness_versions());
  if (limit == 0 || !row.is(kHasDensity) || (traits.around_static && row.header->behaviour_version == 0)) return 1;
  const std::uint64_t rounds = RoundsSince(row.header->behaviour_version);
  if (rounds <= limit) return 1;
  return StaleWeight(rounds - limit, config.learner().stale_weight());
}

SamplingRule Learner::Impl::SamplingRuleOf(const v1::Learner& settings) {
  return {.prioritised = settings.replay() == "prioritised",
          .exponent = settings.priority_exponent(),
          .correction = settings.priority_correction()};
}

// To be called whenever what TrainsActor and FreshnessOf say may have changed.
void Learner::Impl::SelectTransitions() {
  replay.Select([this](const ConstRow& row) { return TransitionUse{TrainsActor(row), FreshnessOf(row)}; });
}

Status Learner::Impl::Step() {
  const Sampling sampling{.seed = config.fuseline().seed(),
                          .step = counts.steps(),
                          .count = static_cast<std::size_t>(sizes.batch),
                          .per_request = traits.per_request};
  const bool actor_due = sampling.step >= Unsigned(config.learner().actor_delay_steps());
  counts.set_steps(counts.steps() + 1);
  steps_total.Increment();
  if (replay.fresh() == 0) return OkStatus();  // All is stale: the count goes on, so that versions do.
  replay.Sample(sampling, normaliser, rewards, batch);
  if (actor_due && traits.boxed) replay.SampleForActor(sampling, normaliser, rewards, actor_batch);
  const TransitionBatch& for_actor = actor_due && !traits.boxed ? batch : actor_batch;
  FUSELINE_ASSIGN_OR_RETURN(const StepFigures figures, algorithm->Step(batch, for_actor, sampling.step));
  if (figures.undone) {
    counts.set_steps_undone(counts.steps_undone() + 1);
    undone_total.Increment();
    log.Error("learner.step_undone", "step", counts.steps(), "undone", counts.steps_undone());
    return OkStatus();
  }
  replay.Learned(figures.td_error);
  counts.set_window_steps(counts.window_steps() + 1);
  counts.set_window_box_share(counts.window_box_share() + replay.actor_share());
  counts.set_window_critic_loss(counts.window_critic_loss() + figures.critic_loss);
  if (figures.actor_moved) {
    counts.set_window_actor_steps(counts.window_actor_steps() + 1);
    counts.set_window_actor_loss(counts.window_actor_loss() + figures.actor_loss);
  }
  return OkStatus();
}

}  // namespace fuseline
