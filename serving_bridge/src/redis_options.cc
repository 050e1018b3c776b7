#include "fuseline/serving_bridge/redis_options.h"

namespace fuseline {

RedisOptions RedisOptionsOf(const v1::Redis& settings) {
  RedisOptions options;
  options.address = settings.address();
  options.user = settings.user();
  options.password = settings.password();
  options.password_file = settings.password_file();
  options.database = settings.database();
  options.connect_timeout_ms = settings.connect_timeout_ms();
  options.command_timeout_ms = settings.command_timeout_ms();
  options.max_reply_bytes = static_cast<std::size_t>(settings.max_reply_bytes());
  options.tls.enabled = settings.tls();
  options.tls.ca_file = settings.tls_ca_file();
  options.tls.cert_file = settings.tls_cert_file();
  options.tls.key_file = settings.tls_key_file();
  options.tls.server_name = settings.tls_server_name();
  options.sentinels = settings.sentinels();
  options.sentinel_master = settings.sentinel_master();
  options.sentinel_user = settings.sentinel_user();
  options.sentinel_password = settings.sentinel_password();
  return options;
}

}  // namespace fuseline
