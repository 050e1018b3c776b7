#include "fuseline/sessionizer/reward.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <forward_list>
#include <memory_resource>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/proto/wire.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {
namespace {

using wire::Tag;
using enum wire::Type;

// The values of a v1::RewardComponents by their field numbers.
using Rewards = std::array<std::uint64_t, 12>;

struct Item {
  std::string_view id;
  Rewards rewards{};
};

// One request of the session on its way into a step.
struct Request {
  std::int64_t time_ms = 0;
  std::string_view body;   // Its v1::Exposure,
  std::string_view known;  // the same where a walk passes,
  std::string added;       // and the items, as fields, that its repetitions add.
  std::string_view id;
  std::uint64_t policy_version = 0;
  std::pmr::vector<Item> items;  // Those added included.
};

// What a v1::Feedback says here.
struct Reaction {
  std::string_view request_id, item_id;
  std::int32_t kind = 0;
  std::uint64_t watch_ms = 0, item_duration_ms = 0;
};

// A body without what no walk passes: groups among its unknown fields.
template <typename Message>
std::string KnownFields(std::string_view body) {
  Message message;
  FUSELINE_CHECK(message.ParseFromArray(body.data(), static_cast<int>(body.size())));  // Ingest has parsed it before.
  message.DiscardUnknownFields();
  return message.SerializeAsString();
}

std::string_view ItemId(std::string_view exposed_item) {
  wire::Reader in(exposed_item);
  while (in.Next()) {
    if (in.tag() == Tag(v1::ExposedItem::kItemIdFieldNumber, kBytes)) return in.bytes();
  }
  return {};
}

// False where a walk does not pass. REQUIRES: request->known.
bool ReadExposure(Request* request) {
  request->items.clear();
  wire::Reader in(request->known);
  while (in.Next()) {
    switch (in.tag()) {
      case Tag(v1::Exposure::kRequestIdFieldNumber, kBytes): request->id = in.bytes(); break;
      case Tag(v1::Exposure::kPolicyVersionFieldNumber, kVarint): request->policy_version = in.number(); break;
      case Tag(v1::Exposure::kItemsFieldNumber, kBytes): request->items.push_back({.id = ItemId(in.bytes())}); break;
      default: break;
    }
  }
  return in.ok();
}

bool ReadFeedback(std::string_view body, Reaction* reaction) {
  wire::Reader in(body);
  while (in.Next()) {
    switch (in.tag()) {
      case Tag(v1::Feedback::kRequestIdFieldNumber, kBytes): reaction->request_id = in.bytes(); break;
      case Tag(v1::Feedback::kItemIdFieldNumber, kBytes): reaction->item_id = in.bytes(); break;
      case Tag(v1::Feedback::kKindFieldNumber, kVarint): reaction->kind = static_cast<std::int32_t>(in.number()); break;
      case Tag(v1::Feedback::kWatchMsFieldNumber, kVarint): reaction->watch_ms = in.number(); break;
      case Tag(v1::Feedback::kItemDurationMsFieldNumber, kVarint): reaction->item_duration_ms = in.number(); break;
      default: break;
    }
  }
  return in.ok();
}

// The component that counts a kind; 0 for those that are not counted: WATCH, and what this program does not know.
int CounterOf(std::int32_t kind) {
  switch (kind) {
    case v1::Feedback::CLICK: return v1::RewardComponents::kClicksFieldNumber;
    case v1::Feedback::COMPLETE: return v1::RewardComponents::kCompletesFieldNumber;
    case v1::Feedback::LIKE: return v1::RewardComponents::kLikesFieldNumber;
    case v1::Feedback::SHARE: return v1::RewardComponents::kSharesFieldNumber;
    case v1::Feedback::COMMENT: return v1::RewardComponents::kCommentsFieldNumber;
    case v1::Feedback::COLLECT: return v1::RewardComponents::kCollectsFieldNumber;
    case v1::Feedback::FOLLOW: return v1::RewardComponents::kFollowsFieldNumber;
    case v1::Feedback::PROFILE: return v1::RewardComponents::kProfilesFieldNumber;
    case v1::Feedback::DISLIKE: return v1::RewardComponents::kDislikesFieldNumber;
    default: return 0;
  }
}

void AddReaction(const Reaction& reaction, Rewards* rewards) {
  const auto raise = [&](int field, std::uint64_t value) {
    std::uint64_t& largest = (*rewards)[static_cast<std::size_t>(field)];
    largest = std::max(largest, value);
  };
  const bool watched = reaction.kind == v1::Feedback::WATCH || reaction.kind == v1::Feedback::COMPLETE;
  if (watched) raise(v1::RewardComponents::kWatchMsFieldNumber, reaction.watch_ms);
  raise(v1::RewardComponents::kItemDurationMsFieldNumber, reaction.item_duration_ms);
  if (const int counter = CounterOf(reaction.kind); counter != 0) ++(*rewards)[static_cast<std::size_t>(counter)];
}

bool IsUnknown(std::int32_t kind) { return kind == v1::Feedback::UNSPECIFIED || !v1::Feedback::Kind_IsValid(kind); }

bool IsExposure(const JoinedEvent& event) { return event.is_exposure && !event.body.empty(); }
bool IsFeedback(const JoinedEvent& event) { return !event.is_exposure && !event.body.empty(); }

// What the walk does not pass is written anew there, and stays where it is.
using Rewritten = std::forward_list<std::string>;

Request RequestOf(const JoinedEvent& event, std::pmr::memory_resource* memory, Rewritten* rewritten) {
  Request request{.time_ms = event.time_ms,
                  .body = event.body,
                  .known = event.body,
                  .added = {},
                  .id = {},
                  .items = std::pmr::vector<Item>(memory)};
  if (!ReadExposure(&request)) {
    request.known = rewritten->emplace_front(KnownFields<v1::Exposure>(event.body));
    FUSELINE_CHECK(ReadExposure(&request));
  }
  return request;
}

// The requests of one session, with the feedback on their items.
class Join {
 public:
  explicit Join(std::span<const JoinedEvent> events) {
    requests_.reserve(static_cast<std::size_t>(std::count_if(events.begin(), events.end(), IsExposure)));
    for (const JoinedEvent& event : events) {
      if (IsExposure(event)) requests_.push_back(RequestOf(event, &memory_, &rewritten_));
    }
    MergeRepetitions();
    for (const JoinedEvent& event : events) {  // Behind all exposures: it may be older than its own.
      if (IsFeedback(event)) AddFeedback(event);
    }
  }

