#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/v1/trajectory.pb.h"

namespace fuseline {

// Names of one partition are ordered by (offset, ordinal); across partitions, partition first.
std::strong_ordering CompareNames(const v1::TrajectoryName& a, const v1::TrajectoryName& b);

// "partition-offset-ordinal", as people type it.
std::string NameText(const v1::TrajectoryName& name);
Result<v1::TrajectoryName> ParseName(std::string_view text);

}  // namespace fuseline
