#pragma once

#include <cstdint>

#include "fuseline/core/random.h"
#include "fuseline/simulator/world.h"
#include "fuseline/v1/world.pb.h"

namespace fuseline {

// The sessions of two published simulators (world.proto has their formulas), as steps on a mood. After… take in the mean of a
// request's items, count the request, and return whether the user leaves.
double FirstXmtf(const v1::XmtfSessions& settings, double play_s);
bool AfterXmtf(const v1::XmtfSessions& settings, double mean_reward, Mood* mood);
bool AfterKuaisim(const v1::KuaisimSessions& settings, double mean_feedback, Mood* mood);

// Neither paper says when a user comes back: 45 minutes and an exponential time of mean 5 h, 36 h at most.
std::int64_t DrawReturnMs(Random& random);

}  // namespace fuseline
