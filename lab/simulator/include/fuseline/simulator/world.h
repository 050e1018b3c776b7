#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/random.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/feature_encoding.h"
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
  std::int64_t watch_ms = 0;
  double reward = 0;        // As `rewards` weighs them.
  double satisfaction = 0;
};

// A catalogue and a population with hidden tastes; docs/simulator.md says what is modelled and what is not.
//
// Where: under Simulation, which lets its users act. A ranker sees of it only features and task scores; truth is for
// users, oracles and tests. Everything is a pure function of (settings, rewards, seed), and every draw of
// (seed, purpose, counter): the same decisions meet the same users.
// Immutable after Create; thread-safe. Cost: memory some 150 bytes for each user and item; TrueResponse and Scores
// about 0.1 us for a pair.
class World {
 public:
  // Errors: kInvalidInput unless `schema` is DefaultSchema() (the world makes just those features and scores), or when more
  // items are exposed than there are candidates.
  static Result<World> Create(const v1::Simulator& settings, const v1::Rewards& rewards, std::uint64_t seed,
                              const v1::FeatureSchema& schema);
  World(World&&) noexcept;
  World& operator=(World&&) noexcept;
  ~World();

  std::size_t user_count() const;
  std::size_t item_count() const;
  std::size_t candidate_count() const;  // Of a request.
  std::size_t exposed_count() const;    // Of a request.
  std::size_t segment_count() const;
  double feedback_missing() const;      // Share of feedback that never arrives.
  std::uint64_t seed() const;
  const std::string& schema_digest() const;

  std::string UserId(std::size_t user) const;  // "u17"
  const std::string& ItemId(std::size_t item) const;  // "i17"
  Result<std::size_t> UserOf(std::string_view user_id) const;  // Errors: kNotFound.
  Result<std::size_t> ItemOf(std::string_view item_id) const;  // Errors: kNotFound.
  std::size_t SegmentOf(std::size_t user) const;
  std::int64_t DurationMs(std::size_t item) const;

  // What a ranker may know. Borrowed; the world's own, unchanged for its life.
  FeatureView UserFeatures(std::size_t user) const;
  FeatureView ItemFeatures(std::size_t item) const;

  // The candidates of a user's `request`-th request, distinct. The same whoever ranks them.
  void Candidates(std::size_t user, std::uint64_t request, std::vector<std::uint32_t>* items) const;

  // The upstream scorer's prediction: truth, distorted by its calibration, an error that its tasks share, and one of each
  // task's own; persistent for a pair, as a model's error is. scores [5] = click, valid, watch (seconds), like, share.
  void Scores(std::size_t user, std::size_t item, std::span<float> scores) const;

  TrueResponse Truth(std::size_t user, std::size_t item) const;
  Response React(std::size_t user, std::size_t item, Random& random) const;

 private:
  struct Impl;
  explicit World(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace fuseline
