#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fuseline/proto/event_batch.h"
#include "fuseline/sessionizer/session_window.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// What became of one record. The first that applies, in this order.
enum class Verdict { kControl, kMalformed, kQuarantined, kLate, kDuplicate, kAccepted };

// One session, closed.
struct Closing {
  std::string user_id;
  std::int64_t first_ms = 0;
  std::int64_t last_ms = 0;
  std::uint64_t events = 0;  // Accepted ones: feedback and what is past max_events included.
  v1::SessionEnd end = v1::TERMINATED;
  std::optional<v1::Trajectory> trajectory;  // Named; absent when the session has no exposure.
  std::uint64_t repeated_exposures = 0;
  std::uint64_t unknown_kinds = 0;
};

// Everything about a partition that is not an open session.
struct PartitionState {
  std::int64_t next_offset = 0;       // Records below have been processed.
  std::int64_t previous_offset = -1;  // Of the last record processed; -1: none.
  std::int64_t stream_time_ms = kBeforeTimeMs;
  bool finished = false;  // Flushed: the input has ended.
  v1::Accounting accounting;
  std::optional<v1::TrajectoryName> last_name;
};

// How a user's saved events changed since the last ChangesSaved(). Saved are chunks of events, numbered
// upwards: most changes append one; a closing drops them all and may begin again with what is still open.
struct UserChange {
  std::string_view user_id;
  std::uint32_t drop_begin = 0, drop_end = 0;  // Chunks [drop_begin, drop_end) are no longer true.
  std::uint32_t chunk = 0;                     // The new one, when there are bytes.
  std::string_view bytes;                      // By EncodeOpenEvent. Empty: none.
};

// The sessions of ONE partition: judges each record, moves stream time, closes what is due, keeps the account.
//
// Where: the whole middle of the sessionizer. Sessionizer persists it; `fuseline sessions` uses it bare.
// Pure: no clock, I/O or threads. What it says is a function of the records alone, so a replay after a crash says it
// again under the same names. Thread-compatible; the owner of the partition is the only caller.
//
// - Stream time is the largest event time of accepted events and valid ticks. Late is older than stream time -
//   lateness, as stream time was before the record. A late resend is late, not a duplicate; neither moves anything.
// - A tick is void unless its predecessor_offset is the offset of the record just before it, whatever that record was. Session
//   rules are counted as control and not applied.
// - A record may close sessions, and itself be in none of them. They are closed after it is judged, by (user id, first
//   event), all under its offset. A name's ordinal counts the sessions with an exposure.
// - The identity read = used + pending + duplicate + late + orphan + malformed + quarantined + control holds after
//   each call. Events past max_events become `used`, whatever they were.
// Cost: a hash look-up, one serialisation of the event, amortised O(log users) for a closing.
class PartitionSessions {
 public:
  PartitionSessions(std::int32_t partition, const SessionShape& shape, std::int64_t max_trajectory_bytes);

  struct Processed {
    Verdict verdict = Verdict::kControl;
    std::vector<Closing> closings;
  };
  // REQUIRES: record.offset >= state().next_offset, and not state().finished. The event of an accepted record is
  // consumed; any other keeps its id.
  Processed Process(Record& record);

  // Skips holes in the log: nothing below `offset` will come.
  void AdvanceTo(std::int64_t offset);

  // The end of a finite input: closes every open session as flushed, by (user id, first event), named with next_offset.
  // A second call does nothing.
  std::vector<Closing> Flush();

  const PartitionState& state() const { return state_; }
  std::uint64_t open_sessions() const { return open_sessions_; }

  // Of the open event with the lowest offset; nullopt when nothing is open.
  struct LowWater {
    std::int64_t offset, previous_offset, stream_before_ms;
  };
  std::optional<LowWater> low_water();

  // By user id. Views are valid until the next call that is not const. May be called again when saving failed.
  std::vector<UserChange> Changes();
  void ChangesSaved();

  // Rebuilding, before anything else is called: the state, then every saved chunk.
  void RestoreState(PartitionState state) { state_ = std::move(state); }
  void RestoreChunk(std::string_view user_id, std::uint32_t chunk, std::vector<OpenEvent> events);

 private:
  using Slot = std::uint32_t;
  struct User {
    User(std::string_view user_id, std::int64_t cut_phase_ms) : id(user_id), window(cut_phase_ms) {}
    std::string id;
    SessionWindow window;
    std::int64_t timer_ms = kNoTimer;      // Key of its valid entry in timers_.
    std::int64_t low_offset = kNoOffset;   // Key of its valid entry in low_offsets_.
    std::uint32_t chunk_begin = 0, chunk_end = 0;  // Saved.
    bool chunks_stale = false;
    bool dirty = false;
    std::string unsaved;  // Encoded, of events since the last save.
  };
  static constexpr std::int64_t kNoTimer = std::numeric_limits<std::int64_t>::max();
  static constexpr std::int64_t kNoOffset = -1;
  // (key, user), the smallest key first. An entry whose key is not its user's any more is void.
  using Agenda = std::priority_queue<std::pair<std::int64_t, Slot>, std::vector<std::pair<std::int64_t, Slot>>, std::greater<>>;

  Verdict Judge(Record& record);
  Verdict Accept(Record& record);
  void AddOpen(Slot slot, OpenEvent event);
  void SetAgenda(Slot slot);
  void MarkDirty(Slot slot);
  std::vector<Closing> CloseDue(std::int64_t offset);
  void CloseOf(Slot slot, std::vector<ClosedSession> sessions, std::int64_t offset, std::vector<Closing>* closings);
  void GiveName(std::int64_t offset, v1::Trajectory* trajectory);
  Slot SlotOf(std::string_view user_id);
  void SortByUser(std::vector<Slot>* slots) const;

  struct IdHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view id) const { return std::hash<std::string_view>()(id); }
  };

  const std::int32_t partition_;
  const SessionShape shape_;
  const std::int64_t max_trajectory_bytes_;
  PartitionState state_;
  std::unordered_map<std::string, Slot, IdHash, std::equal_to<>> slot_of_user_;
  std::deque<std::optional<User>> users_;  // By slot.
  std::vector<Slot> free_slots_;
  Agenda timers_;       // By the end of the user's earliest session.
  Agenda low_offsets_;  // By the lowest offset among the user's open events.
  std::vector<Slot> dirty_;
  std::vector<std::string> rewritten_;  // Bytes behind the last Changes().
  std::uint64_t open_sessions_ = 0;
};

}  // namespace fuseline
