#include "event_scan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "event_rules.h"
#include "fuseline/proto/wire.h"
#include "text.h"

namespace fuseline {
namespace {

using wire::Tag;
using enum wire::Type;

// Fields 1 to `last` are known; one that is not repeated may come once.
class Known {
 public:
  explicit Known(std::uint32_t last) : last_(last) {}

  bool IsRepeated(std::uint32_t field) {
    if (field > last_) return false;
    const std::uint32_t bit = 1U << field;
    return (std::exchange(seen_, seen_ | bit) & bit) != 0;
  }
  // A tag that no case has taken: a field that nobody knows, or one with a wrong wire type.
  bool IsMistyped(std::uint32_t field) const { return field <= last_; }

 private:
  const std::uint32_t last_;
  std::uint32_t seen_ = 0;
};

float FloatAt(std::string_view packed, std::size_t index) {
  float value = 0;
  std::memcpy(&value, packed.data() + index * sizeof(float), sizeof(float));
  return value;
}

float FloatOf(std::uint64_t number) { return std::bit_cast<float>(static_cast<std::uint32_t>(number)); }

template <typename Test>
bool AllFloats(std::string_view packed, const Test& test) {
  bool all = true;
  for (std::size_t i = 0; i < packed.size() / sizeof(float); ++i) all &= test(FloatAt(packed, i));
  return all;
}

struct Box {
  float lower = 0, upper = 0;
};

struct Item {
  std::uint32_t position = 0;
  std::string_view id, task_scores, baseline_action, executed_action;
};

class Scanner {
 public:
  explicit Scanner(const EventLimits& limits) : limits_(limits) {}

  bool Event(std::string_view bytes, EventView* view);

 private:
  bool Exposure(std::string_view bytes);
  bool Feedback(std::string_view bytes);
  bool Features(std::string_view bytes);
  bool Shadow(std::string_view bytes);
  bool ReadBox(std::string_view bytes);
  bool ReadItem(std::string_view bytes, Item* item);
  bool IsItemValid(const Item& item) const;

  bool IsText(std::string_view text) const {
    return text.size() <= static_cast<std::size_t>(limits_.string_bytes) && IsUtf8(text);
  }
  bool IsId(std::string_view id) const { return !id.empty() && IsText(id); }
  bool IsPacked(std::string_view packed, std::size_t width) const {
    return packed.size() % width == 0 && packed.size() / width <= static_cast<std::size_t>(limits_.values);
  }
  bool IsFinite(std::string_view packed) const {
    return IsPacked(packed, sizeof(float)) && AllFloats(packed, [](float value) { return std::isfinite(value); });
  }
  bool IsAction(std::string_view packed) const {
    return IsPacked(packed, sizeof(float)) && AllFloats(packed, [](float value) { return value >= -1 && value <= 1; });
  }
  static bool IsTime(std::uint64_t time_ms) { return time_ms <= static_cast<std::uint64_t>(kEndOfYear9999Ms); }

