#include "address.h"

#include <algorithm>
#include <charconv>

namespace fuseline {

Result<RedisAddress> ParseRedisAddress(std::string_view text, std::string_view setting) {
  RedisAddress parsed{.text = std::string(text), .host = {}, .path = {}, .port = 0};
  if (text.starts_with(kUnixPrefix)) {
    parsed.path = text.substr(kUnixPrefix.size());
    return parsed;
  }
  const std::size_t colon = text.rfind(':');
  if (colon != std::string_view::npos) {
    std::string_view host = text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    parsed.host = host;
    const std::string_view port = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), parsed.port);
    if (error != std::errc() || end != port.data() + port.size()) parsed.port = 0;
  }
  if (parsed.host.empty() || parsed.port < 1 || parsed.port > 65535) {
    return Error(Code::kInvalidInput, setting, "must be host:port or unix:PATH:", text);
  }
  return parsed;
}

Result<std::vector<RedisAddress>> ParseRedisAddresses(std::string_view text, std::string_view setting) {
  std::vector<RedisAddress> addresses;
  for (;;) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string_view one = text.substr(0, comma);
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    FUSELINE_ASSIGN_OR_FAIL(RedisAddress address, ParseRedisAddress(one, setting));
    addresses.push_back(std::move(address));
    if (comma == text.size()) return addresses;
    text.remove_prefix(comma + 1);
  }
}

Result<RedisAddress> AddressOfMoved(std::string_view reply, const RedisAddress& from) {
  const std::string_view text = reply.substr(reply.rfind(' ') + 1);
  return ParseRedisAddress(text.starts_with(':') ? from.host + std::string(text) : std::string(text), "cluster's answer MOVED");
}

}  // namespace fuseline
