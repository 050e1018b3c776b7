#pragma once

#include <cstdint>
#include <string>

#include "fuseline/core/random.h"
#include "fuseline/fusion/policy_version.h"

namespace fuseline {

// A version whose weights are a function of number and flavour, incompressible to the eye and unlike any other's.
inline PolicyVersion MakeVersion(std::uint64_t number, std::string_view flavour = "plain", std::size_t bytes = 5'000) {
  PolicyVersion version;
  version.manifest.set_version(number);
  version.manifest.set_policy("default");
  version.manifest.mutable_lineage()->set_parent(number - 1);
  (*version.manifest.mutable_metrics())["loss"] = 1.0 / static_cast<double>(number);
  Random random(number, flavour, 0);
  while (version.weights.size() < bytes) version.weights += static_cast<char>(random.NextBelow(256));
  return version;
}

}  // namespace fuseline