  // By (event time, request id).
  std::vector<const Request*> Steps() const {
    std::vector<const Request*> steps(by_id_.begin(), by_id_.end());
    std::sort(steps.begin(), steps.end(), [](const Request* a, const Request* b) {
      return a->time_ms != b->time_ms ? a->time_ms < b->time_ms : a->id < b->id;
    });
    return steps;
  }

  std::uint64_t orphans() const { return orphans_; }
  std::uint64_t repeated_exposures() const { return requests_.size() - by_id_.size(); }
  std::uint64_t unknown_kinds() const { return unknown_kinds_; }

 private:
  // Leaves the earliest request of each id in by_id_.
  void MergeRepetitions() {
    for (Request& request : requests_) by_id_.push_back(&request);
    std::sort(by_id_.begin(), by_id_.end(),  // Those of one id as they came.
              [](const Request* a, const Request* b) { return a->id != b->id ? a->id < b->id : a < b; });
    std::size_t kept = 0;
    for (Request* request : by_id_) {
      if (kept > 0 && by_id_[kept - 1]->id == request->id) {
        AddMissingItems(request->known, by_id_[kept - 1]);
      } else {
        by_id_[kept++] = request;
      }
    }
    by_id_.resize(kept);
  }

  static void AddMissingItems(std::string_view repetition, Request* request) {
    wire::Reader in(repetition);
    while (in.Next()) {
      if (in.tag() != Tag(v1::Exposure::kItemsFieldNumber, kBytes)) continue;
      const std::string_view id = ItemId(in.bytes());
      if (FindItem(request, id) != nullptr) continue;
      request->items.push_back({.id = id});
      wire::AppendBytes(v1::Exposure::kItemsFieldNumber, in.bytes(), &request->added);
    }
  }

