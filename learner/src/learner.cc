#include "fuseline/learner/learner.h"

#include <algorithm>
#include <utility>

#include "checkpoint.h"
#include "fuseline/core/file.h"
#include "fuseline/core/random.h"
#include "learner_impl.h"

namespace fuseline {
namespace {

constexpr int kTrajectoriesPerAdvance = 256;
constexpr const char* kFrom = ", from ";  // Between an input and where its reader began.
constexpr double kSlowSgemmGflops = 8;  // Netlib's reference BLAS stays below 4, a real one starts at 20.

}  // namespace

Result<std::unique_ptr<Learner>> Learner::Open(const std::filesystem::path& folder, const v1::Config& config, std::string build,
                                               Log& log, Metrics& metrics, const Clock& clock) {
  const v1::FeatureSchema schema = SchemaOf(config);
  FUSELINE_FAIL_IF_ERROR(ValidateSchema(schema));
  FUSELINE_ASSIGN_OR_FAIL(v1::ActionRanges ranges, PolicyRangesOf(config));
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, ActionSpace::Create(ranges));
  TransitionBuilder builder(config, schema);
  const Problem problem = ProblemOf(builder.encoder(), space);
  FUSELINE_ASSIGN_OR_FAIL(auto algorithm, CreateAlgorithm(config, problem));
  const ComputeFacts& facts = algorithm->facts();
  log.Info("learner.compute_chosen", "device", facts.device, "blas", facts.blas, "threads", facts.threads, "sgemm_gflops",
           facts.sgemm_gflops);
  if (facts.sgemm_gflops > 0 && facts.sgemm_gflops < kSlowSgemmGflops)
    log.Warn("learner.blas_slow", "blas", facts.blas, "sgemm_gflops", facts.sgemm_gflops, "hint",
             "a reference BLAS trains 20 times slower: install OpenBLAS (openmp), or the pinned LibTorch");

  FUSELINE_FAIL_IF_ERROR(MakeFolders(folder));
  FUSELINE_ASSIGN_OR_FAIL(v1::ActLog acts, ReadActs(folder));
  auto impl = std::make_unique<Impl>(folder, config, std::move(build), std::move(ranges), std::move(space), std::move(algorithm),
                                     std::move(builder), log, metrics, clock);
  impl->acts = std::move(acts);
  if (config.scorer().learn()) {
    FUSELINE_ASSIGN_OR_FAIL(impl->scorer, ScorerStream::Create(config, log, metrics));
  }
  const auto checkpoint = ReadCheckpoint(folder);
  if (!checkpoint && checkpoint.error().code != Code::kNotFound) return tl::unexpected(checkpoint.error());
  FUSELINE_FAIL_IF_ERROR(checkpoint ? impl->Restore(*checkpoint) : impl->StartNew());
  FUSELINE_FAIL_IF_ERROR(impl->EnterRegime(checkpoint.value_or(v1::LearnerCheckpoint())));
  return std::unique_ptr<Learner>(new Learner(std::move(impl)));
}

Learner::Learner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Learner::~Learner() = default;

bool IsHeldBack(const v1::Config& config, const std::string& user_id) {
  Random draw(config.fuseline().seed(), "holdout", TransitionBuilder::UserHash(user_id));
  return draw.NextUniform() < config.learner().holdout_share();
}

void Learner::OnMerged(std::function<void(const v1::Trajectory&)> see) { impl_->see_merged.push_back(std::move(see)); }

bool Learner::is_new() const { return impl_->counts.trajectories() == 0 && impl_->counts.versions() == 0; }

Status Learner::BeginFrom(const PolicyVersion& version) {
  if (!is_new() || !impl_->inputs.empty()) return ErrorStatus(Code::kConflict, "the learner in", impl_->folder.string(), "has begun already");
  FUSELINE_RETURN_IF_ERROR(impl_->Adopt(version));
  return impl_->Checkpoint();
}

bool Learner::scorer_is_new() const { return impl_->scorer && impl_->scorer->is_new(); }

Status Learner::BeginScorerFrom(std::uint64_t newest, const PolicyVersion* measure) {
  if (!scorer_is_new()) return ErrorStatus(Code::kConflict, "no scorer is learned in", impl_->folder.string(), "or it has begun already");
  FUSELINE_RETURN_IF_ERROR(impl_->scorer->Adopt(newest, measure));
  return impl_->Checkpoint();
}

Status Learner::BeginInput(const std::string& input, const std::string& from, bool history) {
  Impl& impl = *impl_;
  const auto is_known = [&](const std::string& known) { return known == input || known.starts_with(input + kFrom); };
  if (!impl.inputs.empty() && is_known(impl.inputs.back().input())) return OkStatus();
  if (impl.merge.waiting() > 0)
    return ErrorStatus(Code::kConflict, "trajectories of the former input wait to be merged:", impl.merge.waiting());
  if (!impl.inputs.empty()) {
    for (const v1::PartitionPosition& position : impl.merge.Positions()) *impl.inputs.back().add_names_taken() = position.last();
    impl.merge.Restart();
    impl.durable.clear();
  }
  v1::LearnedInput& begun = impl.inputs.emplace_back();
  begun.set_input(from.empty() ? input : input + kFrom + from);
  begun.set_first_trajectory(impl.counts.trajectories());
  begun.set_history(history);
  return OkStatus();
}

