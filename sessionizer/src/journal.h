#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/sessionizer/session_window.h"
#include "session_codec.h"

namespace fuseline {

// Which journal segments of ONE partition hold events that are still open. A segment is the accepted events of one commit in
// the order of their arrival; it is written once and never changed. When none of its events is open, it is dropped.
//
// So a session costs no write of its own: not when an event joins it, nor when it closes. What keeps a segment alive though
// nearly all of it is dead (a session of many hours) is written again into the newest one, and the old one goes.
class Journal {
 public:
  struct Segment {
    std::uint32_t number = 0;
    std::string bytes;
  };

  // Of the segment that is being filled; events appended now belong to it.
  std::uint32_t current() const { return begin_ + static_cast<std::uint32_t>(segments_.size()) - 1; }
  void Append(std::string_view user_id, const SessionWindow::NewEvent& event);
  void Died(std::uint32_t number);  // One of its events is not open any more, or lies elsewhere now.

  // What a commit has to write and to drop. May be asked again when writing failed.
  const std::vector<Segment>& unsaved() const { return unsaved_; }
  const std::vector<std::uint32_t>& dead() const { return dead_; }
  // Seals what was appended, so that unsaved() has it.
  void Seal();
  void Saved();

  // The oldest stored segment, when most of what the journal holds is dead or there are too many segments.
  std::optional<std::uint32_t> worth_rewriting() const;

  // Rebuilding: a stored segment, in ascending order of numbers. Its events count as alive by Revive.
  void Restore(std::uint32_t number, std::size_t bytes, std::uint32_t events);
  void Revive(std::uint32_t number) { ++LifeOf(number).alive; }
  void Moved(std::uint32_t number) { --LifeOf(number).alive; }  // A copy of a revived event lies in a later segment.
  void Restored();  // All were restored: those without an open event are dead.

  std::size_t unsaved_bytes() const { return unsaved_bytes_; }
  std::size_t memory_bytes() const { return unsaved_bytes_ + segments_.size() * sizeof(Life); }

 private:
  struct Life {
    std::uint32_t alive = 0, appended = 0;
    std::uint32_t bytes = 0;
    bool stored = false;
  };
  static constexpr std::size_t kSegmentBytes = 8 << 20;
  static constexpr std::size_t kRewriteBytesMin = 64 << 20;
  static constexpr std::size_t kSegmentsMax = 16'384;

  Life& LifeOf(std::uint32_t number) { return segments_[number - begin_]; }
  void Bury(std::uint32_t number);
  void StartSegment();

  std::deque<Life> segments_{1};  // The last one is being filled.
  std::uint32_t begin_ = 0;       // Number of the first.
  std::string filling_;
  EventEncoder encoder_;
  std::vector<Segment> unsaved_;
  std::vector<std::uint32_t> dead_;  // Stored, and to be dropped.
  std::size_t unsaved_bytes_ = 0;
  std::uint64_t stored_bytes_ = 0, stored_segments_ = 0;
  std::uint64_t alive_bytes_ = 0;  // About: a segment's bytes are taken as shared evenly by its events.
};

}  // namespace fuseline
