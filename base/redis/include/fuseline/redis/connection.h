#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/redis/reply.h"

namespace fuseline {

struct RedisTls {
  bool enabled = false;     // TLS 1.2 or later, to Redis and to sentinels. The server's certificate is always verified.
  std::string ca_file;      // PEM; empty: the system's authorities.
  std::string cert_file;    // PEM, our own; empty: none is shown.
  std::string key_file;
  std::string server_name;  // That the certificate must bear; empty: the host of the address.
};

struct RedisOptions {
  std::string address = "127.0.0.1:6379";  // host:port or unix:PATH; of several, comma separated, the first that lets us in.
  std::string user;                        // ACL user; empty: the default user.
  std::string password;                    // Empty: no AUTH.
  std::string password_file;               // Its first line, read at each connection; instead of `password`.
  RedisTls tls;
  std::string sentinels;                   // host:port, comma separated. If any, they say where the master is, and address is not used.
  std::string sentinel_master = "mymaster";
  std::string sentinel_user;
  std::string sentinel_password;
  std::int64_t database = 0;
  std::int64_t connect_timeout_ms = 1'000;
  std::int64_t command_timeout_ms = 2'000;  // Of a whole command or pipeline, from its first byte sent.
  std::size_t max_reply_bytes = std::size_t{64} << 20;  // Of one reply, as it stands on the wire.
};

using RedisCommand = std::vector<std::string_view>;  // The command's name and its arguments; binary safe.

// A Lua script with the name by which the server caches it.
class RedisScript {
 public:
  explicit RedisScript(std::string source);
  const std::string& source() const { return source_; }
  const std::string& sha1_hex() const { return sha1_hex_; }

 private:
  std::string source_;
  std::string sha1_hex_;
};

// One connection to one Redis server, over hiredis' protocol reader: the first of the addresses that lets us in, or the master that
// the sentinels name. Where a cluster answers that another node has the keys (MOVED), it goes there and asks again; so all keys
// of a call must share one hash tag.
//
// Where: publisher and rankers' pick-up; it knows nothing of what flows through it.
// Blocking; one thread at a time. A signal never comes of a broken pipe. Each call costs one round trip.
// Otherwise it never reconnects on its own: after kUnavailable from the wire `connected()` is false and every call answers
// kUnavailable until the owner, who holds the Backoff, calls Reconnect.
//
// Errors of every command:
//   kUnavailable   no connection, time-out, connection lost; LOADING, READONLY, MASTERDOWN, BUSY, OOM, MISCONF, TRYAGAIN,
//                  CLUSTERDOWN, ASK. Whether the command took effect is unknown if the connection was lost. After READONLY and
//                  MASTERDOWN the connection is closed too: the address may lead to another server now.
//   kInvalidInput  NOAUTH, WRONGPASS, NOPERM (names the settings), a certificate that is not accepted, or a reply larger than
//                  max_reply_bytes (connection closed).
//   kConflict      one of our scripts refused: an error reply `REFUSED why`.
//   kNotFound      one of our scripts misses what it builds on: an error reply `ABSENT what`.
//   kInternal      any other error reply: wrong use.
class RedisConnection {
 public:
  // Errors: kInvalidInput for a malformed address, a file that cannot be used or refused credentials; kUnavailable otherwise.
  static Result<RedisConnection> Connect(RedisOptions options);
  RedisConnection(RedisConnection&&) noexcept;
  RedisConnection& operator=(RedisConnection&&) noexcept;
  ~RedisConnection();

  Status Reconnect();
  bool connected() const;
  const RedisOptions& options() const;
  const std::string& peer() const;  // The address of the server that it speaks, or last spoke, to.

  Result<RedisReply> Command(const RedisCommand& command);

  // Sends all, then reads as many replies, in order. The first error reply, if any, becomes the error of the whole, after
  // all have been read: earlier and later commands of the pipeline may have taken effect.
  Result<std::vector<RedisReply>> Pipeline(const std::vector<RedisCommand>& commands);

  // Runs `script` by its digest; sends its source when the server does not know it (it was restarted or flushed).
  Result<RedisReply> Eval(const RedisScript& script, const std::vector<std::string>& keys,
                          const std::vector<std::string_view>& arguments);

  // Entries of the stream `key` after the id `after` ("0" from its beginning, "$" new ones), at most `count`. Waits up to `block_ms`
  // for the first (0: does not wait), on top of which come the command time-out's milliseconds; none: an empty vector.
  Result<std::vector<RedisStreamEntry>> ReadStream(std::string_view key, std::string_view after, std::int64_t count,
                                                   std::int64_t block_ms);

 private:
  struct Impl;
  explicit RedisConnection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What an INFO section of the server says of `field`; empty if it does not. `info` is the text of the reply.
std::string_view RedisInfoField(std::string_view info, std::string_view field);

}  // namespace fuseline
