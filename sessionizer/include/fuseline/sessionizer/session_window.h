#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// What shapes sessions. REQUIRES, everywhere: 0 <= each <= kShapeMaxMs, max_events >= 1.
struct SessionShape {
  std::int64_t gap_ms = 0;        // A silence longer than this ends a session; one as long as this does not.
  std::int64_t lateness_ms = 0;   // An event older than stream time by more is late.
  std::int64_t cut_every_ms = 0;  // Distance of a user's cut lines; 0: none.
  std::int64_t max_events = 2000;
  bool operator==(const SessionShape&) const = default;
};
inline constexpr std::int64_t kShapeMaxMs = 1'000'000'000'000'000;  // Keeps every sum of times within 64 bits.
inline constexpr std::uint32_t kSessionRulesFormat = 1;  // Of the rules records that this program writes and knows.

SessionShape ShapeOf(const v1::Sessionizer& settings);
SessionShape ShapeOf(const v1::SessionRules& rules);
v1::SessionRules RulesOf(std::uint64_t version, const SessionShape& shape);

// Where the user's cut lines lie: at k * cut_every_ms + phase, for every k. `user_hash` is Fnv1a64 of the user id. 0 without lines.
std::int64_t CutPhase(std::uint64_t user_hash, std::int64_t cut_every_ms);

// One accepted event of a session that is open. Its id and body lie in its window's bytes.
struct OpenEvent {
  std::int64_t time_ms = 0;  // Event time.
  std::int64_t offset = 0;   // Of its record.
  std::uint64_t id_hash = 0;
  std::uint32_t segment = 0;     // The journal segment that holds it.
  std::uint32_t place = 0;       // Of the id; the body follows it.
  std::uint32_t body_bytes = 0;  // 0: left out by max_events.
  std::uint32_t id_bytes : 30 = 0;
  bool is_exposure : 1 = false;
  bool starts_session : 1 = false;
};

// The open sessions of ONE user: events split at silences longer than the gap, never across a cut line. An event at a
// cut line's instant is the first of its cell.
//
// Where: between the judging of records (PartitionSessions), which is the only caller, and the rewards.
// Pure: no clock, I/O or threads. Under one shape, what it holds is a function of the set of events added, not of their order:
// so a store may keep the events alone. When the shape changes, sessions may join and never split. Thread-compatible.
// Cost: an event in order O(1), plus the search for its id: linear over hashes up to 64 open events, then a hash set.
class SessionWindow {
 public:
  explicit SessionWindow(std::uint64_t user_hash) : user_hash_(user_hash) {}

  // The event with this id of an open session; null: none. `time_ms` is where it is looked for first.
  const OpenEvent* FindId(std::int64_t time_ms, std::string_view id) const;

  // Makes ready what FindId and Add will touch of an event with this id at the end. Changes nothing.
  void Prefetch(std::string_view id) const;
  void PrefetchFirst() const;  // The same for closing the first session.

  struct NewEvent {
    std::int64_t time_ms = 0, offset = 0;
    std::uint32_t segment = 0;
    bool is_exposure = false;
    bool glued = false;  // Belongs to the session of the event before it, however far that is: a former shape joined them.
    std::string_view id;
    std::string_view body;  // Empty: it was left out before.
  };
  // An event within an open session joins it; any other joins what lies within the gap, at most two sessions, which then are
  // one. Past max_events, the last in event order lose their body. Returns whether the new one kept its body.
  // REQUIRES: the event is not late and its id not contained.
  bool Add(const SessionShape& shape, const NewEvent& event);

  // The event at `index`, as Add would have to be told of it, those before it first, to hold the same again.
  NewEvent Told(const SessionShape& shape, std::size_t index) const;
  // What Add would have done had it been told that the event is glued. REQUIRES: it is in events().
  void Glue(const OpenEvent* event);

  // A new shape is in force: joins neighbours that are now within the gap, and leaves out what is past the new max_events.
  void Reshape(const SessionShape& shape);

  bool empty() const { return events_.empty(); }
  std::size_t session_count() const { return session_count_; }
  std::span<const OpenEvent> events() const { return events_; }  // By (time, id).
  std::span<const OpenEvent> first() const { return events().first(first_size_); }
  // REQUIRES: not empty.
  std::int64_t earliest_end_ms() const { return events_[first_size_ - 1].time_ms; }
  std::int64_t lowest_offset() const;  // Linear.

  // How the first session ends when it closes by time: truncated when its user went on within the gap behind a cut line.
  v1::SessionEnd EndOfFirst(const SessionShape& shape) const;
  // When that is truncated: the earliest exposures of the user's next session (several only at one instant), if not further than
  // the gap from the first's last event. Only up to there is the log final when the first closes, so that they, too, do
  // not depend on the order of arrival.
  std::vector<OpenEvent> NextRequests(const SessionShape& shape) const;
  void DropFirst();

  std::string_view id(const OpenEvent& event) const { return {bytes_.data() + event.place, event.id_bytes}; }
  std::string_view body(const OpenEvent& event) const {
    return {bytes_.data() + event.place + event.id_bytes, event.body_bytes};
  }

  // The event of that record, for the journal to say where it lies now; null if it is not open.
  OpenEvent* Find(std::int64_t offset, std::int64_t time_ms, std::string_view id);
  std::span<OpenEvent> mutable_events() { return events_; }  // For their segments only.

  std::size_t memory_bytes() const;  // Of what it holds, itself not included.

 private:
  // 64-bit hashes of ids; open addressing, a power of two of places, at most half of them taken. 0 stands for a free one.
  class HashSet {
   public:
    bool empty() const { return places_.empty(); }
    void Clear();
    bool Contains(std::uint64_t hash) const;
    void Prefetch(std::uint64_t hash) const { __builtin_prefetch(&places_[hash & (places_.size() - 1)]); }
    void Insert(std::uint64_t hash);
    std::size_t memory_bytes() const { return places_.capacity() * sizeof(std::uint64_t); }

   private:
    void Put(std::uint64_t hash);
    std::vector<std::uint64_t> places_;
    std::size_t taken_ = 0;
  };

  std::int64_t SinceCutLine(const SessionShape& shape, std::int64_t time_ms) const;
  bool Joins(const SessionShape& shape, std::int64_t earlier_ms, std::int64_t later_ms) const;
  std::size_t PlaceFor(std::int64_t time_ms, std::string_view id) const;
  std::size_t StartOf(std::size_t index) const;
  std::size_t EndOf(std::size_t start) const;
  void CountSessions();
  void LeaveOut(OpenEvent& event);
  void LeaveOutPast(std::size_t limit, std::size_t index, bool joined);
  void Compact();
  void HashIds();

  std::uint64_t user_hash_;
  std::vector<OpenEvent> events_;
  std::string bytes_;
  std::uint32_t garbage_ = 0;  // Bytes of no event.
  std::uint32_t session_count_ = 0;
  std::size_t first_size_ = 0;  // Events of the first session.
  std::size_t last_start_ = 0;  // Where the last session begins.
  HashSet ids_;  // Once there are many; may hold more than is open, never less.
};

}  // namespace fuseline
