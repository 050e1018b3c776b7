#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/proto/event_batch.h"
#include "fuseline/sessionizer/reward.h"
#include "fuseline/sessionizer/session_window.h"
#include "fuseline/v1/session_state.pb.h"
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
  std::optional<v1::TrajectoryName> name;  // Absent when the session has no exposure, or another owner has said it.
  std::string trajectory;                  // With a name: the serialised v1::Trajectory.
  std::uint64_t repeated_exposures = 0;
  std::uint64_t unknown_kinds = 0;
  bool is_stub = false;
};

// Where users live who have been silent for long, while memory is short. Says what its last commit said.
class ColdSessions {
 public:
  virtual ~ColdSessions() = default;
  virtual Result<std::optional<v1::ColdUser>> Find(std::int32_t partition, std::string_view user_id) = 0;
  // Users whose earliest session ends before `bound_ms`: all of them, if there are not more than `max`; otherwise `max` of those
  // behind `after_user_id`, by user id. REQUIRES: none ends before `from_ms`, or is a leftover of uncommitted changes.
  struct DueUsers {
    std::vector<v1::ColdUser> users;
    bool all = true;
    std::int64_t next_end_ms = std::numeric_limits<std::int64_t>::max();  // With all: the earliest end of the others.
  };
  virtual Result<DueUsers> Due(std::int32_t partition, std::int64_t from_ms, std::int64_t bound_ms, std::string_view after_user_id,
                               std::size_t max) = 0;
};

// How the saved sessions of a partition change with the next commit. Views are valid until the next call that is not const.
struct SessionChanges {
  struct Segment {
    std::uint32_t number = 0;
    std::string_view bytes;
  };
  std::vector<Segment> segments;                    // To be written.
  std::vector<std::uint32_t> dead_segments;         // To be dropped.
  std::vector<v1::ColdUser> cooled;                 // To be written; they leave memory once saved.
  std::vector<std::pair<std::string, std::int64_t>> warmed;  // Cold users to be dropped: id, earliest end.
  std::vector<v1::CommitPoint> points;              // To be written, before those that are
  std::vector<std::int64_t> dead_points;            // to be dropped, by offset.
};

class Journal;
class UserTable;

// The sessions of ONE partition: judges each record, moves stream time, closes what is due, keeps the account.
//
// Where: the whole middle of the sessionizer. Sessionizer persists it; `fuseline sessions` uses it bare.
// No clock and no threads; I/O only through ColdSessions. What it says is a function of the records alone, so a replay after a
// crash says it again under the same names. Thread-compatible; the owner of the partition is the only caller.
//
// - Stream time is the largest event time of accepted events and valid ticks. Late is older than stream time -
//   lateness, as stream time was before the record. A late resend is late, not a duplicate; neither moves anything.
// - A tick is void unless its predecessor_offset is the offset of the record just before it, whatever that record was; -1 where
//   there was none.
// - A settings record with a greater version than that in force takes effect at once: open sessions join under it, what is due
//   under it closes. What was late stays late: nothing is taught twice because lateness grew.
// - A record may close sessions, and itself be in none of them. They are closed after it is judged, by (user id, first
//   event), all under its offset. A name's ordinal counts the sessions with an exposure.
// - The identity read = used + pending + duplicate + late + orphan + malformed + quarantined + control holds after
//   each record. Events past max_events become `used`, whatever they were.
// Cost: a hash look-up, two copies of the event's bytes, amortised O(log users) for a closing.
class PartitionSessions {
 public:
  // `cold` is borrowed; null: everything stays in memory.
  PartitionSessions(std::int32_t partition, const SessionShape& shape, std::int64_t max_trajectory_bytes, ColdSessions* cold = nullptr);
  ~PartitionSessions();

