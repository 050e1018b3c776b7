#pragma once

#include <string>

#include "fuseline/serving_bridge/event_log.h"

namespace fuseline::test {

// The number-th event of a log.
inline v1::Event Click(int number) {
  const std::string id = std::to_string(number);
  return MakeFeedbackEvent({.event_id = id, .user_id = "u1", .event_time_ms = number, .request_id = "r", .item_id = "i",
                            .kind = v1::Feedback::CLICK});
}

}  // namespace fuseline::test
