#pragma once

#include <cstdint>
#include <string_view>

namespace fuseline {

// What a user's requests are served: the newest version with exploration, or the hand-set weights as they are.
enum class Arm : std::uint8_t { kLearning, kStatic };

std::string_view ArmName(Arm arm);  // "learning" or "static", as in events.

// A user's place in [0, 1), the same on every machine and for ever: n / 10,000 with
//   n = fnv1a32(decimal(fnv1a32(salt + user_id))) mod 10,000
// which is version 2 of GrowthBook's hash (docs.growthbook.io, "Building your own SDK"); another salt shuffles the users anew.
double AssignmentBucket(std::string_view user_id, std::string_view salt);

// Sticky by user: kStatic for the users whose bucket lies below `static_share`, in [0, 1].
Arm AssignArm(std::string_view user_id, std::string_view salt, double static_share);

}  // namespace fuseline
