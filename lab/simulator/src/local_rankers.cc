#include "fuseline/simulator/local_rankers.h"

#include <algorithm>
#include <numeric>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

// The best `expose_count` of the request by `scores`; equal scores keep the order of the candidates.
void Expose(const RankingRequest& request, const World& world, std::span<const double> scores, const std::string& arm,
            v1::Exposure* exposure) {
  std::vector<std::uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto shown = std::min(request.expose_count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](auto a, auto b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  exposure->set_request_id(std::string(request.request_id));
  exposure->set_schema_digest(world.schema_digest());
  exposure->set_arm(arm);
  for (std::size_t position = 0; position < shown; ++position) {
    auto& item = *exposure->add_items();
    item.set_item_id(std::string(request.item_ids[order[position]]));
    item.set_position(static_cast<std::uint32_t>(position));
    item.set_fused_score(static_cast<float>(scores[order[position]]));
  }
}

}  // namespace

FixedActionRanker::FixedActionRanker(const World& world, ActionSpace space, std::vector<std::vector<float>> actions,
                                     std::string arm)
    : world_(world), space_(std::move(space)), actions_(std::move(actions)), arm_(std::move(arm)) {
  FUSELINE_CHECK(actions_.size() == 1 || actions_.size() == world.segment_count());
  for (const auto& action : actions_) FUSELINE_CHECK(action.size() == space_.width());
}

Status FixedActionRanker::Rank(const RankingRequest& request, v1::Exposure* exposure) {
  FUSELINE_ASSIGN_OR_RETURN(const std::size_t user, world_.UserOf(request.user_id));
  const auto& action = actions_.size() == 1 ? actions_[0] : actions_[world_.SegmentOf(user)];
  scores_.clear();
  for (const auto& candidate : request.candidates) scores_.push_back(space_.FusedScore(candidate.task_scores, action));
  Expose(request, world_, scores_, arm_, exposure);
  return OkStatus();
}

ActionRanker::ActionRanker(const World& world, ActionOf action_of, std::string arm)
    : world_(world), action_of_(std::move(action_of)), arm_(std::move(arm)), action_(world.action_space().width()) {}

Status ActionRanker::Rank(const RankingRequest& request, v1::Exposure* exposure) {
  FUSELINE_ASSIGN_OR_RETURN(const std::size_t user, world_.UserOf(request.user_id));
  scores_.clear();
  for (std::size_t i = 0; i < request.candidates.size(); ++i) {
    FUSELINE_ASSIGN_OR_RETURN(const std::size_t item, world_.ItemOf(request.item_ids[i]));
    action_of_(user, item, action_);
    scores_.push_back(world_.action_space().FusedScore(request.candidates[i].task_scores, action_));
  }
  Expose(request, world_, scores_, arm_, exposure);
  return OkStatus();
}

NetworkRanker::NetworkRanker(const World& world, const PolicyNetwork& network, std::string arm)
    : world_(world), network_(network), arm_(std::move(arm)) {}

Status NetworkRanker::Rank(const RankingRequest& request, v1::Exposure* exposure) {
  const auto& space = network_.action_space();
  actions_.resize(request.candidates.size() * space.width());
  FUSELINE_RETURN_IF_ERROR(network_.Act(request.user, request.context, request.candidates, workspace_, actions_));
  scores_.clear();
  for (std::size_t i = 0; i < request.candidates.size(); ++i) {
    scores_.push_back(space.FusedScore(request.candidates[i].task_scores,
                                       std::span(actions_).subspan(i * space.width(), space.width())));
  }
  Expose(request, world_, scores_, arm_, exposure);
  return OkStatus();
}

OracleRanker::OracleRanker(const World& world, double patience, std::string arm)
    : world_(world), patience_(patience), arm_(std::move(arm)) {}

Status OracleRanker::Rank(const RankingRequest& request, v1::Exposure* exposure) {
  FUSELINE_ASSIGN_OR_RETURN(const std::size_t user, world_.UserOf(request.user_id));
  scores_.clear();
  for (const auto item_id : request.item_ids) {
    FUSELINE_ASSIGN_OR_RETURN(const std::size_t item, world_.ItemOf(item_id));
    const TrueResponse truth = world_.Truth(user, item);
    scores_.push_back(truth.reward + patience_ * truth.satisfaction);
  }
  Expose(request, world_, scores_, arm_, exposure);
  return OkStatus();
}

}  // namespace fuseline
