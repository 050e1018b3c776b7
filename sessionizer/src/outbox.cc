#include "outbox.h"

#include <algorithm>
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
  filling_places_.push_back({name.offset(), name.ordinal(), static_cast<std::uint32_t>(filling_.size())});
  AppendToPage({.offset = name.offset(), .ordinal = name.ordinal(), .bytes = bytes}, &filling_);
  ++size_;
}

std::optional<Outbox::UnsavedPage> Outbox::unsaved() const {
  if (filling_.empty()) return std::nullopt;
  return UnsavedPage{next_number_, filling_};
}

void Outbox::Saved(std::size_t kept_bytes_max) {
  dropped_.clear();
  const std::size_t bytes = filling_.size(), places = filling_places_.size();
  if (bytes > 0) {
    Page& page = pages_.emplace_back();
    page.number = next_number_++;
    page.places = std::exchange(filling_places_, {});
    if (kept_bytes_ + bytes <= kept_bytes_max) {
      kept_bytes_ += bytes;
      page.bytes = std::exchange(filling_, {});
      if (page.bytes.capacity() > 2 * bytes) page.bytes.shrink_to_fit();
    }
  }
  // The next is likely to be as long. What is ready for it is in no account, so it must be little, and nothing in a silent partition.
  const bool ready = bytes <= kept_bytes_max / 4;
  std::string().swap(filling_);
  filling_.reserve(ready ? bytes : 0);
  filling_places_.reserve(ready ? places : 0);
}

Status Outbox::Restore(std::uint64_t number, std::string_view bytes) {
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<PagedTrajectory> trajectories, DecodePage(bytes));
  Page& page = pages_.emplace_back();
  page.number = number;
  const char* begin = bytes.data();
  for (const PagedTrajectory& each : trajectories) {
    page.places.push_back({each.offset, each.ordinal, static_cast<std::uint32_t>(begin - bytes.data())});
    begin = each.bytes.data() + each.bytes.size();
  }
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
    if (fetched_number_ == page.number) fetched_.clear();
    pages_.pop_front();
  }
}

std::optional<v1::TrajectoryName> Outbox::first() const {
  if (!pages_.empty()) return NameOf(pages_.front().places[pages_.front().acknowledged]);
  if (!filling_places_.empty()) return NameOf(filling_places_.front());
  return std::nullopt;
}

Result<std::vector<OutboxEntry>> Outbox::Take(const std::optional<v1::TrajectoryName>& after, std::size_t max,
                                              const std::function<Result<std::string>(std::uint64_t number)>& read) {
  std::vector<OutboxEntry> entries;
  entries.reserve(std::min<std::size_t>(max, size_));
  const auto is_taken = [&](const Place& place) {
    return after && std::pair(place.offset, place.ordinal) <= std::pair(after->offset(), after->ordinal());
  };
  for (const Page& page : pages_) {
    if (entries.size() == max) break;
    const auto first = std::partition_point(page.places.begin() + static_cast<std::ptrdiff_t>(page.acknowledged), page.places.end(), is_taken);
    if (first == page.places.end()) continue;
    if (page.bytes.empty() && (fetched_.empty() || fetched_number_ != page.number)) {
      FUSELINE_ASSIGN_OR_FAIL(fetched_, read(page.number));
      fetched_number_ = page.number;
    }
    const std::string_view bytes = page.bytes.empty() ? fetched_ : page.bytes;
    if (first->begin >= bytes.size()) return Error(Code::kCorrupt, "a page of the outbox is shorter than it was:", page.number);
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<PagedTrajectory> next, DecodePage(bytes.substr(first->begin), max - entries.size()));
    for (const PagedTrajectory& each : next) entries.push_back({NameOf({each.offset, each.ordinal}), std::string(each.bytes)});
  }
  return entries;
}

}  // namespace fuseline
