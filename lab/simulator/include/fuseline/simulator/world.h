#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/action_space.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/simulator/rank_service.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline {

// What one user would truly do with one item, before any error of prediction.
struct TrueResponse {
  double click = 0;         // Probability.
  double valid = 0;         // Probability that it is watched longer than rewards.valid_watch_ms.
  double watch_s = 0;       // Expected seconds, 0 where it is not clicked.
  double like = 0;          // Probability.
  double share = 0;         // Probability.
  double reward = 0;        // Expected reward, both groups, as `rewards` weighs them.
  double satisfaction = 0;  // Expected change of the user's satisfaction: what keeps a session going.
};

// What one user did with one item.
struct Response {
  bool click = false;
  bool valid = false;
  bool complete = false;
  bool like = false;
  bool share = false;
  bool comment = false;
  bool follow = false;
  std::int64_t watch_ms = 0;
  double reward = 0;        // As `rewards` weighs them.
  double satisfaction = 0;
};

// Where a user stands between two requests. Kept by the simulation, read and changed by the world alone.
struct Mood {
  double satisfaction = 0;   // In the world's own unit.
  std::uint32_t depth = 0;   // Requests of the session so far.
};

// What a user does after a request: the next one `wait_ms` after its end, in the same session or, having left, in another.
struct NextVisit {
  bool leaves = false;
  std::int64_t wait_ms = 0;
};

// What every world states of itself.
struct WorldFacts {
  std::string name;
  std::uint64_t seed = 0;
  std::size_t users = 0, items = 0;
  std::vector<std::string> user_ids, item_ids;  // As events name them, distinct; empty: "u17" and "i17".
  std::size_t candidates = 0, exposed = 0;  // Of a request.
  double feedback_missing = 0;              // Share of feedback that never arrives.
  v1::FeatureSchema schema;                 // Features and tasks as its rankers meet them.
  v1::Policy policy;                        // Ranges of powers and biases and the hand-set weights; no more of it is read.
  std::optional<v1::Rewards> rewards;       // Where the world's own rewards stand in for the caller's.
};

// Context features of a request, in schema order.
struct RequestContext {
  std::vector<float> dense;
  std::vector<std::uint64_t> ids;

  FeatureView view() const { return {dense, ids}; }
};

// A catalogue and a population with hidden tastes; docs/simulator.md says what each world models and what it does not.
//
// Where: under Simulation, which lets its users act. A ranker sees of it only features and task scores; truth is for
// users, oracles and tests. Everything is a pure function of the world's file, the rewards and the seed, and every draw of
// (seed, purpose, counter): the same decisions meet the same users. Nothing outside lab/ may ask which world runs.
// Immutable once made; thread-safe.
class World {
 public:
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  virtual ~World();

  const std::string& name() const { return facts_.name; }
  std::uint64_t seed() const { return facts_.seed; }
  std::size_t user_count() const { return facts_.users; }
  std::size_t item_count() const { return facts_.items; }
  std::size_t candidate_count() const { return facts_.candidates; }
  std::size_t exposed_count() const { return facts_.exposed; }
  double feedback_missing() const { return facts_.feedback_missing; }
  const v1::FeatureSchema& schema() const { return facts_.schema; }
  const std::string& schema_digest() const { return schema_digest_; }
  const v1::Policy& policy() const { return facts_.policy; }
  const std::optional<v1::Rewards>& rewards() const { return facts_.rewards; }
  const ActionSpace& action_space() const { return action_space_; }  // Of `policy` for the schema's tasks.
  std::size_t task_count() const { return action_space_.task_count(); }

  std::string UserId(std::size_t user) const;
  const std::string& ItemId(std::size_t item) const { return facts_.item_ids[item]; }
  Result<std::size_t> UserOf(std::string_view user_id) const;                     // Errors: kNotFound.
  Result<std::size_t> ItemOf(std::string_view item_id) const;                     // Errors: kNotFound.

  // Kinds of users, where the world has kinds.
  virtual std::size_t segment_count() const { return 1; }
  virtual std::size_t SegmentOf(std::size_t /*user*/) const { return 0; }
  virtual std::int64_t DurationMs(std::size_t item) const = 0;