  static Item* FindItem(Request* request, std::string_view id) {
    const auto found = std::find_if(request->items.begin(), request->items.end(), [&](const Item& item) { return item.id == id; });
    return found == request->items.end() ? nullptr : &*found;
  }

  void AddFeedback(const JoinedEvent& event) {
    Reaction reaction;
    std::string rewritten;
    if (!ReadFeedback(event.body, &reaction)) {
      rewritten = KnownFields<v1::Feedback>(event.body);
      FUSELINE_CHECK(ReadFeedback(rewritten, &reaction));
    }
    if (IsUnknown(reaction.kind)) ++unknown_kinds_;
    const auto request = std::lower_bound(by_id_.begin(), by_id_.end(), reaction.request_id,
                                          [](const Request* each, std::string_view id) { return each->id < id; });
    const bool is_known = request != by_id_.end() && (*request)->id == reaction.request_id;
    Item* const item = is_known ? FindItem(*request, reaction.item_id) : nullptr;
    if (item == nullptr) {
      ++orphans_;
    } else {
      AddReaction(reaction, &item->rewards);
    }
  }

  std::array<std::byte, 8192> buffer_;
  std::pmr::monotonic_buffer_resource memory_{buffer_.data(), buffer_.size()};
  Rewritten rewritten_;
  std::pmr::vector<Request> requests_{&memory_};  // As they came.
  std::pmr::vector<Request*> by_id_{&memory_};
  std::uint64_t orphans_ = 0;
  std::uint64_t unknown_kinds_ = 0;
};

// What a truncated session goes on with: by request id where several are shown at one instant. Nobody has reacted to it here.
std::optional<Request> NextRequest(std::span<const JoinedEvent> events, Rewritten* rewritten) {
  std::optional<Request> next;
  for (const JoinedEvent& event : events) {
    if (!IsExposure(event)) continue;
    Request request = RequestOf(event, std::pmr::get_default_resource(), rewritten);
    request.items.clear();
    if (!next || request.id < next->id) next = std::move(request);
  }
  return next;
}

// Sizes and bytes of messages whose fields all have numbers below 16: their tags take one byte.

std::size_t VarintSize(std::uint64_t value) { return (static_cast<std::size_t>(std::bit_width(value | 1)) + 6) / 7; }
std::size_t NumberSize(std::uint64_t value) { return value == 0 ? 0 : 1 + VarintSize(value); }
std::size_t BytesSize(std::size_t size) { return 1 + VarintSize(size) + size; }

void AppendHead(std::uint32_t field, std::size_t size, std::string* bytes) {
  bytes->push_back(static_cast<char>(Tag(field, kBytes)));
  wire::AppendVarint(size, bytes);
}

// A number that is zero is not written.
template <typename Number>
void AppendPlain(int field, Number value, std::string* bytes) {
  if (value != 0) wire::AppendNumber(static_cast<std::uint32_t>(field), static_cast<std::uint64_t>(value), bytes);
}

std::size_t SizeOf(const Rewards& rewards) {
  std::size_t size = 0;
  for (const std::uint64_t value : rewards) size += NumberSize(value);
  return size;
}

std::size_t ExposureSize(const Request& request) { return request.body.size() + request.added.size(); }

std::size_t StepSize(const Request& request) {
  std::size_t size = NumberSize(static_cast<std::uint64_t>(request.time_ms)) + BytesSize(ExposureSize(request));
  for (const Item& item : request.items) size += BytesSize(SizeOf(item.rewards));
  return size;
}

void AppendStep(int field, const Request& request, std::string* bytes) {
  AppendHead(static_cast<std::uint32_t>(field), StepSize(request), bytes);
  AppendPlain(v1::Step::kEventTimeMsFieldNumber, request.time_ms, bytes);
  AppendHead(v1::Step::kExposureFieldNumber, ExposureSize(request), bytes);
  bytes->append(request.body).append(request.added);
  for (const Item& item : request.items) {
    AppendHead(v1::Step::kRewardsFieldNumber, SizeOf(item.rewards), bytes);
    for (std::size_t i = 0; i < item.rewards.size(); ++i) AppendPlain(static_cast<int>(i), item.rewards[i], bytes);
  }
}

void AppendTimesAndCounts(const SessionToJoin& session, const TrajectoryHead& head, std::string* bytes) {
  using Trajectory = v1::Trajectory;
  wire::AppendBytes(Trajectory::kNameFieldNumber, head.name.SerializeAsString(), bytes);
  if (head.predecessor) wire::AppendBytes(Trajectory::kPredecessorFieldNumber, head.predecessor->SerializeAsString(), bytes);
  if (!session.user_id.empty()) wire::AppendBytes(Trajectory::kUserIdFieldNumber, session.user_id, bytes);
  AppendPlain(Trajectory::kStreamTimeMsFieldNumber, head.stream_time_ms, bytes);
  AppendPlain(Trajectory::kFirstMsFieldNumber, session.events.front().time_ms, bytes);
  AppendPlain(Trajectory::kLastMsFieldNumber, session.events.back().time_ms, bytes);
  AppendPlain(Trajectory::kEventsFieldNumber, static_cast<std::uint32_t>(session.events_total), bytes);
  AppendPlain(Trajectory::kEndFieldNumber, static_cast<int>(session.end), bytes);
}

// Returns whether the trajectory is a stub.
bool AppendTrajectory(const SessionToJoin& session, const TrajectoryHead& head, const Join& join, std::int64_t max_bytes,
                      std::string* bytes) {
  const std::size_t begin = bytes->size();
  AppendTimesAndCounts(session, head, bytes);
  const std::vector<const Request*> steps = join.Steps();
  const auto [oldest, newest] = std::minmax_element(
      steps.begin(), steps.end(), [](const Request* a, const Request* b) { return a->policy_version < b->policy_version; });
  Rewritten rewritten;
  const std::optional<Request> next = NextRequest(session.next_requests, &rewritten);

  std::size_t size = bytes->size() - begin + NumberSize((*oldest)->policy_version) + NumberSize((*newest)->policy_version);
  for (const Request* step : steps) size += BytesSize(StepSize(*step));
  if (next) size += BytesSize(StepSize(*next));
  const bool is_stub = size > static_cast<std::size_t>(max_bytes);
  if (!is_stub) {
    bytes->reserve(begin + size);
    for (const Request* step : steps) AppendStep(v1::Trajectory::kStepsFieldNumber, *step, bytes);
    if (next) AppendStep(v1::Trajectory::kNextStepFieldNumber, *next, bytes);
  }
  AppendPlain(v1::Trajectory::kOldestPolicyVersionFieldNumber, (*oldest)->policy_version, bytes);
  AppendPlain(v1::Trajectory::kNewestPolicyVersionFieldNumber, (*newest)->policy_version, bytes);
  if (is_stub) {
    wire::AppendBytes(v1::Trajectory::kStubReasonFieldNumber,
                      "trajectory of " + std::to_string(size) + " bytes exceeds max_trajectory_bytes " + std::to_string(max_bytes),
                      bytes);
  }
  return is_stub;
}

}  // namespace

bool HasTrajectory(std::span<const JoinedEvent> events) { return std::any_of(events.begin(), events.end(), IsExposure); }

SessionOutcome JoinRewards(const SessionToJoin& session, const TrajectoryHead* head, std::int64_t max_bytes,
                           std::string* bytes) {
  const Join join(session.events);
  SessionOutcome outcome;
  outcome.orphans = join.orphans();
  outcome.left_out = session.events_total;
  for (const JoinedEvent& event : session.events) outcome.left_out -= event.body.empty() ? 0 : 1;
  outcome.repeated_exposures = join.repeated_exposures();
  outcome.unknown_kinds = join.unknown_kinds();
  if (!HasTrajectory(session.events)) return outcome;
  FUSELINE_CHECK(head != nullptr);
  outcome.is_stub = AppendTrajectory(session, *head, join, max_bytes, bytes);
  return outcome;
}

}  // namespace fuseline
