#include "fuseline/redis/connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <utility>

#include <hiredis/hiredis.h>
#include <openssl/sha.h>
#include <poll.h>
#include <sys/socket.h>

#include "error_reply.h"
#include "fuseline/core/digest.h"

namespace fuseline {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::size_t kReceiveBytes = std::size_t{1} << 16;

struct HostAndPort {
  std::string host;
  int port = 0;
};

Result<HostAndPort> ParseAddress(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  HostAndPort parsed;
  if (colon != std::string_view::npos) {
    std::string_view host = address.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    parsed.host = host;
    const std::string_view port = address.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), parsed.port);
    if (error != std::errc() || end != port.data() + port.size()) parsed.port = 0;
  }
  if (parsed.host.empty() || parsed.port < 1 || parsed.port > 65535) {
    return Error(Code::kInvalidInput, "redis.address must be host:port or unix:PATH:", address);
  }
  return parsed;
}

timeval ToTimeval(std::int64_t ms) { return {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000}; }

// The request of RESP: an array of bulk strings.
void AppendCommand(std::string& wire, const RedisCommand& command) {
  wire += '*' + std::to_string(command.size()) + "\r\n";
  for (const std::string_view argument : command) {
    wire += '$' + std::to_string(argument.size()) + "\r\n";
    wire += argument;
    wire += "\r\n";
  }
}

RedisReply FromHiredis(const redisReply& reply) {  // As deep as hiredis' reader lets a reply be: 7 levels.
  using Kind = RedisReply::Kind;
  RedisReply result;
  switch (reply.type) {
    case REDIS_REPLY_NIL: break;
    case REDIS_REPLY_INTEGER: result.kind = Kind::kInteger; result.integer = reply.integer; break;
    case REDIS_REPLY_ERROR: result.kind = Kind::kError; result.text.assign(reply.str, reply.len); break;
    case REDIS_REPLY_ARRAY:
      result.kind = Kind::kArray;
      result.elements.reserve(reply.elements);
      for (std::size_t i = 0; i < reply.elements; ++i) result.elements.push_back(FromHiredis(*reply.element[i]));
      break;
    default: result.kind = Kind::kString; result.text.assign(reply.str, reply.len); break;
  }
  return result;
}

std::string Sha1Hex(std::string_view text) {  // Not a safeguard: the name that Redis gives a script.
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest;
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return ToHex({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

Result<RedisStreamEntry> ToStreamEntry(RedisReply& reply) {
  const bool is_pair = reply.is_array() && reply.elements.size() == 2 && reply.elements[0].is_string();
  if (!is_pair || !reply.elements[1].is_array() || reply.elements[1].elements.size() % 2 != 0) {
    return Error(Code::kInternal, "redis answered XREAD with something that is no entry");
  }
  RedisStreamEntry entry;
  entry.id = std::move(reply.elements[0].text);
  std::vector<RedisReply>& words = reply.elements[1].elements;
  for (std::size_t i = 0; i < words.size(); i += 2) {
    entry.fields.emplace_back(std::move(words[i].text), std::move(words[i + 1].text));
  }
  return entry;
}

}  // namespace

RedisScript::RedisScript(std::string source) : source_(std::move(source)), sha1_hex_(Sha1Hex(source_)) {}

struct RedisConnection::Impl {
  explicit Impl(RedisOptions given) : options(std::move(given)), received(kReceiveBytes) {}

  Status Open();
  Status LogIn();
  // Errors: of the wire alone; error replies are returned among the others.
  Result<std::vector<RedisReply>> Exchange(const std::vector<RedisCommand>& commands, std::int64_t extra_ms = 0);
  // The same for one command whose error reply is an error.
  Result<RedisReply> Ask(const RedisCommand& command, std::int64_t extra_ms = 0);
  Result<RedisReply> Judge(RedisReply reply);

  const RedisOptions options;

 private:
  Status Send(std::string_view wire, SteadyClock::time_point deadline);
  Result<RedisReply> Receive(SteadyClock::time_point deadline);
  Status AwaitSocket(short events, SteadyClock::time_point deadline);
  // After half an exchange the next reply on the wire would answer the wrong question: nothing but closing is left.
  Status Drop(Code code, std::string_view why) {
    context.reset();
    return ErrorStatus(code, "redis", options.address, why);
  }

  struct Free {
    void operator()(redisContext* c) const { redisFree(c); }
  };

 public:
  std::unique_ptr<redisContext, Free> context;  // Null: not connected.
  std::vector<char> received;
};

Status RedisConnection::Impl::Open() {
  context.reset();
  const timeval timeout = ToTimeval(options.connect_timeout_ms);
  if (options.address.starts_with(kUnixPrefix)) {
    context.reset(redisConnectUnixWithTimeout(options.address.c_str() + kUnixPrefix.size(), timeout));
  } else {
    FUSELINE_ASSIGN_OR_RETURN(const HostAndPort at, ParseAddress(options.address));
    context.reset(redisConnectWithTimeout(at.host.c_str(), at.port, timeout));
    if (context && context->err == 0) redisEnableKeepAlive(context.get());
  }
  if (!context) return ErrorStatus(Code::kUnavailable, "redis: no memory for a connection to", options.address);
  if (context->err != 0) return Drop(Code::kUnavailable, std::string("cannot be reached: ") + context->errstr);
  const Status logged_in = LogIn();
  if (!logged_in.ok()) context.reset();
  return logged_in;
}

Status RedisConnection::Impl::LogIn() {
  if (!options.password.empty()) {
    RedisCommand auth = {"AUTH"};
    if (!options.user.empty()) auth.push_back(options.user);
    auth.push_back(options.password);
    FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply, Ask(auth));
  }
  if (options.database != 0) {
    FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply, Ask({"SELECT", std::to_string(options.database)}));
  }
  return OkStatus();
}

