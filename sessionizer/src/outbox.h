#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/sessionizer/sessionizer.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// Finished trajectories of ONE partition that nobody has acknowledged yet, in the order of their names, a page a commit. All of
// them are in the store; the bytes of the oldest are also kept here as far as there is room, since they are asked for first.
class Outbox {
 public:
  explicit Outbox(std::int32_t partition) : partition_(partition) {}

  void Add(const v1::TrajectoryName& name, std::string_view bytes);

  // What a commit has to write and to drop. May be asked again when writing failed.
  struct UnsavedPage {
    std::uint64_t number = 0;
    std::string_view bytes;
  };
  std::optional<UnsavedPage> unsaved() const;
  const std::vector<std::uint64_t>& dropped() const { return dropped_; }
  void Saved(std::size_t kept_bytes_max);

  Status Restore(std::uint64_t number, std::string_view bytes);

  // Up to `name` they need not be kept any more: a page goes with the next commit when all of it is acknowledged.
  void Acknowledge(const v1::TrajectoryName& name);
  std::uint64_t size() const { return size_; }  // Not acknowledged, committed or not.
  std::optional<v1::TrajectoryName> first() const;
  bool changed() const { return !filling_.empty() || !dropped_.empty(); }
  std::size_t filling_bytes() const { return filling_.size(); }
  std::size_t kept_bytes() const { return kept_bytes_ + fetched_.size(); }

  // Committed ones from just behind `after`, at most `max`. `read` gives the bytes of a page that are not kept here;
  // those of the last one are, since pages are taken a few at a time.
  Result<std::vector<OutboxEntry>> Take(const std::optional<v1::TrajectoryName>& after, std::size_t max,
                                        const std::function<Result<std::string>(std::uint64_t number)>& read);

 private:
  struct Place {
    std::int64_t offset = 0;
    std::uint32_t ordinal = 0;
    std::uint32_t begin = 0;  // In the page's bytes.
  };
  struct Page {
    std::uint64_t number = 0;
    std::vector<Place> places;
    std::size_t acknowledged = 0;  // Of places, from the first.
    std::string bytes;             // Empty: not kept.
  };
  v1::TrajectoryName NameOf(const Place& place) const;

  const std::int32_t partition_;
  std::deque<Page> pages_;  // Committed.
  std::vector<Place> filling_places_;
  std::string filling_;
  std::uint64_t next_number_ = 0;
  std::vector<std::uint64_t> dropped_;
  std::uint64_t size_ = 0;
  std::size_t kept_bytes_ = 0;
  std::string fetched_;  // The bytes of one page that are not kept there, or nothing.
  std::uint64_t fetched_number_ = 0;
};

}  // namespace fuseline
