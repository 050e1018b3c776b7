#pragma once

#include <string_view>

#include "fuseline/proto/event_view.h"

namespace fuseline {

// Whether `bytes` are surely a valid exposure or feedback event: such that DecodeEvent accepts them and says what `*view`
// then says, by views into `bytes`. False says nothing: whatever is invalid or merely unusual (a field twice or with
// another wire type, numbers unpacked, groups, a control record, JSON) is for DecodeEvent to judge, and to name.
// Cost: one walk, no allocation.
bool ScanEvent(std::string_view bytes, const EventLimits& limits, EventView* view);

}  // namespace fuseline
