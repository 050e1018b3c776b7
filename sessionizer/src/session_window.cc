#include "fuseline/sessionizer/session_window.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr std::size_t kManyIds = 64;
constexpr std::uint32_t kGarbageMin = 1024;

std::uint64_t HashOf(std::string_view id) { return std::hash<std::string_view>()(id); }

}  // namespace

SessionShape ShapeOf(const v1::Sessionizer& settings) {
  return {.gap_ms = settings.gap_ms(),
          .lateness_ms = settings.lateness_ms(),
          .cut_every_ms = settings.cut_every_ms(),
          .max_events = settings.max_events()};
}

SessionShape ShapeOf(const v1::SessionRules& rules) {
  return {.gap_ms = rules.gap_ms(),
          .lateness_ms = rules.lateness_ms(),
          .cut_every_ms = rules.cut_every_ms(),
          .max_events = rules.max_events()};
}

v1::SessionRules RulesOf(std::uint64_t version, const SessionShape& shape) {
  v1::SessionRules rules;
  rules.set_version(version);
  rules.set_format(kSessionRulesFormat);
  rules.set_gap_ms(shape.gap_ms);
  rules.set_lateness_ms(shape.lateness_ms);
  rules.set_cut_every_ms(shape.cut_every_ms);
  rules.set_max_events(static_cast<std::uint32_t>(shape.max_events));
  return rules;
}

std::int64_t CutPhase(std::uint64_t user_hash, std::int64_t cut_every_ms) {
  if (cut_every_ms == 0) return 0;
  return static_cast<std::int64_t>(user_hash % static_cast<std::uint64_t>(cut_every_ms));
}

// Time since the cut line at or before it. REQUIRES: there are lines.
std::int64_t SessionWindow::SinceCutLine(const SessionShape& shape, std::int64_t time_ms) const {
  const std::int64_t rest = (time_ms - CutPhase(user_hash_, shape.cut_every_ms)) % shape.cut_every_ms;
  return rest < 0 ? rest + shape.cut_every_ms : rest;  // Also before the first line.
}

bool SessionWindow::Joins(const SessionShape& shape, std::int64_t earlier_ms, std::int64_t later_ms) const {
  const std::int64_t distance_ms = later_ms - earlier_ms;
  if (distance_ms > shape.gap_ms) return false;
  return shape.cut_every_ms == 0 || SinceCutLine(shape, earlier_ms) + distance_ms < shape.cut_every_ms;
}

// Where an event with this time and id stands, or would stand.
std::size_t SessionWindow::PlaceFor(std::int64_t time_ms, std::string_view id) const {
  const auto before = [this](const OpenEvent& event, const std::pair<std::int64_t, std::string_view>& key) {
    return event.time_ms != key.first ? event.time_ms < key.first : this->id(event) < key.second;
  };
  const std::pair key(time_ms, id);
  if (events_.empty() || before(events_.back(), key)) return events_.size();
  return static_cast<std::size_t>(std::lower_bound(events_.begin(), events_.end(), key, before) - events_.begin());
}

const OpenEvent* SessionWindow::FindId(std::int64_t time_ms, std::string_view id) const {
  const std::uint64_t id_hash = HashOf(id);
  if (!ids_.empty()) {
    if (!ids_.Contains(id_hash)) return nullptr;
    // A resend carries the same time as well, so that in a long session this finds it at once.
    const std::size_t place = PlaceFor(time_ms, id);
    if (place < events_.size() && events_[place].time_ms == time_ms && this->id(events_[place]) == id) return &events_[place];
  }
  const auto found = std::find_if(events_.begin(), events_.end(), [&](const OpenEvent& event) {
    return event.id_hash == id_hash && this->id(event) == id;
  });
  return found == events_.end() ? nullptr : &*found;
}

void SessionWindow::Prefetch(std::string_view id) const {
  if (events_.empty()) return;
  __builtin_prefetch(&events_.back());
  __builtin_prefetch(events_.data() + events_.size());
  __builtin_prefetch(bytes_.data() + bytes_.size());
  if (!ids_.empty()) ids_.Prefetch(HashOf(id));
}

void SessionWindow::PrefetchFirst() const {
  if (events_.empty()) return;
  __builtin_prefetch(&events_[first_size_ - 1]);
  __builtin_prefetch(bytes_.data());
}

OpenEvent* SessionWindow::Find(std::int64_t offset, std::int64_t time_ms, std::string_view id) {
  const std::size_t place = PlaceFor(time_ms, id);
  if (place == events_.size()) return nullptr;
  OpenEvent& event = events_[place];
  return event.offset == offset && event.time_ms == time_ms && this->id(event) == id ? &event : nullptr;
}

