#pragma once

#include <span>

#include "fuseline/simulator/world.h"

namespace fuseline {

// The sessions of a feed: each request replaces a part of the user's satisfaction by the mean over its items; the less satisfied, the
// sooner it leaves and the later it comes back.
Mood FirstFeedMood();
NextVisit AfterFeedRequest(std::span<const Response> responses, Random& random, Mood* mood);

}  // namespace fuseline
