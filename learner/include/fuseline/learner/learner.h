#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/proto/event_time.h"  // kEndOfTimeMs: a progress mark of a finished partition.
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/policy.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// The figures of a scorer's version that say what BeginScorerFrom was given, and could measure by; absent: nothing.
inline constexpr const char* kScorerStartedFrom = "started_from";
inline constexpr const char* kScorerMeasuredFrom = "measured_from";

// Where the scorer stands that is learned beside the policy (setting scorer.learn). A function of the trajectories merged.
struct ScorerProgress {
  std::string phase;                // pretraining, critics, weighted training.
  std::uint64_t impressions = 0;    // Learned from.
  std::uint64_t held_back = 0;      // Of users who never train; the newest judge versions.
  std::uint64_t steps = 0;          // Of the plain model, those undone included.
  std::uint64_t steps_undone = 0;   // Of all models: something was not finite.
  std::uint64_t versions = 0;       // Made; the newest has this number.
  std::uint64_t versions_accepted = 0;

  // Since the last version.
  double critic_error = 0;          // Mean |TD error|.
  std::uint64_t progressive_impressions = 0;
  // Progressive validation: each impression is scored before it is learned from, by the plain model and by the one whose losses the
  // critics weigh. Area under the ROC curve, -1: a class is missing; log loss, mean in nats, 0: no impressions.
  struct Task {
    std::string task;
    double auc = -1, log_loss = 0;
    double weighted_auc = -1, weighted_log_loss = 0;
  };
  std::vector<Task> tasks;
  // Impressions left out, by reason: "schema", "rewards", "features", "feature_magnitude", "flushed_last".
  std::map<std::string, std::uint64_t> left_out;
};

// Where the learner stands. All but `waiting` are functions of the trajectories merged, and survive a restart.
struct LearnerProgress {
  std::uint64_t trajectories = 0;      // Merged: learned from, held back, or stubs.
  std::uint64_t held_back = 0;         // Of these: of users who never train; the gate judges by them.
  std::uint64_t stubs = 0;             // Of these: without steps, because they were too large.
  std::uint64_t transitions = 0;       // Put into the replay buffer, ever.
  std::uint64_t buffered = 0;          // In the replay buffer now.
  std::uint64_t steps = 0;             // Update steps, those undone included.
  std::uint64_t steps_undone = 0;      // Whose loss, gradient or result was not finite.
  std::uint64_t versions = 0;          // Made; the newest has this number.
  std::uint64_t versions_accepted = 0;
  std::uint64_t incumbent = 0;         // What rankers explore around: the newest accepted version, unless Act said otherwise; 0: the static weights.
  bool incumbent_holds = false;        // It stays the incumbent, whatever is accepted.
  std::int64_t learned_through_ms = 0; // Stream time of the last trajectory merged.

  double box_term_share = 0;           // Of the buffered transitions, mean since the last version: those that train the actor.
  double critic_loss = 0;              // Means since the last version.
  double actor_loss = 0;

  // Progressive validation since the last version: each session that will train, judged before it does. Weighted AUC of valid
  // consumption within the session, mean by weight, under the policy as it stood then, and under the static weights.
  std::uint64_t progressive_sessions = 0;  // With both classes.
  double progressive_gauc = 0;
  double progressive_gauc_static = 0;

  // Left out, by reason: "static_arm", "schema", "actions", "features", "feature_magnitude", "density", "rewards",
  // "items_over_limit" (items), "flushed_last", "truncated_last", "next_unusable", "empty" (requests); "reward_capped" counts
  // values that were cut, "session_reward_capped" items that earned nothing because their session had earned enough.
  std::map<std::string, std::uint64_t> left_out;

  std::optional<ScorerProgress> scorer;  // None: scorer.learn is false.

  std::uint64_t repeats = 0;           // Offered again and dropped, in this process.
  std::uint64_t repeats_differing = 0; // Of these: with other bytes than the first time. Somebody must look.
  std::uint64_t waiting = 0;           // Offered, not merged yet.
};

