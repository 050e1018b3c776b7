#include "outbox.h"

#include <tuple>
#include <utility>

#include "session_codec.h"

namespace fuseline {

v1::TrajectoryName Outbox::NameOf(const Place& place) const {
  v1::TrajectoryName name;
  name.set_partition(partition_);
  name.set_offset(place.offset);
  name.set_ordinal(place.ordinal);
  return name;
}

void Outbox::Add(const v1::TrajectoryName& name, std::string_view bytes) {
  AppendToPage({.offset = name.offset(), .ordinal = name.ordinal(), .bytes = bytes}, &filling_);
  filling_places_.push_back({name.offset(), name.ordinal()});
  ++size_;
}

std::optional<Outbox::UnsavedPage> Outbox::unsaved() const {
  if (filling_.empty()) return std::nullopt;
  return UnsavedPage{next_number_, filling_};
}

void Outbox::Saved(std::size_t kept_bytes_max) {
  dropped_.clear();
  if (filling_.empty()) return;
  Page& page = pages_.emplace_back();
  page.number = next_number_++;
  page.places = std::exchange(filling_places_, {});
  if (kept_bytes_ + filling_.size() <= kept_bytes_max) {
    kept_bytes_ += filling_.size();
    page.bytes = std::move(filling_);
  }
  filling_.clear();
}

Status Outbox::Restore(std::uint64_t number, std::string_view bytes) {
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<PagedTrajectory> trajectories, DecodePage(bytes));
  Page& page = pages_.emplace_back();
  page.number = number;
  for (const PagedTrajectory& each : trajectories) page.places.push_back({each.offset, each.ordinal});
  size_ += page.places.size();
  next_number_ = number + 1;
  return OkStatus();
}

void Outbox::Acknowledge(const v1::TrajectoryName& name) {
  while (!pages_.empty()) {
    Page& page = pages_.front();
    while (page.acknowledged < page.places.size()) {
      const Place& place = page.places[page.acknowledged];
      if (std::pair(place.offset, place.ordinal) > std::pair(name.offset(), name.ordinal())) return;
      ++page.acknowledged;
      --size_;
    }
    dropped_.push_back(page.number);
    kept_bytes_ -= page.bytes.size();
    pages_.pop_front();
  }
}

std::optional<v1::TrajectoryName> Outbox::first() const {
  if (!pages_.empty()) return NameOf(pages_.front().places[pages_.front().acknowledged]);
  if (!filling_places_.empty()) return NameOf(filling_places_.front());
  return std::nullopt;
}

Result<std::vector<OutboxEntry>> Outbox::Take(const std::optional<v1::TrajectoryName>& after, std::size_t max,
                                                const std::function<Result<std::string>(std::uint64_t number)>& read) const {
  std::vector<OutboxEntry> entries;
  const auto is_after = [&](std::int64_t offset, std::uint32_t ordinal) {
    return !after || std::pair(offset, ordinal) > std::pair(after->offset(), after->ordinal());
  };
  for (const Page& page : pages_) {
    if (entries.size() == max) break;
    if (!is_after(page.places.back().offset, page.places.back().ordinal)) continue;
    std::string fetched;
    if (page.bytes.empty()) {
      FUSELINE_ASSIGN_OR_FAIL(fetched, read(page.number));
    }
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<PagedTrajectory> all, DecodePage(page.bytes.empty() ? fetched : page.bytes));
    for (std::size_t i = page.acknowledged; i < all.size() && entries.size() < max; ++i) {
      if (is_after(all[i].offset, all[i].ordinal)) entries.push_back({NameOf({all[i].offset, all[i].ordinal}), std::string(all[i].bytes)});
    }
  }
  return entries;
}

}  // namespace fuseline