  const EventLimits& limits_;
  std::int64_t items_ = 0;
  int shadows_ = 0;
  Item first_item_;
  std::uint32_t last_position_ = 0;
  bool has_box_ = false;
  Box box_;
};

bool Scanner::Event(std::string_view bytes, EventView* view) {
  Known known(/*last=*/6);
  bool has_body = false;
  wire::Reader in(bytes);
  while (in.Next()) {
    if (known.IsRepeated(in.field())) return false;
    switch (in.tag()) {
      case Tag(1, kBytes): view->event_id = in.bytes(); break;
      case Tag(2, kBytes): view->user_id = in.bytes(); break;
      case Tag(3, kVarint):
        if (!IsTime(in.number())) return false;
        view->event_time_ms = static_cast<std::int64_t>(in.number());
        break;
      case Tag(4, kBytes):
      case Tag(5, kBytes):
        if (has_body) return false;
        has_body = true;
        view->kind = in.field() == 4 ? EventView::Kind::kExposure : EventView::Kind::kFeedback;
        view->body = in.bytes();
        break;
      default:
        if (known.IsMistyped(in.field())) return false;
    }
  }
  if (!in.ok() || !has_body || !IsId(view->event_id) || !IsId(view->user_id)) return false;
  return view->kind == EventView::Kind::kExposure ? Exposure(view->body) : Feedback(view->body);
}

bool Scanner::Feedback(std::string_view bytes) {
  Known known(/*last=*/5);
  bool has_request = false, has_item = false;
  wire::Reader in(bytes);
  while (in.Next()) {
    if (known.IsRepeated(in.field())) return false;
    switch (in.tag()) {
      case Tag(1, kBytes): has_request = IsId(in.bytes()); if (!has_request) return false; break;
      case Tag(2, kBytes): has_item = IsId(in.bytes()); if (!has_item) return false; break;
      case Tag(3, kVarint): if (in.number() > 0x7FFF'FFFF) return false; break;  // A kind, known or not.
      case Tag(4, kVarint):
      case Tag(5, kVarint): if (!IsTime(in.number())) return false; break;
      default: if (known.IsMistyped(in.field())) return false;
    }
  }
  return in.ok() && has_request && has_item;
}

bool Scanner::Exposure(std::string_view bytes) {
  Known known(/*last=*/14);
  bool has_request = false, has_density = false;
  wire::Reader in(bytes);
  while (in.Next()) {
    if (in.field() != 11 && in.field() != 13 && known.IsRepeated(in.field())) return false;
    switch (in.tag()) {
      case Tag(1, kBytes): has_request = IsId(in.bytes()); if (!has_request) return false; break;
      case Tag(2, kBytes):
      case Tag(7, kBytes):
      case Tag(8, kBytes): if (!IsText(in.bytes())) return false; break;
      case Tag(3, kBytes): if (!in.bytes().empty() && in.bytes().size() != kDigestBytes) return false; break;
      case Tag(4, kBytes):
      case Tag(5, kBytes): if (!Features(in.bytes())) return false; break;
      case Tag(6, kVarint):
      case Tag(14, kVarint): break;
      case Tag(9, kBytes): if (!ReadBox(in.bytes())) return false; break;
      case Tag(10, kFixed64):
        has_density = std::isfinite(std::bit_cast<double>(in.number()));
        if (!has_density) return false;
        break;
      case Tag(11, kBytes): {
        Item item;
        if (!ReadItem(in.bytes(), &item) || !IsItemValid(item)) return false;
        if (items_++ == 0) first_item_ = item;
        last_position_ = item.position;
        break;
      }
      case Tag(12, kVarint): if (in.number() > kWholeCoverage) return false; break;
      case Tag(13, kBytes): if (!Shadow(in.bytes()) || ++shadows_ > kShadowsMax) return false; break;
      default: if (known.IsMistyped(in.field())) return false;
    }
  }
  return in.ok() && has_request && items_ <= limits_.items && (has_box_ || !has_density);
}

bool Scanner::Features(std::string_view bytes) {
  Known known(/*last=*/2);
  wire::Reader in(bytes);
  while (in.Next()) {
    if (known.IsRepeated(in.field())) return false;
    switch (in.tag()) {
      case Tag(1, kBytes): if (!IsFinite(in.bytes())) return false; break;
      case Tag(2, kBytes): if (!IsPacked(in.bytes(), sizeof(std::uint64_t))) return false; break;
      default: if (known.IsMistyped(in.field())) return false;
    }
  }
  return in.ok();
}

bool Scanner::Shadow(std::string_view bytes) {
  Known known(/*last=*/4);
  wire::Reader in(bytes);
  while (in.Next()) {
    if (known.IsRepeated(in.field())) return false;
    switch (in.tag()) {
      case Tag(1, kVarint): break;
      case Tag(2, kFixed32): if (!(FloatOf(in.number()) >= -1 && FloatOf(in.number()) <= 1)) return false; break;
      case Tag(3, kFixed32): if (!(FloatOf(in.number()) >= 0 && FloatOf(in.number()) <= 1)) return false; break;
      case Tag(4, kFixed32): if (!(FloatOf(in.number()) >= 0 && FloatOf(in.number()) <= 2)) return false; break;
      default: if (known.IsMistyped(in.field())) return false;
    }
  }
  return in.ok();
}

bool Scanner::ReadBox(std::string_view bytes) {
  if (items_ > 0) return false;  // Those before were not checked against it.
  Known known(/*last=*/2);
  wire::Reader in(bytes);
  while (in.Next()) {
    if (known.IsRepeated(in.field())) return false;
    switch (in.tag()) {
      case Tag(1, kFixed32): box_.lower = FloatOf(in.number()); break;
      case Tag(2, kFixed32): box_.upper = FloatOf(in.number()); break;
      default: if (known.IsMistyped(in.field())) return false;
    }
  }
  has_box_ = true;
  return in.ok() && box_.lower >= -2 && box_.lower <= 0 && box_.upper >= 0 && box_.upper <= 2;
}

bool Scanner::ReadItem(std::string_view bytes, Item* item) {
  Known known(/*last=*/7);
  wire::Reader in(bytes);
  while (in.Next()) {
    if (known.IsRepeated(in.field())) return false;
    switch (in.tag()) {
      case Tag(1, kBytes): item->id = in.bytes(); break;
      case Tag(2, kVarint):
        if (in.number() > 0xFFFF'FFFF) return false;
        item->position = static_cast<std::uint32_t>(in.number());
        break;
      case Tag(3, kBytes): if (!Features(in.bytes())) return false; break;
      case Tag(4, kBytes): item->task_scores = in.bytes(); break;
      case Tag(5, kBytes): item->baseline_action = in.bytes(); break;
      case Tag(6, kBytes): item->executed_action = in.bytes(); break;
      case Tag(7, kFixed32): if (!std::isfinite(FloatOf(in.number()))) return false; break;
      default: if (known.IsMistyped(in.field())) return false;
    }
  }
  return in.ok();
}

bool Scanner::IsItemValid(const Item& item) const {
  const Item& first = items_ == 0 ? item : first_item_;
  if (!IsId(item.id) || item.position < last_position_) return false;
  if (!IsFinite(item.task_scores) || !IsAction(item.baseline_action) || !IsAction(item.executed_action)) return false;
  const std::size_t width = item.baseline_action.size();
  if (item.executed_action.size() != width || (width != 0 && width != 2 * item.task_scores.size())) return false;
  if (item.task_scores.size() != first.task_scores.size() || width != first.baseline_action.size()) return false;
  if (!has_box_) return true;
  for (std::size_t d = 0; d < width / sizeof(float); ++d) {
    const float noise = FloatAt(item.executed_action, d) - FloatAt(item.baseline_action, d);
    if (noise < box_.lower - kBoxTolerance || noise > box_.upper + kBoxTolerance) return false;
  }
  return true;
}

}  // namespace

bool ScanEvent(std::string_view bytes, const EventLimits& limits, EventView* view) {
  *view = EventView();
  return bytes.size() <= static_cast<std::size_t>(limits.event_bytes) && Scanner(limits).Event(bytes, view);
}

}  // namespace fuseline