// Trajectories → a better fusion policy, and the evidence for it (EnhancedRL, arXiv 2409.11678). With scorer.learn also a scorer of the
// tasks that the policy fuses, from the same trajectories; its versions are policy versions of "NAME.scorer" (manifest.scorer).
//
// Where: after sessionizer, before policy_store. Owns the folder: weights, optimiser, replay buffer, names taken, versions
// not yet stored; all of it moves together, in one durable checkpoint.
// Deterministic: the merge order is a function of the logs alone, and updates, versions and checkpoints happen at counts. The
// same trajectories, settings and seed give bit-identical weights for one build, BLAS and thread count on the CPU, however
// often the process dies in between.
// Thread-compatible: one thread owns it. LibTorch's thread counts are those of the whole process.
// Cost: Offer O(bytes of the record); Advance at most kStepsPerAdvance update steps and those of the scorer, a gate and a checkpoint.
class Learner {
 public:
  static constexpr int kStepsPerAdvance = 16;

  // Restores the newest durable checkpoint in `folder`, or starts new. `build` goes into the lineage.
  // Under other settings, by another build or with another BLAS, thread count or device than before, the restored state is kept as a full
  // checkpoint, and a new regime begins in the lineage.
  // REQUIRES: the caller holds the folder's lock; log, metrics and clock outlive the learner.
  // Errors: kInvalidInput  settings that cannot be: learner.device=cuda without a GPU, or a checkpoint made for another schema,
  //                        seed or network (the message names the keys);
  //         kCorrupt       the checkpoint contradicts itself; kUnavailable: the disk.
  static Result<std::unique_ptr<Learner>> Open(const std::filesystem::path& folder, const v1::Config& config, std::string build,
                                               Log& log, Metrics& metrics, const Clock& clock);
  ~Learner();
  Learner(const Learner&) = delete;
  Learner& operator=(const Learner&) = delete;

  // Begins where `version` ended, without the state that made it: its actor and its normaliser, critics that know nothing, an empty
  // buffer, the names that it had taken, and a new root in the lineage. Durable when it returns. Before BeginInput.
  // Errors: kConflict      this learner has begun already;
  //         kInvalidInput  another schema, network or algorithm than the settings', or one that cannot begin so; kUnavailable: the disk.
  Status BeginFrom(const PolicyVersion& version);
  bool is_new() const;  // It has neither taken nor made anything.

  // The same of a scorer that is learned here from now on: it knows nothing, but begins behind the number `newest`, and what follows
  // must be no worse than `measure`, if any, to be accepted. Durable when it returns. Errors: kConflict, kInvalidInput, kUnavailable as
  // above.
  Status BeginScorerFrom(std::uint64_t newest, const PolicyVersion* measure);
  bool scorer_is_new() const;  // It is to be learned, and has neither taken nor made anything.

  // What is read from now on, in words; part of the lineage. Where something else was read before, the names taken from that are
  // closed: every partition begins anew, and the weights, the buffer and the counts go on. `from`: where its reader begins with it, in
  // words, if not at its beginning; remembered when the input is new. `history`: a warm start; what was served in it were no versions of
  // this lineage, whatever their numbers. Before ExpectPartitions.
  // Errors: kConflict while something that was offered waits to be merged.
  Status BeginInput(const std::string& input, const std::string& from = "", bool history = false);
  // Of the input that is read now, a partition of which nothing was taken may begin in the middle of its names. Before the first Offer.
  void BeginAnywhere();

  // The partitions are [0, count). Before the first Advance. The merge waits until each has shown a later stream time, by
  // a trajectory or a progress mark. Marks are not durable: after Open they are offered again, kEndOfTimeMs included.
  // REQUIRES: count >= 1.
  void ExpectPartitions(int count);

  // `see` is shown every trajectory that Advance merges, in merge order, before it is learned from; so is whoever asked before it.
  // Before the first Advance.
  void OnMerged(std::function<void(const v1::Trajectory&)> see);

  // Somebody else's state, in his words, that moves with the learner's: `save` is asked whenever a checkpoint is written, and says
  // what OnMerged has shown until then. `beside` is what the checkpoint that was restored held; empty: nothing. Before the first Advance.
  void RideAlong(std::function<std::string()> save);
  const std::string& beside() const;

