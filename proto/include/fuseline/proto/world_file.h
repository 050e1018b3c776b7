#pragma once

#include <string>

#include "fuseline/core/status.h"
#include "fuseline/v1/world.pb.h"

namespace fuseline {

// A world file (world.proto): YAML over the defaults, checked key by key. `file` is the name that messages carry.
// Errors: kInvalidInput naming file, line and key.
Result<v1::World> ReadWorldFile(const std::string& file, const std::string& text);

}  // namespace fuseline
