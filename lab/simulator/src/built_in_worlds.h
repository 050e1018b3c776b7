#pragma once

#include <span>
#include <string_view>

namespace fuseline {

// A file of lab/worlds/, as it stood when this was built.
struct BuiltInWorld {
  std::string_view name;  // Without .yaml.
  std::string_view text;
};
std::span<const BuiltInWorld> BuiltInWorldFiles();

}  // namespace fuseline
