#include "session_workload.h"

#include <algorithm>
#include <utility>

#include "fuseline/proto/event_view.h"
#include "measure.h"

namespace fuseline::bench {
namespace {

constexpr std::int64_t kBeginMs = 1'650'812'741'436;
constexpr std::int64_t kGapMs = 1'800'000;
constexpr std::int64_t kFarAheadMs = 86'400'000;
constexpr std::size_t kBatchRecords = 2000;

std::string Id(const char* prefix, std::int64_t number, std::size_t width) {
  const std::string digits = std::to_string(number);
  return prefix + std::string(width - digits.size(), '0') + digits;
}

std::string ItemId(std::int64_t request, std::int64_t item) { return Id("item-", request * 3 + item, 27); }

}  // namespace

Workload::Workload(const WorkloadOptions& options)
    : options_(options),
      random_(1, "session_workload", 0),
      users_(options.users + static_cast<std::size_t>(options.partitions)) {
  if (options.draw != Draw::kZipf) return;
  double sum = 0;
  cumulative_.reserve(options.users);
  for (std::size_t rank = 1; rank <= options.users; ++rank)
    cumulative_.push_back(sum += 1.0 / static_cast<double>(rank));
}

bool Workload::Next(GeneratedEvent* event) {
  if (next_ == size()) return false;
  const bool closing = next_ >= options_.events;
  const std::size_t user = closing ? options_.users + static_cast<std::size_t>(next_ - options_.events) : DrawUser();
  v1::Event made = EventOf(user);
  if (closing) made.set_event_time_ms(made.event_time_ms() + kFarAheadMs);
  event->partition = static_cast<std::int32_t>((closing ? user - options_.users : user) %
                                               static_cast<std::size_t>(options_.partitions));
  event->time_ms = made.event_time_ms();
  event->user_id = made.user_id();
  made.SerializeToString(&event->bytes);
  ++next_;
  return true;
}

std::size_t Workload::DrawUser() {
  if (options_.draw == Draw::kOnce && next_ < static_cast<std::int64_t>(options_.users))
    return static_cast<std::size_t>(next_);
  if (options_.draw != Draw::kZipf) return random_.NextBelow(options_.users);
  const double draw = random_.NextUniform(0, cumulative_.back());
  const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end(), draw);
  return static_cast<std::size_t>(found - cumulative_.begin()) % options_.users;
}

v1::Event Workload::EventOf(std::size_t number) {
  User& user = users_[number];
  v1::Event event;
  event.set_event_id(Id("event-", next_, 42));
  event.set_user_id(Id("user-", static_cast<std::int64_t>(number), 20));
  event.set_event_time_ms(kBeginMs + static_cast<std::int64_t>(static_cast<double>(next_) * options_.spacing_ms));
  const bool returns = user.request < 0 || event.event_time_ms() - user.last_ms > kGapMs;
  if (returns || random_.NextBelow(4) == 0) {
    user.request = next_;
    FillExposure(event.mutable_exposure());
  } else {
    v1::Feedback& feedback = *event.mutable_feedback();
    feedback.set_request_id(Id("request-", user.request, 36));
    feedback.set_item_id(ItemId(user.request, static_cast<std::int64_t>(random_.NextBelow(3))));
    feedback.set_kind(v1::Feedback::WATCH);
    feedback.set_watch_ms(40'000);
    feedback.set_item_duration_ms(60'000);
  }
  user.last_ms = event.event_time_ms();
  return event;
}

void Workload::FillExposure(v1::Exposure* exposure) const {
  exposure->set_request_id(Id("request-", next_, 36));
  exposure->set_surface("feed");
  exposure->set_policy_version(7);
  for (std::int64_t i = 0; i < 3; ++i) {
    v1::ExposedItem& item = *exposure->add_items();
    item.set_item_id(ItemId(next_, i));
    item.set_position(static_cast<std::uint32_t>(i));
    item.set_fused_score(0.5f);
  }
}

Batcher::Batcher(std::int32_t partitions) : filling_(static_cast<std::size_t>(partitions)) {
  for (std::size_t partition = 0; partition < filling_.size(); ++partition) {
    filling_[partition].partition = static_cast<std::int32_t>(partition);
  }
}

bool Batcher::Add(const GeneratedEvent& event) {
  EventBatch& batch = filling_[static_cast<std::size_t>(event.partition)];
  Record& record = batch.records.emplace_back();
  record.offset = batch.next_offset++;
  Must(ViewEvent(event.bytes, EventLimits(), batch.bytes, &record.event));
  return batch.records.size() == kBatchRecords;
}

EventBatch Batcher::Take(std::int32_t partition) {
  EventBatch& batch = filling_[static_cast<std::size_t>(partition)];
  EventBatch next;
  next.partition = partition;
  next.next_offset = batch.next_offset;
  return std::exchange(batch, std::move(next));
}

std::vector<EventBatch> BatchesOf(Workload workload, std::int64_t count) {
  std::vector<EventBatch> batches;
  Batcher batcher(workload.partitions());
  GeneratedEvent event;
  for (std::int64_t i = 0; i < count && workload.Next(&event); ++i) {
    if (batcher.Add(event)) batches.push_back(batcher.Take(event.partition));
  }
  for (std::int32_t partition = 0; partition < workload.partitions(); ++partition)
    batches.push_back(batcher.Take(partition));
  return batches;
}

}  // namespace fuseline::bench