bool SessionWindow::Add(const SessionShape& shape, const NewEvent& event) {
  const std::size_t size = events_.size();
  const std::size_t i = PlaceFor(event.time_ms, event.id);
  const bool inside = i > 0 && i < size && !events_[i].starts_session;
  const bool joins_previous = i > 0 && (inside || event.glued || Joins(shape, events_[i - 1].time_ms, event.time_ms));
  const bool joins_next = i < size && (inside || Joins(shape, event.time_ms, events_[i].time_ms));
  const bool joined = joins_previous && joins_next && !inside;  // Two sessions have become one.

  OpenEvent open{.time_ms = event.time_ms,
                 .offset = event.offset,
                 .id_hash = HashOf(event.id),
                 .segment = event.segment,
                 .place = static_cast<std::uint32_t>(bytes_.size()),
                 .body_bytes = static_cast<std::uint32_t>(event.body.size()),
                 .id_bytes = static_cast<std::uint32_t>(event.id.size()),
                 .is_exposure = event.is_exposure,
                 .starts_session = !joins_previous};
  FUSELINE_CHECK(bytes_.size() + event.id.size() + event.body.size() < std::size_t{1} << 32);
  bytes_.reserve(bytes_.size() + event.id.size() + event.body.size());  // Once for both; no less than doubled.
  bytes_.append(event.id).append(event.body);
  if (!ids_.empty()) ids_.Insert(open.id_hash);
  if (i < size && !inside) events_[i].starts_session = !joins_next;
  events_.insert(events_.begin() + static_cast<std::ptrdiff_t>(i), open);

  if (i == size && joins_previous) {  // The way of nearly all: one more at the end.
    if (session_count_ == 1) ++first_size_;
  } else if (inside) {
    if (i < first_size_) ++first_size_;
    if (i <= last_start_) ++last_start_;
  } else {
    CountSessions();
  }
  if (ids_.empty()) HashIds();
  const auto limit = static_cast<std::size_t>(shape.max_events);
  if (events_.size() > limit) LeaveOutPast(limit, i, joined);
  return events_[i].body_bytes > 0;
}

// Whatever of the session of events_[index] is past the limit. Unless two have joined, one event at most can be newly so.
void SessionWindow::LeaveOutPast(std::size_t limit, std::size_t index, bool joined) {
  const std::size_t start = StartOf(index);
  if (!joined && index - start >= limit) return LeaveOut(events_[index]);
  const std::size_t end = EndOf(start);
  const std::size_t last = joined ? end : std::min(end, start + limit + 1);
  for (std::size_t i = start + limit; i < last; ++i) LeaveOut(events_[i]);
}

void SessionWindow::LeaveOut(OpenEvent& event) {
  const std::uint32_t freed = std::exchange(event.body_bytes, 0);
  if (std::size_t{event.place} + event.id_bytes + freed == bytes_.size()) {
    bytes_.resize(bytes_.size() - freed);
    return;
  }
  garbage_ += freed;
  if (garbage_ > kGarbageMin && garbage_ > bytes_.size() / 2) Compact();
}

void SessionWindow::Compact() {
  std::string kept;
  kept.reserve(bytes_.size() - garbage_);
  for (OpenEvent& event : events_) {
    const auto place = static_cast<std::uint32_t>(kept.size());
    kept.append(id(event)).append(body(event));
    event.place = place;
  }
  bytes_ = std::move(kept);
  garbage_ = 0;
}

std::size_t SessionWindow::StartOf(std::size_t index) const {
  if (index < first_size_) return 0;
  if (index >= last_start_) return last_start_;
  while (!events_[index].starts_session) --index;
  return index;
}

std::size_t SessionWindow::EndOf(std::size_t start) const {
  if (start == 0) return first_size_;
  if (start == last_start_) return events_.size();
  std::size_t end = start + 1;
  while (end < events_.size() && !events_[end].starts_session) ++end;
  return end;
}

void SessionWindow::CountSessions() {
  session_count_ = 0;
  first_size_ = events_.size();
  last_start_ = 0;
  for (std::size_t i = 0; i < events_.size(); ++i) {
    if (!events_[i].starts_session) continue;
    if (++session_count_ == 2) first_size_ = i;
    last_start_ = i;
  }
}

