#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fuseline/fusion/weights_file.h"
#include "fuseline/simulator/world.h"
#include "fuseline/v1/world.pb.h"
#include "response_model.h"
#include "world_kinds.h"

namespace fuseline {

enum ResponseHead : std::uint8_t {
  kClickHead, kLikeHead, kFollowHead, kCommentHead, kForwardHead, kLongViewHead, kLogWatchHead
};

// What decides that a video was viewed long: a head of its own, or the time watched, as the log defines it: to the end,
// or 18 s of a longer video. By the time it follows from the feedback, so that who learns from events can learn it.
enum class LongViews : std::uint8_t { kByHead, kByWatch };

// Users of a log, by a model of them. The model is the scorer too, as in both papers: predictions are the truth in
// expectation, and a policy learns which of them make a session. Predicts all pairs when it is made.
class ResponseWorld : public World {
 public:
  ResponseWorld(WorldFacts facts, ActionSpace space, ResponseModel model, LongViews long_views, const v1::World& file,
                const v1::Rewards& rewards);

  std::int64_t DurationMs(std::size_t item) const override {
    return static_cast<std::int64_t>(model_.DurationSeconds(item) * 1000);
  }
  FeatureView UserFeatures(std::size_t user) const override { return {model_.UserProfile(user), {}}; }
  FeatureView ItemFeatures(std::size_t item) const override { return {model_.ItemProfile(item), {}}; }
  void ContextFeatures(std::size_t, std::int64_t, const Mood& mood, RequestContext* context) const override {
    context->dense.assign(1, static_cast<float>(mood.depth));
  }
  void Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const override;
  TrueResponse Truth(std::size_t user, std::size_t item) const override;
  Response React(std::size_t user, std::size_t item, Random& random) const override;
  Mood FirstMood(std::size_t user) const override;
  NextVisit AfterRequest(std::size_t user, std::span<const Response> responses, Random& random,
                         Mood* mood) const override;

 protected:
  using Heads = std::span<const float, kResponseHeads>;
  Heads Of(std::size_t user, std::size_t item) const {
    return Heads(table_.data() + (user * item_count() + item) * kResponseHeads, kResponseHeads);
  }

 private:
  bool is_xmtf() const { return file_.kind() == "xmtf"; }
  double LongViewS(std::size_t item) const;
  double Weight(std::size_t task) const {
    const auto& weights = file_.kuaisim().feedback_weights();
    return weights.empty() ? 1 : weights.Get(static_cast<int>(task));
  }

  ResponseModel model_;
  LongViews long_views_;
  v1::World file_;
  v1::Rewards rewards_;
  std::vector<float> table_;  // [users, items, heads]
};

// The file of the source. Errors: kNotFound naming the command that makes it; kCorrupt.
Result<TensorMap> LoadResponseTensors(const WorldSource& source);

// What every world of these kinds asks of its facts. Errors: kInvalidInput.
Status CheckResponseFacts(const WorldSource& source, const WorldFacts& facts, const ResponseModel& model);

}  // namespace fuseline
