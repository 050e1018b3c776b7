#include "fuseline/serving_bridge/assignment.h"

#include <string>

namespace fuseline {
namespace {

constexpr std::uint32_t kBuckets = 10'000;

std::uint32_t Fnv1a32(std::uint32_t hash, std::string_view bytes) {
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x01000193U;
  return hash;
}
constexpr std::uint32_t kFnvBasis = 0x811c9dc5U;

}  // namespace

std::string_view ArmName(Arm arm) { return arm == Arm::kStatic ? "static" : "learning"; }

double AssignmentBucket(std::string_view user_id, std::string_view salt) {
  const std::uint32_t first = Fnv1a32(Fnv1a32(kFnvBasis, salt), user_id);
  return static_cast<double>(Fnv1a32(kFnvBasis, std::to_string(first)) % kBuckets) / kBuckets;
}

Arm AssignArm(std::string_view user_id, std::string_view salt, double static_share) {
  return AssignmentBucket(user_id, salt) < static_share ? Arm::kStatic : Arm::kLearning;
}

}  // namespace fuseline
