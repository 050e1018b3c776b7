#include "journal.h"

#include <algorithm>
#include <utility>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

std::uint64_t BytesPerEvent(std::uint32_t bytes, std::uint32_t events) { return events == 0 ? 0 : bytes / events; }

}  // namespace

void Journal::Append(std::string_view user_id, const SessionWindow::NewEvent& event) {
  const std::size_t before = filling_.size();
  encoder_.Put(user_id, event, &filling_);
  unsaved_bytes_ += filling_.size() - before;
  ++segments_.back().alive;
  ++segments_.back().appended;
  if (filling_.size() >= kSegmentBytes) Seal();
}

void Journal::Seal() {
  Life& life = segments_.back();
  if (life.alive == 0) {  // All of it has closed since the last commit, or there was nothing: never written.
    unsaved_bytes_ -= filling_.size();
    filling_.clear();
    encoder_ = EventEncoder();
    life = Life();
    return;
  }
  life.bytes = static_cast<std::uint32_t>(filling_.size());
  stored_bytes_ += life.bytes;
  alive_bytes_ += BytesPerEvent(life.bytes, life.appended) * life.alive;
  unsaved_.push_back({current(), std::exchange(filling_, {})});
  StartSegment();
}

void Journal::StartSegment() {
  segments_.emplace_back();
  encoder_ = EventEncoder();
  if (!unsaved_.empty()) filling_.reserve(unsaved_.back().bytes.size());  // The next is likely to be as long.
}

void Journal::Died(std::uint32_t number) {
  Life& life = LifeOf(number);
  FUSELINE_CHECK(life.alive > 0);
  --life.alive;
  if (number == current()) return;
  alive_bytes_ -= BytesPerEvent(life.bytes, life.appended);
  if (life.alive == 0) Bury(number);
}

void Journal::Bury(std::uint32_t number) {
  Life& life = LifeOf(number);
  stored_bytes_ -= life.bytes;
  if (life.stored) {
    dead_.push_back(number);
    return;
  }
  std::erase_if(unsaved_, [&](const Segment& segment) { return segment.number == number; });
  unsaved_bytes_ -= life.bytes;
}

void Journal::Saved() {
  for (const Segment& segment : unsaved_) LifeOf(segment.number).stored = true;
  stored_segments_ += unsaved_.size();
  unsaved_.clear();
  unsaved_bytes_ = filling_.size();
  for (const std::uint32_t number : dead_) LifeOf(number).stored = false;
  stored_segments_ -= dead_.size();
  dead_.clear();
  while (segments_.size() > 1 && segments_.front().alive == 0 && !segments_.front().stored) {
    segments_.pop_front();
    ++begin_;
  }
}

std::optional<std::uint32_t> Journal::worth_rewriting() const {
  const bool wasteful = stored_bytes_ > kRewriteBytesMin && alive_bytes_ * 2 < stored_bytes_;
  if (!wasteful && stored_segments_ <= kSegmentsMax) return std::nullopt;
  const auto oldest = std::find_if(segments_.begin(), segments_.end(), [](const Life& life) { return life.stored && life.alive > 0; });
  if (oldest == segments_.end()) return std::nullopt;
  return begin_ + static_cast<std::uint32_t>(oldest - segments_.begin());
}

void Journal::Restore(std::uint32_t number, std::size_t bytes, std::uint32_t events) {
  if (stored_segments_ == 0) {
    segments_.clear();
    begin_ = number;
  }
  segments_.resize(number - begin_);
  segments_.push_back({.appended = events, .bytes = static_cast<std::uint32_t>(bytes), .stored = true});
  stored_bytes_ += bytes;
  ++stored_segments_;
}

void Journal::Restored() {
  for (std::uint32_t i = 0; i < segments_.size(); ++i) {
    const Life& life = segments_[i];
    if (!life.stored) continue;
    alive_bytes_ += BytesPerEvent(life.bytes, life.appended) * life.alive;
    if (life.alive == 0) Bury(begin_ + i);
  }
  if (stored_segments_ > 0) StartSegment();
}

}  // namespace fuseline