void Learner::BeginAnywhere() { impl_->merge.BeginAnywhere(); }

Status Learner::Act(v1::Act act) { return impl_->WriteAct(std::move(act)); }

v1::Lineage Learner::lineage() const { return impl_->MakeLineage(); }

void Learner::ExpectPartitions(int count) { impl_->merge.ExpectPartitions(count); }

void Learner::RideAlong(std::function<std::string()> save) { impl_->save_beside = std::move(save); }

const std::string& Learner::beside() const { return impl_->beside; }

Status Learner::Offer(v1::TrajectoryRecord record) {
  if (record.has_trajectory()) return impl_->merge.Offer(std::move(*record.mutable_trajectory()));
  if (record.has_progress()) return impl_->merge.Offer(record.progress());
  return ErrorStatus(Code::kInvalidInput, "record is neither trajectory nor progress mark");
}

Result<std::optional<PolicyVersion>> Learner::Advance() {
  Impl& impl = *impl_;
  int steps = 0, trajectories = 0;
  while (!impl.Unsaved()) {
    if (impl.StepsOwed() > 0) {
      if (!impl.MayStep() || steps++ == kStepsPerAdvance) return std::nullopt;
      FUSELINE_FAIL_IF_ERROR(impl.Step());
      if (impl.counts.steps() % Unsigned(impl.config.learner().version_every_steps()) == 0)
        FUSELINE_FAIL_IF_ERROR(impl.MakeVersion());
      continue;
    }
    if (impl.ScorerWaits()) return std::nullopt;
    if (impl.ScorerVersionDue()) {
      FUSELINE_FAIL_IF_ERROR(impl.scorer->MakeVersion(impl.MakeLineage(), impl.counts.versions(), impl.clock.wall_ms()));
      impl.unsaved_scorer = true;
      continue;
    }
    FUSELINE_FAIL_IF_ERROR(impl.ApplyDueActs());
    if (impl.CheckpointDue()) {
      FUSELINE_FAIL_IF_ERROR(impl.Checkpoint());
      return std::nullopt;
    }
    const auto partition = impl.merge.Ready();
    if (!partition || trajectories++ == kTrajectoriesPerAdvance) return std::nullopt;
    FUSELINE_FAIL_IF_ERROR(impl.Absorb(impl.merge.Take(*partition)));
  }
  const bool of_scorer = impl.unsaved_scorer;
  FUSELINE_FAIL_IF_ERROR(impl.Checkpoint());  // Only what a durable checkpoint holds may leave.
  return of_scorer ? impl.scorer->pending() : impl.pending;
}

bool Learner::idle() const { return impl_->Idle(); }

std::optional<PolicyVersion> Learner::PendingVersion() const {
  return impl_->unsaved_version ? std::nullopt : impl_->pending;
}

Status Learner::MarkStored(std::uint64_t version) {
  if (!impl_->pending || impl_->unsaved_version || impl_->pending->manifest.version() != version)
    return ErrorStatus(Code::kInvalidInput, "no such version is pending:", version);
  impl_->pending.reset();
  return OkStatus();
}

std::optional<PolicyVersion> Learner::PendingScorerVersion() const {
  return !impl_->scorer || impl_->unsaved_scorer ? std::nullopt : impl_->scorer->pending();
}

Status Learner::MarkScorerStored(std::uint64_t version) {
  const auto pending = PendingScorerVersion();
  if (!pending || pending->manifest.version() != version)
    return ErrorStatus(Code::kInvalidInput, "no such version of the scorer is pending:", version);
  impl_->scorer->MarkStored();
  return OkStatus();
}

Status Learner::Checkpoint() { return impl_->Checkpoint(); }

std::map<std::int32_t, v1::TrajectoryName> Learner::DurableNames() const { return impl_->durable; }

LearnerProgress Learner::progress() const {
  const v1::LearnerCounts& counts = impl_->counts;
  const double steps = std::max<double>(1, static_cast<double>(counts.window_steps()));
  return {.trajectories = counts.trajectories(),
          .held_back = counts.held_back(),
          .stubs = counts.stubs(),
          .transitions = counts.transitions(),
          .buffered = impl_->replay.size(),
          .steps = counts.steps(),
          .steps_undone = counts.steps_undone(),
          .versions = counts.versions(),
          .versions_accepted = impl_->versions_accepted,
          .incumbent = impl_->incumbents.back(),
          .incumbent_holds = impl_->incumbent_holds,
          .learned_through_ms = counts.learned_through_ms(),
          .box_term_share = counts.window_box_share() / steps,
          .critic_loss = counts.window_critic_loss() / steps,
          .actor_loss = counts.window_actor_loss() / std::max<double>(1, static_cast<double>(counts.window_actor_steps())),
          .progressive_sessions = counts.window_progressive_sessions(),
          .progressive_gauc = impl_->ProgressiveGauc(),
          .progressive_gauc_static = impl_->ProgressiveGaucStatic(),
          .left_out = {counts.left_out().begin(), counts.left_out().end()},
          .scorer = impl_->scorer ? std::optional(impl_->scorer->progress()) : std::nullopt,
          .repeats = impl_->merge.repeats(),
          .repeats_differing = impl_->merge.repeats_differing(),
          .waiting = impl_->merge.waiting()};
}

std::string Learner::WeightsSha256() const { return impl_->algorithm->WeightsSha256(); }

}  // namespace fuseline
