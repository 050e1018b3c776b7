#include "scorer/stream_rows.h"

#include <algorithm>

#include "fuseline/core/check.h"
#include "fuseline/proto/schema.h"
#include "fuseline/v1/checkpoint.pb.h"

namespace fuseline {
namespace {

template <typename Value>
void Drop(std::vector<Value>& values, std::size_t count) {
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
}

}  // namespace

void StreamRows::DropFront(std::size_t count) {
  FUSELINE_CHECK(count <= size());
  if (!numbers.empty()) Drop(numbers, numbers.size() / size() * count);
  Drop(rows.ids, count * rows.id_fields);
  Drop(rows.dense, count * rows.dense_width);
  Drop(rows.labels, count * rows.tasks);
  Drop(rows.session, count);
  Drop(follows, count);
}

std::string StreamRows::Encode() const {
  v1::ScorerRowsState state;
  state.mutable_ids()->Add(rows.ids.begin(), rows.ids.end());
  state.mutable_dense()->Add(rows.dense.begin(), rows.dense.end());
  state.mutable_labels()->Add(rows.labels.begin(), rows.labels.end());
  state.mutable_session()->Add(rows.session.begin(), rows.session.end());
  state.mutable_numbers()->Add(numbers.begin(), numbers.end());
  for (const Follows what : follows) state.mutable_follows()->push_back(static_cast<char>(what));
  return CanonicalBytes(state);
}

Status StreamRows::Decode(const std::string& bytes, std::size_t numbers_wide, std::size_t table_rows) {
  v1::ScorerRowsState state;
  const bool parsed = state.ParseFromString(bytes);
  const auto count = static_cast<std::size_t>(state.session_size());
  const auto has = [count](int values, std::size_t width) { return static_cast<std::size_t>(values) == count * width; };
  const bool sound = parsed && has(state.ids_size(), rows.id_fields) && has(state.dense_size(), rows.dense_width) &&
                     has(state.labels_size(), rows.tasks) && has(state.numbers_size(), numbers_wide) && state.follows().size() == count &&
                     std::ranges::all_of(state.follows(), [](char what) { return what >= 0 && what <= static_cast<char>(Follows::kNotOurs); }) &&
                     std::ranges::all_of(state.ids(), [table_rows](std::uint32_t id) { return id < table_rows; }) &&
                     (count == 0 || state.follows().back() != static_cast<char>(Follows::kNext));
  if (!sound) return ErrorStatus(Code::kCorrupt, "impressions in the scorer's state contradict each other");
  rows.ids.assign(state.ids().begin(), state.ids().end());
  rows.dense.assign(state.dense().begin(), state.dense().end());
  rows.labels.assign(state.labels().begin(), state.labels().end());
  rows.session.assign(state.session().begin(), state.session().end());
  numbers.assign(state.numbers().begin(), state.numbers().end());
  follows.clear();
  for (const char what : state.follows()) follows.push_back(static_cast<Follows>(what));
  return OkStatus();
}

}  // namespace fuseline