Status RedisConnection::Impl::AwaitSocket(short events, SteadyClock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now()).count();
    if (left <= 0) return Drop(Code::kUnavailable, "timed out");
    pollfd socket = {.fd = context->fd, .events = events, .revents = 0};
    const int ready = ::poll(&socket, 1, static_cast<int>(std::min<std::int64_t>(left, 3'600'000)));
    if (ready > 0) return OkStatus();
    if (ready < 0 && errno != EINTR) return Drop(Code::kUnavailable, std::strerror(errno));
  }
}

Status RedisConnection::Impl::Send(std::string_view wire, SteadyClock::time_point deadline) {
  while (!wire.empty()) {
    FUSELINE_RETURN_IF_ERROR(AwaitSocket(POLLOUT, deadline));
    // Not hiredis' own write: that one raises SIGPIPE in whatever program we are linked into.
    const ssize_t sent = ::send(context->fd, wire.data(), wire.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) wire.remove_prefix(static_cast<std::size_t>(sent));
    if (sent < 0 && errno != EINTR && errno != EAGAIN) return Drop(Code::kUnavailable, std::strerror(errno));
  }
  return OkStatus();
}

Result<RedisReply> RedisConnection::Impl::Receive(SteadyClock::time_point deadline) {
  std::size_t taken = context->reader->len - context->reader->pos;  // Came together with the reply before.
  for (;;) {
    void* parsed = nullptr;
    if (redisReaderGetReply(context->reader, &parsed) != REDIS_OK) {
      return tl::unexpected(Drop(Code::kUnavailable, std::string("speaks no Redis protocol: ") + context->reader->errstr));
    }
    if (parsed != nullptr) {
      const std::unique_ptr<void, void (*)(void*)> reply(parsed, &freeReplyObject);
      return FromHiredis(*static_cast<redisReply*>(parsed));
    }
    if (taken > options.max_reply_bytes) {
      return tl::unexpected(Drop(Code::kInvalidInput, "gave a reply larger than redis.max_reply_bytes"));
    }
    FUSELINE_FAIL_IF_ERROR(AwaitSocket(POLLIN, deadline));
    const ssize_t got = ::recv(context->fd, received.data(), received.size(), MSG_DONTWAIT);
    if (got == 0) return tl::unexpected(Drop(Code::kUnavailable, "closed the connection"));
    if (got < 0 && errno != EINTR && errno != EAGAIN) return tl::unexpected(Drop(Code::kUnavailable, std::strerror(errno)));
    if (got < 0) continue;
    taken += static_cast<std::size_t>(got);
    redisReaderFeed(context->reader, received.data(), static_cast<std::size_t>(got));
  }
}

Result<std::vector<RedisReply>> RedisConnection::Impl::Exchange(const std::vector<RedisCommand>& commands,
                                                                std::int64_t extra_ms) {
  if (!context) return Error(Code::kUnavailable, "redis", options.address, "is not connected");
  std::string wire;
  for (const RedisCommand& command : commands) AppendCommand(wire, command);
  const auto deadline = SteadyClock::now() + std::chrono::milliseconds(options.command_timeout_ms + extra_ms);
  FUSELINE_FAIL_IF_ERROR(Send(wire, deadline));
  std::vector<RedisReply> replies;
  replies.reserve(commands.size());
  while (replies.size() < commands.size()) {
    FUSELINE_ASSIGN_OR_FAIL(RedisReply reply, Receive(deadline));
    replies.push_back(std::move(reply));
  }
  return replies;
}