  // Takes one record of a partition, in the partition's order. Exactly once by name: the predecessor must be the last name taken
  // from that partition; an earlier or equal name is a repeat and is dropped (with other bytes: an alarm).
  // Errors: kCorrupt       a gap, or a stream time earlier than promised: nothing is taken, the partition must stop;
  //         kInvalidInput  no name, or a partition that is not expected;
  //         kUnavailable   learner.queue_trajectories of the partition wait already: Advance, or bring what the merge waits for (a
  //                        later stream time of another partition), then offer it again.
  Status Offer(v1::TrajectoryRecord record);

  // Merges and trains, up to kStepsPerAdvance steps or the next version or checkpoint. Returns a version when one was made (also one
  // that the gate refused: manifest.gate tells); the durable checkpoint holds it as pending.
  // While a version is pending the learner trains on, but not past the step at which the next one is due. The scorer's versions are
  // returned and pending in the same way, beside the policy's; manifest.has_scorer() tells them apart.
  // Errors: kUnavailable (disk; state is unchanged or ahead of the disk, try again), kInternal.
  Result<std::optional<PolicyVersion>> Advance();

  // True when Advance would do nothing: no trajectory can be merged, or the next version waits for MarkStored.
  bool idle() const;

  // The version made and not yet marked as stored; after a restart byte for byte the same.
  std::optional<PolicyVersion> PendingVersion() const;

  // The archive has it, and Redis was told: it is no longer pending (durable with the next checkpoint).
  // Errors: kInvalidInput when that version is not pending.
  Status MarkStored(std::uint64_t version);

  // The same of the scorer.
  std::optional<PolicyVersion> PendingScorerVersion() const;
  Status MarkScorerStored(std::uint64_t version);

  // Something outside changed what rankers explore around: act.incumbent is the incumbent from now on, for the gate, for the actor's box
  // and as the next version's parent, and with act.holds stays so whatever the gate accepts. Durable when it returns. It takes
  // effect at the count that is written beside it, between two trajectories, so a life after a death and a replay apply it
  // there too. act.number grows; an act that is not newer than the last is a repeat and is dropped. act.trajectories is ignored.
  // Errors: kNotFound      the learner has no actor of that version any more (learner.keep_incumbents);
  //         kInvalidInput  kActsMax acts are in the log; kUnavailable: the disk. Nothing is changed then.
  static constexpr int kActsMax = 10'000;
  Status Act(v1::Act act);

  // Makes everything merged so far durable now, as at a clean shutdown. Never changes what is learned.
  Status Checkpoint();

  // The last name of each partition that the last durable checkpoint covers: the outbox may be acknowledged up to here.
  std::map<std::int32_t, v1::TrajectoryName> DurableNames() const;

  LearnerProgress progress() const;

  // What a version that is made now says of where it comes from.
  v1::Lineage lineage() const;

  // SHA-256, in hex, over all networks' parameters as they stand (actor, critics and their targets).
  std::string WeightsSha256() const;

 private:
  struct Impl;
  explicit Learner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What a version is derived again from: a full checkpoint, or nothing (all 0).
struct DerivationBase {
  std::uint64_t version = 0;       // The newest that had been made there.
  std::uint64_t trajectories = 0;  // Taken until there.
  std::uint64_t steps = 0;         // Done until there.
};

// Prepares the empty folder `to` for a learner that makes a version again, of the policy or of its scorer: the newest full checkpoint before
// it that `from`, the folder of a learner, has kept (which may go on meanwhile), and what acted on the version. Without such a checkpoint the learner begins from nothing.
// Errors: kUnavailable for the disk.
Result<DerivationBase> PrepareToDeriveAgain(const v1::PolicyManifest& version, const std::filesystem::path& from,
                                            const std::filesystem::path& to);

// What a learner of these settings would compute under in this process; where it begins is left open.
// Errors: kInvalidInput as Learner::Open, for settings that cannot be here.
Result<v1::Regime> RegimeHere(const v1::Config& config, const std::string& build);

// Whether sessions of this user are kept from training and judge versions at the gate. A function of the seed and the id alone.
bool IsHeldBack(const v1::Config& config, const std::string& user_id);

}  // namespace fuseline
