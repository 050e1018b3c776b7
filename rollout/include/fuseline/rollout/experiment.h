#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/rollout/assignment.h"
#include "fuseline/v1/rollout.pb.h"

namespace fuseline {

inline constexpr std::uint32_t kWholeShare = 10'000;    // Shares and coverages are counted in 1/10,000.
inline constexpr int kArmsMax = 20;
inline constexpr int kExperimentShadowsMax = 16;        // As many as an exposure may carry.
inline constexpr int kHistoryMax = 200;                 // Changes of one experiment.
inline constexpr std::uint32_t kRampStages[] = {100, 500, 1'000, 2'500, 5'000, 10'000};

// Errors: kInvalidInput, naming the field, for what experiments cannot be: names that are empty, double or longer than 128 bytes, shares that do
// not sum to 10,000, an arm that serves nothing, a coverage beyond 10,000, an unknown hash version, an impossible guardrail.
Status ValidateExperiment(const v1::Experiment& experiment);

// Everybody in one of two arms: `static`, the hand-set weights as they are, for a share of the users in [0, 1], and `learning`, what is live
// with exploration, for the others.
v1::Experiment LearningBesideStatic(const std::string& name, double static_share);

// Whether users are in its arms: it runs, or is paused.
bool IsServing(const v1::Experiment& experiment);

// The next stage of the ramp after its coverage; the coverage itself at the end.
std::uint32_t NextStage(const v1::Experiment& experiment);

// The experiment after a change: state and coverage, with the next revision and a line in its history.
// Errors: kConflict for a coverage that shrinks or a state that has ended; kInvalidInput for a coverage beyond 10,000, or a full history.
Result<v1::Experiment> Changed(v1::Experiment experiment, v1::Experiment::State state, std::uint32_t coverage, std::string_view who,
                               std::string_view why, std::int64_t wall_ms);

// Whether `a` is further along than `b`: one experiment at two times. It has ended and the other has not; or else it lets more users in; or else its
// revision is greater. Along one history this is the order of revisions. A failover that loses the newest ones may make two histories;
// then what cannot be undone decides: what has ended stays so, and a coverage never shrinks.
bool IsFurther(const v1::Experiment& a, const v1::Experiment& b);

// Whether a user may be in both: unless they take disjoint parts of one namespace. Coverages are not looked at, since they grow: so no ramp of
// one of two experiments that share nobody ever reaches a user of the other.
bool MayShareUsers(const v1::Experiment& a, const v1::Experiment& b);

// Which arm of an experiment a user is in. Immutable; thread-safe; Choose allocates nothing.
class ArmChooser {
 public:
  // Errors: as ValidateExperiment.
  static Result<ArmChooser> Create(const v1::Experiment& experiment);

  int Choose(std::string_view user_id) const;  // Index of the arm, or kNoArm. Sticky.
  double Bucket(std::string_view user_id) const { return BucketOf(user_id, salt_, version_); }
  std::span<const BucketRange> ranges() const { return ranges_; }
  bool IsWithin(std::string_view user_id) const { return namespace_.empty() || IsInNamespace(user_id, namespace_, part_); }

 private:
  ArmChooser() = default;
  std::string salt_, namespace_;
  BucketRange part_;
  HashVersion version_ = HashVersion::kTwo;
  std::vector<BucketRange> ranges_;
};

// The share of each arm among the users that a coverage lets in: counted in buckets, so it is exact where ranges are narrow.
// Coverage 0, of an exposure that does not tell it: the arms' shares. REQUIRES: a valid experiment.
std::vector<double> ExpectedShares(const v1::Experiment& experiment, std::uint32_t coverage);

}  // namespace fuseline
