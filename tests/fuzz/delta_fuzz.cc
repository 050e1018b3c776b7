// Any bytes at all as a delta: ApplyDelta must refuse them, or give the version that the manifest promises; and any two byte strings of one size
// lead from one to the other.
#include <cstddef>
#include <cstdint>
#include <string>

#include "fuseline/core/check.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/fusion/version_delta.h"

namespace {

fuseline::PolicyVersion VersionOf(std::uint64_t number, std::string weights) {
  fuseline::PolicyVersion version;
  version.manifest.set_version(number);
  version.weights = std::move(weights);
  fuseline::SealManifest(version.manifest, version.weights, /*part_bytes=*/64);
  return version;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size), half = bytes.substr(0, size / 2), other = bytes.substr(size - size / 2);
  const auto base = VersionOf(1, half), next = VersionOf(2, other);
  auto delta = fuseline::MakeDelta(base, next);
  FUSELINE_CHECK(delta.has_value());
  const auto rebuilt = fuseline::ApplyDelta(*delta, base, next.manifest);
  FUSELINE_CHECK(rebuilt.has_value() && rebuilt->weights == other);

  delta->set_difference(bytes);
  const auto damaged = fuseline::ApplyDelta(*delta, base, next.manifest);
  FUSELINE_CHECK(!damaged || damaged->weights == other);
  return 0;
}
