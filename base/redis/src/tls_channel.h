#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/redis/connection.h"

namespace fuseline {

// TLS as a pure transformation of bytes: its owner moves them to and from a socket, with his own deadlines and without signals.
// Thread-compatible. Errors of all: kInvalidInput for files and certificates (names the setting), kUnavailable for a broken conversation.
class TlsChannel {
 public:
  // `host`: the name or IP address that the server's certificate must bear, unless options.server_name says another.
  static Result<std::unique_ptr<TlsChannel>> Create(const RedisTls& options, const std::string& host);
  ~TlsChannel();

  Result<bool> Handshake();  // Goes on with what was fed; whether it is done.
  Status Encrypt(std::string_view plain);
  void Feed(std::string_view received);
  Result<std::size_t> Decrypt(std::span<char> into);  // Bytes written; 0: more must be fed.
  std::string TakeOutgoing();                         // To be sent now; often empty.

 private:
  struct Impl;
  explicit TlsChannel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
