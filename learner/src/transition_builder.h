#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/normaliser.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/trajectory.pb.h"
#include "row_store.h"

namespace fuseline {

// In a row, of behaviour that was no version of this learner's lineage: nobody counts rounds since it.
inline constexpr std::uint64_t kForeignVersion = std::numeric_limits<std::uint64_t>::max();

// Under what a session is taken.
struct SessionTerms {
  SessionAllowance* allowance = nullptr;           // What its items may earn; null: learner.session_reward_cap.
  std::uint64_t newest_version = kForeignVersion;  // A behaviour version of a larger number is another lineage's.
};

// Session → rows, with account of what is left out (algorithms: terminated, truncated, flushed).
//   terminated  the last step is a transition without a next state
//   truncated   next_step is the last one's next state; without it the last step is left out
//   flushed     the last step is left out, as reward and next state
// An item that would take its session's rewards beyond learner.session_reward_cap earns nothing.
// A row has an action's learned dimensions. A request with other fixed biases than ours was ranked by another formula: left out.
// A step whose next state cannot be encoded is left out too: bootstrapping past it would be another problem's answer.
// Pure. Cost: O(items x columns).
class TransitionBuilder {
 public:
  // REQUIRES: PolicyRangesOf(config) is ok.
  TransitionBuilder(const v1::Config& config, const v1::FeatureSchema& schema);

  const RowLayout& layout() const { return layout_; }
  const FeatureEncoder& encoder() const { return encoder_; }

  struct Account {
    std::uint64_t transitions = 0;
    std::map<std::string, std::uint64_t> left_out;  // By reason, as in LearnerProgress.
  };

  // Appends the session's transitions and their next states. `statistics`, when given, sees each state that is learned from. What its
  // items earn is spent from `terms`.
  Account AppendTransitions(const v1::Trajectory& trajectory, RowStore& rows, NormaliserStatistics* statistics,
                            const SessionTerms& terms = {}) const;

  // Appends the session's judged requests, those of the static arm included; the first is a kSessionStart.
  // `kept`, when given, gets each row's step.
  Account AppendJudged(const v1::Trajectory& trajectory, RowStore& rows, std::vector<int>* kept = nullptr,
                       const SessionTerms& terms = {}) const;

  static std::uint64_t UserHash(const std::string& user_id);

 private:
  struct Encoded {
    bool state = false;      // Features, scores and baseline actions are in `row`.
    std::vector<std::byte> row;
  };
  Encoded Encode(const v1::Step& step, const SessionTerms& terms, Account& account) const;
  bool TakeAction(const google::protobuf::RepeatedField<float>& action, float* to) const;
  bool EncodeState(const v1::Exposure& exposure, const SessionTerms& terms, Row& row, Account& account) const;
  bool IsSane(const Row& row, std::size_t items) const;
  bool EncodeOutcome(const v1::Step& step, Row& row, SessionAllowance& allowance, Account& account) const;
  void Emit(const Encoded& encoded, std::uint32_t flags, bool outcome, std::uint64_t user, RowStore& rows) const;
  void AddStatistics(const Encoded& encoded, NormaliserStatistics& statistics) const;

  v1::Config config_;
  std::string schema_digest_;
  FeatureEncoder encoder_;
  ActionSpace space_;
  RowLayout layout_;
  RewardSpec reward_spec_;
};

}  // namespace fuseline
