#include "redis_options.h"

namespace fuseline {

RedisOptions RedisOptionsOf(const v1::Redis& settings) {
  RedisOptions options;
  options.address = settings.address();
  options.user = settings.user();
  options.password = settings.password();
  options.database = settings.database();
  options.connect_timeout_ms = settings.connect_timeout_ms();
  options.command_timeout_ms = settings.command_timeout_ms();
  options.max_reply_bytes = static_cast<std::size_t>(settings.max_reply_bytes());
  return options;
}

}  // namespace fuseline
