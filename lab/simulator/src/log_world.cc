#include <algorithm>
#include <cmath>
#include <numbers>

#include "log_catalogue.h"
#include "response_world.h"

namespace fuseline {
namespace {

constexpr std::int64_t kDayMs = 86'400'000;
constexpr std::int64_t kLocalOffsetMs = 8 * 3'600'000;  // UTC+8, as the log's importer has the hour.
constexpr std::size_t kHourWidth = 2;                   // Sine and cosine.

// What a task of the log's schema is a prediction of; kLogWatchHead: of the seconds watched.
Result<ResponseHead> HeadOf(const std::string& task) {
  constexpr std::pair<const char*, ResponseHead> kHeads[] = {
      {"click", kClickHead},     {"like", kLikeHead},           {"follow", kFollowHead},  {"comment", kCommentHead},
      {"forward", kForwardHead}, {"long_view", kLongViewHead}, {"watch", kLogWatchHead}};
  const auto* const found = std::ranges::find(kHeads, task, [](const auto& head) { return std::string(head.first); });
  if (found != std::end(kHeads)) return found->second;
  return Error(Code::kInvalidInput, "the response model predicts nothing for the task", task);
}

// The context that this world can make: the hour, then the tab.
Status CheckContext(const v1::FeatureSchema& schema) {
  std::size_t dense = 0, ids = 0;
  for (const auto& feature : schema.features()) {
    if (feature.scope() != v1::CONTEXT) continue;
    dense += feature.has_dense() ? feature.dense().width() : 0;
    ids += feature.has_categorical() ? 1 : 0;
  }
  if (dense == kHourWidth && ids == 1) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, "a log's context is the hour and the tab, its schema has", dense,
                     "dense values and", ids, "ids");
}

// The users, items and features of the log itself.
class LogWorld final : public ResponseWorld {
 public:
  LogWorld(WorldFacts facts, ActionSpace space, ResponseModel model, LogCatalogue log, std::vector<ResponseHead> heads,
           const v1::World& file, const v1::Rewards& rewards)
      : ResponseWorld(std::move(facts), std::move(space), std::move(model), LongViews::kByWatch, file, rewards),
        log_(std::move(log)),
        heads_(std::move(heads)) {}

  FeatureView UserFeatures(std::size_t user) const override { return log_.UserFeatures(user); }
  FeatureView ItemFeatures(std::size_t item) const override { return log_.ItemFeatures(item); }

  void ContextFeatures(std::size_t user, std::int64_t now_ms, const Mood&, RequestContext* context) const override {
    const auto of_day_ms = static_cast<double>((now_ms + kLocalOffsetMs) % kDayMs);
    const double angle = 2 * std::numbers::pi * of_day_ms / static_cast<double>(kDayMs);
    context->dense.assign({static_cast<float>(std::sin(angle)), static_cast<float>(std::cos(angle))});
    context->ids.assign(1, log_.TabOf(user));
  }

  void Scores(std::size_t user, std::span<const std::uint32_t> items, std::span<float> scores) const override {
    auto* out = scores.data();
    for (const std::uint32_t item : items) {
      const Heads heads = Of(user, item);
      for (const ResponseHead head : heads_) {
        *out++ = head == kLogWatchHead ? static_cast<float>(Truth(user, item).watch_s)
                                       : std::min(heads[head], heads[kClickHead]);
      }
    }
  }

 private:
  LogCatalogue log_;
  std::vector<ResponseHead> heads_;  // Of each task.
};

}  // namespace

Result<std::unique_ptr<World>> CreateLogWorld(const WorldSource& source) {
  FUSELINE_ASSIGN_OR_FAIL(TensorMap tensors, LoadResponseTensors(source));
  FUSELINE_ASSIGN_OR_FAIL(LogCatalogue log, LogCatalogue::Create(tensors));
  FUSELINE_FAIL_IF_ERROR(CheckContext(log.schema()));
  std::vector<ResponseHead> heads;
  for (const auto& task : log.schema().tasks()) {
    FUSELINE_ASSIGN_OR_FAIL(const ResponseHead head, HeadOf(task.name()));
    heads.push_back(head);
  }
  log.PutUsersIntoTabs(&tensors);
  FUSELINE_ASSIGN_OR_FAIL(ResponseModel model, ResponseModel::Create(std::move(tensors)));
  WorldFacts facts = FactsOf(source, log.schema());
  FUSELINE_FAIL_IF_ERROR(CheckResponseFacts(source, facts, model));
  facts.user_ids = log.UserIds(facts.users);
  facts.item_ids = log.ItemIds(facts.items);
  FUSELINE_ASSIGN_OR_FAIL(ActionSpace space, CheckFacts(facts));
  return std::make_unique<LogWorld>(std::move(facts), std::move(space), std::move(model), std::move(log),
                                    std::move(heads), source.file, source.rewards);
}

}  // namespace fuseline