Result<RedisReply> RedisConnection::Impl::Judge(RedisReply reply) {
  if (reply.kind != RedisReply::Kind::kError) return reply;
  if (AsksForAnotherServer(reply.text)) context.reset();
  return tl::unexpected(StatusOfErrorReply(reply.text));
}

Result<RedisReply> RedisConnection::Impl::Ask(const RedisCommand& command, std::int64_t extra_ms) {
  FUSELINE_ASSIGN_OR_FAIL(std::vector<RedisReply> replies, Exchange({command}, extra_ms));
  return Judge(std::move(replies.front()));
}

RedisConnection::RedisConnection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RedisConnection::RedisConnection(RedisConnection&&) noexcept = default;
RedisConnection& RedisConnection::operator=(RedisConnection&&) noexcept = default;
RedisConnection::~RedisConnection() = default;

Result<RedisConnection> RedisConnection::Connect(RedisOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  FUSELINE_FAIL_IF_ERROR(impl->Open());
  return RedisConnection(std::move(impl));
}

Status RedisConnection::Reconnect() { return impl_->Open(); }
bool RedisConnection::connected() const { return impl_->context != nullptr; }
const RedisOptions& RedisConnection::options() const { return impl_->options; }

Result<RedisReply> RedisConnection::Command(const RedisCommand& command) { return impl_->Ask(command); }

Result<std::vector<RedisReply>> RedisConnection::Pipeline(const std::vector<RedisCommand>& commands) {
  FUSELINE_ASSIGN_OR_FAIL(std::vector<RedisReply> replies, impl_->Exchange(commands));
  for (RedisReply& reply : replies) {
    FUSELINE_ASSIGN_OR_FAIL(reply, impl_->Judge(std::move(reply)));
  }
  return replies;
}

Result<RedisReply> RedisConnection::Eval(const RedisScript& script, const std::vector<std::string>& keys,
                                         const std::vector<std::string_view>& arguments) {
  const std::string key_count = std::to_string(keys.size());
  RedisCommand command = {"EVALSHA", script.sha1_hex(), key_count};
  command.insert(command.end(), keys.begin(), keys.end());
  command.insert(command.end(), arguments.begin(), arguments.end());
  FUSELINE_ASSIGN_OR_FAIL(std::vector<RedisReply> replies, impl_->Exchange({command}));
  if (replies.front().kind == RedisReply::Kind::kError && replies.front().text.starts_with("NOSCRIPT")) {
    command[0] = "EVAL";
    command[1] = script.source();
    return impl_->Ask(command);
  }
  return impl_->Judge(std::move(replies.front()));
}

Result<std::vector<RedisStreamEntry>> RedisConnection::ReadStream(std::string_view key, std::string_view after,
                                                                  std::int64_t count, std::int64_t block_ms) {
  const std::string count_text = std::to_string(count);
  const std::string block_text = std::to_string(block_ms);
  RedisCommand command = {"XREAD", "COUNT", count_text};
  if (block_ms > 0) command.insert(command.end(), {"BLOCK", block_text});  // BLOCK 0 would wait for ever.
  command.insert(command.end(), {"STREAMS", key, after});
  FUSELINE_ASSIGN_OR_FAIL(RedisReply reply, impl_->Ask(command, block_ms));
  std::vector<RedisStreamEntry> entries;
  if (reply.is_nil()) return entries;
  if (reply.elements.size() != 1 || reply.elements[0].elements.size() != 2) {
    return Error(Code::kInternal, "redis answered XREAD with something that is no stream");
  }
  for (RedisReply& item : reply.elements[0].elements[1].elements) {
    FUSELINE_ASSIGN_OR_FAIL(RedisStreamEntry entry, ToStreamEntry(item));
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::string_view RedisInfoField(std::string_view info, std::string_view field) {
  for (std::size_t at = 0; at < info.size();) {
    const std::size_t end = std::min(info.find("\r\n", at), info.size());
    const std::string_view line = info.substr(at, end - at);
    if (line.size() > field.size() && line.starts_with(field) && line[field.size()] == ':') return line.substr(field.size() + 1);
    at = end + 2;
  }
  return {};
}

}  // namespace fuseline
