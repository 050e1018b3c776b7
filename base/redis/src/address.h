#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

inline constexpr std::string_view kUnixPrefix = "unix:";

struct RedisAddress {
  std::string text;  // As it was given.
  std::string host;  // Empty: a Unix socket,
  std::string path;  // which is here.
  int port = 0;
};

// host:port (an IPv6 host with or without brackets) or unix:PATH. `setting` is named in the error.
// Errors: kInvalidInput.
Result<RedisAddress> ParseRedisAddress(std::string_view text, std::string_view setting);

// Several, separated by commas; at least one.
Result<std::vector<RedisAddress>> ParseRedisAddresses(std::string_view text, std::string_view setting);

// Where the error reply "MOVED slot host:port" points; an empty host there is that of `from`. Errors: kInvalidInput.
Result<RedisAddress> AddressOfMoved(std::string_view reply, const RedisAddress& from);

}  // namespace fuseline