  // Takes one record. REQUIRES: record.offset >= state().next_offset(), not state().finished(), nothing is closing.
  // Errors: kInvalidInput for rules of an unknown format, and where a rebuilt partition is not what its metadata says; those of
  //         ColdSessions. After any, nothing has changed and the record may be given again.
  Result<Verdict> Judge(const Record& record);
  // The next records: fetches what judging them will touch of memory. With many users that is in no cache, and most of what an event
  // costs is waiting for it; here it is waited for all at once. Changes nothing; looks at kPrefetchMax of them at most.
  static constexpr std::size_t kPrefetchMax = 16;
  void Prefetch(std::span<const Record> next) const;

  // Whether the record before has sessions to close.
  bool closing() const { return state_.has_closing(); }
  // The next closings that are due, of at most about `users_max` users, in the order of their names. REQUIRES: closing().
  // Errors: those of ColdSessions; may be called again.
  Result<std::vector<Closing>> Close(std::size_t users_max);

  // The two above for those who need neither bounds nor cold sessions.
  struct Processed {
    Verdict verdict = Verdict::kControl;
    std::vector<Closing> closings;
  };
  Result<Processed> Process(const Record& record);

  // Nothing below `offset` will come: skips holes in the log, and ends a rebuild that has got to where it should, so that a
  // partition may be silent from there. REQUIRES: nothing is closing. Errors: kInvalidInput as Judge.
  Status AdvanceTo(std::int64_t offset);

  // The end of a finite input: what is open is closing, as flushed, by (user id, first event), named with next_offset. A second
  // call does nothing. REQUIRES: nothing is closing.
  void BeginFlush();
  Result<std::vector<Closing>> Flush();  // And all that closes.

  const v1::PartitionState& state() const { return state_; }
  const v1::SessionRules& rules() const { return state_.rules(state_.rules_size() - 1); }
  bool rebuilding() const { return state_.has_rebuilding(); }

  // A point not above the oldest event of any open session, as it stood there; one at next_offset when nothing is open.
  v1::CommitPoint low_water() const;

  // The open sessions of a user, for somebody to look at. Errors: those of ColdSessions.
  Result<SessionWindow> Look(std::string_view user_id);

  // Memory of the open sessions in bytes, about.
  std::size_t memory_bytes() const;
  std::size_t unsaved_bytes() const;  // Of these: what the next commit writes.

  // A stored segment whose live rest should be written again, with its bytes given to Rewrite before Changes is called.
  std::optional<std::uint32_t> worth_rewriting() const;
  Status Rewrite(std::uint32_t number, std::string_view bytes);

  // What the next commit writes. Users are cooled, the longest silent first, until `memory_bytes` is no more than `memory_max`; never
  // without a ColdSessions. May be asked again when saving failed.
  SessionChanges Changes(std::size_t memory_max);
  void ChangesSaved();
  void Forget();  // For those who save nothing: as if it had been saved.

  // Beginning elsewhere than with nothing, before anything else is called. Stored: the state, then all points, cold users and
  // segments, in the order of their keys, then RestoreDone. Moved here: BeginRebuild alone.
  void RestoreState(v1::PartitionState state);
  void RestorePoint(const v1::CommitPoint& point);
  Status RestoreCold(const v1::ColdUser& user);  // Without its events.
  Status RestoreSegment(std::uint32_t number, std::string_view bytes);
  Status RestoreDone();
  // From the low water of `metadata`, or from where the state stands when that is further, up to `until_offset`.
  // Errors: kInvalidInput if the metadata says something impossible, or as Judge.
  Status BeginRebuild(std::int64_t until_offset, const v1::OffsetMetadata& metadata);