  // What a ranker may know. Borrowed; the world's own, unchanged for its life.
  virtual FeatureView UserFeatures(std::size_t user) const = 0;
  virtual FeatureView ItemFeatures(std::size_t item) const = 0;
  // The context of a user's request at `now_ms`.
  virtual void ContextFeatures(std::size_t user, std::int64_t now_ms, const Mood& mood, RequestContext* context) const = 0;

  // The candidates of a user's `request`-th request, distinct. The same whoever ranks them.
  virtual void Candidates(std::size_t user, std::uint64_t request, std::vector<std::uint32_t>* items) const;

  // What the upstream scorer predicts for `items`: scores [n, k] row-major. Persistent for a pair, as a model's error is.
  virtual void Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const = 0;

  virtual TrueResponse Truth(std::size_t user, std::size_t item) const = 0;
  virtual Response React(std::size_t user, std::size_t item, Random& random) const = 0;

  // A user's mood when it enters for the first time, and what a request does to it: takes in the responses (in the order shown),
  // counts the request, and begins the next session's mood where the user leaves.
  virtual Mood FirstMood(std::size_t user) const = 0;
  virtual NextVisit AfterRequest(std::size_t user, std::span<const Response> responses, Random& random, Mood* mood) const = 0;

  // The best ranker that is known here, what regret is measured against. Where best_is_optimal(), it is a policy of
  // action_space() and no policy at all has a greater expected return; elsewhere it orders by the truth, which no fusion of
  // predictions can be expected to reach. Both rankers borrow the world.
  std::unique_ptr<RankService> BestPolicy(const std::string& arm) const;
  virtual bool best_is_optimal() const { return false; }
  // The optimal action [D] of a pair, normalised, inside [-1, 1]. REQUIRES: best_is_optimal().
  virtual void BestAction(std::size_t user, std::size_t item, std::span<float> action) const;
  std::unique_ptr<RankService> StaticPolicy(const std::string& arm) const;  // The hand-set weights.

 protected:
  World(WorldFacts facts, ActionSpace action_space);

 private:
  WorldFacts facts_;
  std::string schema_digest_;
  ActionSpace action_space_;
  std::unordered_map<std::string_view, std::size_t> user_of_, item_of_;  // Where the facts name them; keys are the facts'.
};

// Errors: kInvalidInput unless users >= 1, items >= candidates >= exposed >= 1, and the facts' policy fits their schema.
Result<ActionSpace> CheckFacts(const WorldFacts& facts);

// The world of the settings' section simulator, which the demo plays in. Cost: memory some 150 bytes for each user and item;
// Truth and a pair's Scores about 0.1 us.
// Errors: kInvalidInput unless `schema` is DefaultSchema() (the world makes just those features and scores), or as CheckFacts.
Result<std::unique_ptr<World>> CreateFeedWorld(const v1::Simulator& settings, const v1::Rewards& rewards, std::uint64_t seed,
                                               const v1::FeatureSchema& schema);

// A built-in world by its name, or the world of a YAML file by its path; world.proto has the keys. `response_model`: a file of
// `fuseline world fit` in place of the one that the world names; empty: that.
// Errors: kInvalidInput naming file, line and key, or, for what is neither a name nor a file, the names that there are;
// kNotFound for a weights file that the world needs and that is not there.
Result<std::unique_ptr<World>> OpenWorld(const std::string& name_or_path, std::uint64_t seed, const v1::Rewards& rewards,
                                         const std::filesystem::path& response_model = {});

// Whether that world needs a response model, and which it names. Errors: as OpenWorld.
struct NeededModel {
  bool needed = false;
  std::filesystem::path file;
};
Result<NeededModel> ResponseModelOf(const std::string& name_or_path);

std::vector<std::string> BuiltInWorlds();
// Of all that makes the world but seed and rewards: its file, and the response model that it names. Errors: as OpenWorld.
Result<std::string> WorldSha256(const std::string& name_or_path);
Result<std::string> BuiltInWorldText(std::string_view name);  // The YAML. Errors: kNotFound.

// `config` with what a ranker and a learner must share with the world: its schema, of its policy the ranges and hand-set weights, and
// its rewards where it has some.
v1::Config SettingsFor(const World& world, v1::Config config);

}  // namespace fuseline