SessionWindow::NewEvent SessionWindow::Told(const SessionShape& shape, std::size_t index) const {
  const OpenEvent& event = events_[index];
  return {.time_ms = event.time_ms,
          .offset = event.offset,
          .segment = event.segment,
          .is_exposure = event.is_exposure,
          .glued = !event.starts_session && !Joins(shape, events_[index - 1].time_ms, event.time_ms),
          .id = id(event),
          .body = body(event)};
}

void SessionWindow::Glue(const OpenEvent* event) {
  const auto index = static_cast<std::size_t>(event - events_.data());
  if (index == 0 || !event->starts_session) return;
  events_[index].starts_session = false;
  CountSessions();
}

void SessionWindow::Reshape(const SessionShape& shape) {
  for (std::size_t i = 1; i < events_.size(); ++i) {
    if (events_[i].starts_session && Joins(shape, events_[i - 1].time_ms, events_[i].time_ms)) events_[i].starts_session = false;
  }
  CountSessions();
  std::size_t in_session = 0;
  for (OpenEvent& event : events_) {
    in_session = event.starts_session ? 1 : in_session + 1;
    if (in_session > static_cast<std::size_t>(shape.max_events) && event.body_bytes > 0) LeaveOut(event);
  }
}

std::int64_t SessionWindow::lowest_offset() const {
  return std::min_element(events_.begin(), events_.end(), [](const OpenEvent& a, const OpenEvent& b) {
           return a.offset < b.offset;
         })->offset;
}

v1::SessionEnd SessionWindow::EndOfFirst(const SessionShape& shape) const {
  const bool goes_on = first_size_ < events_.size() && events_[first_size_].time_ms - earliest_end_ms() <= shape.gap_ms;
  return goes_on ? v1::TRUNCATED : v1::TERMINATED;
}

std::vector<OpenEvent> SessionWindow::NextRequests(const SessionShape& shape) const {
  std::vector<OpenEvent> requests;
  for (std::size_t i = first_size_; i < events_.size(); ++i) {
    const OpenEvent& event = events_[i];
    if (i > first_size_ && event.starts_session) break;
    if (event.time_ms - earliest_end_ms() > shape.gap_ms) break;
    if (!requests.empty() && event.time_ms > requests.front().time_ms) break;
    if (event.is_exposure && event.body_bytes > 0) requests.push_back(event);
  }
  return requests;
}

void SessionWindow::DropFirst() {
  if (session_count_ == 1) {
    events_.clear();
    bytes_.clear();
    garbage_ = 0;
    session_count_ = 0;
    first_size_ = last_start_ = 0;
    ids_.Clear();
    return;
  }
  for (const OpenEvent& event : first()) garbage_ += event.id_bytes + event.body_bytes;
  events_.erase(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(first_size_));
  CountSessions();
  if (garbage_ > kGarbageMin && garbage_ > bytes_.size() / 2) Compact();
  HashIds();
}

void SessionWindow::HashIds() {
  ids_.Clear();
  if (events_.size() <= kManyIds) return;
  for (const OpenEvent& event : events_) ids_.Insert(event.id_hash);
}

std::size_t SessionWindow::memory_bytes() const {
  return events_.capacity() * sizeof(OpenEvent) + bytes_.capacity() + ids_.memory_bytes();
}

void SessionWindow::HashSet::Clear() {
  std::vector<std::uint64_t>().swap(places_);
  taken_ = 0;
}

bool SessionWindow::HashSet::Contains(std::uint64_t hash) const {
  if (hash == 0) hash = 1;
  const std::size_t mask = places_.size() - 1;
  for (std::size_t i = hash & mask; places_[i] != 0; i = (i + 1) & mask) {
    if (places_[i] == hash) return true;
  }
  return false;
}

void SessionWindow::HashSet::Insert(std::uint64_t hash) {
  if ((taken_ + 1) * 2 > places_.size()) {
    std::vector<std::uint64_t> old(std::max<std::size_t>(places_.size() * 2, 4 * kManyIds));
    old.swap(places_);
    taken_ = 0;
    for (const std::uint64_t each : old) {
      if (each != 0) Put(each);
    }
  }
  Put(hash == 0 ? 1 : hash);
}

void SessionWindow::HashSet::Put(std::uint64_t hash) {
  const std::size_t mask = places_.size() - 1;
  std::size_t i = hash & mask;
  while (places_[i] != 0 && places_[i] != hash) i = (i + 1) & mask;
  taken_ += places_[i] == 0 ? 1 : 0;
  places_[i] = hash;
}

}  // namespace fuseline