 private:
  using Slot = std::uint32_t;
  struct User {
    User(std::string_view user_id, std::uint64_t hash);
    std::string id;
    std::uint64_t hash;
    SessionWindow window;
    std::int64_t timer_ms;      // Key of its valid entry in timers_.
    std::uint64_t low_point = 0;  // Number of the newest commit point not above its oldest event.
    bool touched = true;        // Since the hand passed it last.
    bool due = false;           // In due_.
  };
  struct Point {
    v1::CommitPoint point;
    std::uint64_t users = 0;  // With open sessions that need it.
    bool saved = false;
  };
  using Agenda = std::priority_queue<std::pair<std::int64_t, Slot>, std::vector<std::pair<std::int64_t, Slot>>, std::greater<>>;
  struct StringHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view id) const { return std::hash<std::string_view>()(id); }
  };

  std::int64_t late_before_ms() const;
  std::int64_t closing_bound_ms() const;
  Result<Verdict> JudgeControl(const Record& record);
  void BeginRecord(std::int64_t offset);
  void EndRecord(std::int64_t offset, std::int64_t bound_before_ms);
  void Obey(const v1::SessionRules& rules);
  Verdict Accept(const Record& record, Slot slot);
  bool AddOpen(Slot slot, const SessionWindow::NewEvent& event);
  void WriteAgain(User& user);

  void SetTimer(Slot slot);
  void GatherDue(std::int64_t bound_ms);
  void PrefetchNextDue();
  void SortDue();
  Status WarmDue(std::int64_t bound_ms, std::size_t users_max);
  void CloseUser(Slot slot, std::int64_t bound_ms, std::vector<Closing>* closings);
  Closing CloseFirst(User& user, v1::SessionEnd end);
  void JoinClosing(const SessionWindow& window, std::span<const JoinedEvent> events, Closing* closing);
  void EndClosing();

  Slot FindSlot(std::string_view user_id, std::uint64_t hash) const;
  Slot NewUser(std::string_view user_id, std::uint64_t hash);
  void RemoveUser(Slot slot);
  Result<Slot> Warm(std::string_view user_id);
  Result<Slot> WarmUser(const v1::ColdUser& cold);
  Result<SessionWindow> WindowOf(const v1::ColdUser& cold) const;
  v1::ColdUser Cooled(const User& user) const;
  void CoolUntil(std::size_t memory_max, std::vector<v1::ColdUser>* cooled);

  v1::CommitPoint PointAt(std::int64_t offset) const;
  void AddPoint(std::int64_t offset);
  void MaybeAddPoint();
  std::uint64_t PointNumberFor(std::int64_t offset) const;
  std::uint64_t TakePointFor(std::int64_t offset);
  void ReleasePoint(std::uint64_t number);
  std::size_t LowestPoint() const;
  void BarPointsAfter(std::uint64_t number);
  void DropPoints();

  Status RestoreEvent(std::uint32_t number, std::string_view user_id, SessionWindow::NewEvent event);
  void DropClosed(User& user);
  Status FinishRebuildBefore(std::int64_t offset);

  const std::int32_t partition_;
  const std::int64_t max_trajectory_bytes_;
  ColdSessions* const cold_;
  v1::PartitionState state_;
  SessionShape shape_;  // In force.

  std::unique_ptr<UserTable> slot_of_user_;
  std::deque<std::optional<User>> users_;  // By slot.
  std::vector<Slot> free_slots_;
  Agenda timers_;  // By the end of the user's earliest session. May be too early, never too late; a void entry is not its user's any more.
  std::unique_ptr<Journal> journal_;
  std::deque<Point> points_;  // By offset.
  std::uint64_t first_point_ = 0;  // Number of the first.
  std::vector<std::int64_t> dead_points_;
  std::size_t users_memory_ = 0;  // Of their windows and ids.

  std::vector<Slot> due_;  // The next to be closed, the last first.
  bool all_due_ = false;   // Nobody is due but those.
  std::string due_through_;  // Else: nobody up to this user id.
  Slot fetched_due_ = 0;     // Whom PrefetchNextDue has seen last.

  std::uint64_t cold_users_ = 0;
  std::int64_t cold_end_ms_ = std::numeric_limits<std::int64_t>::max();  // No cold session ends before; may be too early.
  std::unordered_map<std::string, std::int64_t, StringHash, std::equal_to<>> warmed_;  // Since the last commit; their earliest end in the store.
  std::vector<Slot> cooling_;  // Users of the commit under way.
  std::size_t hand_ = 0;       // Where the search for silent users goes on.
  std::uint64_t restored_events_ = 0;
  bool rules_changed_ = false;       // By the record under way.
  std::vector<JoinedEvent> joined_;  // Of the session that closes; kept for its memory.
};

}  // namespace fuseline
