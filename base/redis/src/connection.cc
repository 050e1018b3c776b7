#include "fuseline/redis/connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <hiredis/hiredis.h>
#include <openssl/sha.h>
#include <poll.h>
#include <sys/socket.h>

#include "address.h"
#include "error_reply.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "tls_channel.h"

namespace fuseline {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int kMovesMax = 5;  // Of one call, from node to node of a cluster that is being changed.
constexpr std::size_t kReceiveBytes = std::size_t{1} << 16;

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
  explicit Impl(RedisOptions given) : options(std::move(given)), received(kReceiveBytes), decrypted(kReceiveBytes) {}

  Status Open();
  // Errors: of the wire alone; error replies are returned among the others.
  Result<std::vector<RedisReply>> Exchange(const std::vector<RedisCommand>& commands, std::int64_t extra_ms = 0);
  // The same for one command whose error reply is an error.
  Result<RedisReply> Ask(const RedisCommand& command, std::int64_t extra_ms = 0);
  Result<RedisReply> Judge(RedisReply reply);

  const RedisOptions options;
  RedisAddress at;  // Of the server.

 private:
  struct Credentials {
    std::string user, password;
  };
  Result<Credentials> OwnCredentials() const;
  Status OpenAt(const RedisAddress& address, const Credentials& credentials);
  Status OpenMaster();  // That one of the sentinels names.
  Status StartTls(SteadyClock::time_point deadline);
  Status LogIn(const Credentials& credentials);
  Status Select();
  Result<std::vector<RedisReply>> ExchangeOnce(const std::vector<RedisCommand>& commands, std::int64_t extra_ms);
  Status Send(std::string_view wire, SteadyClock::time_point deadline);
  Status SendPlain(std::string_view wire, SteadyClock::time_point deadline);  // Through TLS, if there is any.
  Result<RedisReply> Receive(SteadyClock::time_point deadline);
  Result<std::string_view> ReceiveSome(SteadyClock::time_point deadline);  // At least a byte, from the socket.
  Result<std::size_t> FeedReader(std::string_view bytes);                    // Returns how many it was given, decrypted.
  Status AwaitSocket(short events, SteadyClock::time_point deadline);
  // After half an exchange the next reply on the wire would answer the wrong question: nothing but closing is left.
  Status Drop(Code code, std::string_view why) {
    Close();
    return ErrorStatus(code, "redis", at.text, why);
  }

  struct Free {
    void operator()(redisContext* c) const { redisFree(c); }
  };

 public:
  void Close() {
    context.reset();
    tls.reset();
  }

  std::unique_ptr<redisContext, Free> context;  // Null: not connected.
  std::unique_ptr<TlsChannel> tls;              // Null: without.
  std::vector<char> received, decrypted;
};

Status RedisConnection::Impl::Open() {
  Close();
  if (!options.sentinels.empty()) return OpenMaster();
  FUSELINE_ASSIGN_OR_RETURN(const auto addresses, ParseRedisAddresses(options.address, "redis.address"));
  FUSELINE_ASSIGN_OR_RETURN(const Credentials own, OwnCredentials());
  Status opened;
  for (const RedisAddress& address : addresses) {
    opened = OpenAt(address, own);
    if (opened.ok()) opened = Select();
    if (opened.ok()) return opened;
    Close();
  }
  return opened;
}

Status RedisConnection::Impl::OpenMaster() {
  FUSELINE_ASSIGN_OR_RETURN(const auto sentinels, ParseRedisAddresses(options.sentinels, "redis.sentinels"));
  FUSELINE_ASSIGN_OR_RETURN(const Credentials own, OwnCredentials());
  const auto open_by = [&](const RedisAddress& sentinel) -> Status {
    FUSELINE_RETURN_IF_ERROR(OpenAt(sentinel, {options.sentinel_user, options.sentinel_password}));
    FUSELINE_ASSIGN_OR_RETURN(const RedisReply where, Ask({"SENTINEL", "get-master-addr-by-name", options.sentinel_master}));
    if (where.elements.size() != 2) {
      return ErrorStatus(Code::kUnavailable, "sentinel", sentinel.text, "knows no master", options.sentinel_master);
    }
    FUSELINE_ASSIGN_OR_RETURN(const RedisAddress master,
                              ParseRedisAddress(where.elements[0].text + ':' + where.elements[1].text, "sentinel's answer"));
    FUSELINE_RETURN_IF_ERROR(OpenAt(master, own));
    // A sentinel that was away itself may still name the old one.
    FUSELINE_ASSIGN_OR_RETURN(const RedisReply role, Ask({"ROLE"}));
    if (role.elements.empty() || role.elements[0].text != "master") return Drop(Code::kUnavailable, "is no master (yet)");
    return Select();
  };
  Status opened;
  for (const RedisAddress& sentinel : sentinels) {
    opened = open_by(sentinel);
    if (opened.ok()) return opened;
    Close();
  }
  return opened;
}

Result<RedisConnection::Impl::Credentials> RedisConnection::Impl::OwnCredentials() const {
  if (options.password_file.empty()) return Credentials{options.user, options.password};
  if (!options.password.empty()) return Error(Code::kInvalidInput, "redis.password and redis.password_file are both set");
  const auto text = ReadFile(options.password_file);
  if (!text) return Error(Code::kInvalidInput, "redis.password_file:", text.error().message);
  return Credentials{options.user, text->substr(0, text->find_first_of("\r\n"))};
}

Status RedisConnection::Impl::OpenAt(const RedisAddress& address, const Credentials& credentials) {
  Close();
  at = address;
  const timeval timeout = ToTimeval(options.connect_timeout_ms);
  const auto deadline = SteadyClock::now() + std::chrono::milliseconds(options.connect_timeout_ms);
  if (at.host.empty()) {
    context.reset(redisConnectUnixWithTimeout(at.path.c_str(), timeout));
  } else {
    context.reset(redisConnectWithTimeout(at.host.c_str(), at.port, timeout));
    if (context && context->err == 0) redisEnableKeepAlive(context.get());
  }
  if (!context) return ErrorStatus(Code::kUnavailable, "redis: no memory for a connection to", at.text);
  if (context->err != 0) return Drop(Code::kUnavailable, std::string("cannot be reached: ") + context->errstr);
  if (options.tls.enabled) FUSELINE_RETURN_IF_ERROR(StartTls(deadline));
  return LogIn(credentials);
}

Status RedisConnection::Impl::StartTls(SteadyClock::time_point deadline) {
  if (at.host.empty()) return Drop(Code::kInvalidInput, "is a Unix socket, and redis.tls is set");
  auto channel = TlsChannel::Create(options.tls, at.host);
  if (!channel) return Drop(channel.error().code, channel.error().message);
  tls = std::move(*channel);
  for (;;) {
    const auto done = tls->Handshake();
    const std::string outgoing = tls->TakeOutgoing();  // Also the alert that tells the server why not.
    FUSELINE_RETURN_IF_ERROR(Send(outgoing, deadline));
    if (!done) return Drop(done.error().code, done.error().message);
    if (*done) return OkStatus();
    FUSELINE_ASSIGN_OR_RETURN(const std::string_view bytes, ReceiveSome(deadline));
    tls->Feed(bytes);
  }
}

Status RedisConnection::Impl::LogIn(const Credentials& credentials) {
  if (credentials.password.empty()) return OkStatus();
  RedisCommand auth = {"AUTH"};
  if (!credentials.user.empty()) auth.push_back(credentials.user);
  auth.push_back(credentials.password);
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply, Ask(auth));
  return OkStatus();
}

Status RedisConnection::Impl::Select() {
  if (options.database == 0) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply, Ask({"SELECT", std::to_string(options.database)}));
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

Status RedisConnection::Impl::SendPlain(std::string_view wire, SteadyClock::time_point deadline) {
  if (!tls) return Send(wire, deadline);
  const Status encrypted = tls->Encrypt(wire);
  if (!encrypted.ok()) return Drop(encrypted.code, encrypted.message);
  return Send(tls->TakeOutgoing(), deadline);
}

Result<std::string_view> RedisConnection::Impl::ReceiveSome(SteadyClock::time_point deadline) {
  for (;;) {
    FUSELINE_FAIL_IF_ERROR(AwaitSocket(POLLIN, deadline));
    const ssize_t got = ::recv(context->fd, received.data(), received.size(), MSG_DONTWAIT);
    if (got > 0) return std::string_view(received.data(), static_cast<std::size_t>(got));
    if (got == 0) return tl::unexpected(Drop(Code::kUnavailable, "closed the connection"));
    if (errno != EINTR && errno != EAGAIN) return tl::unexpected(Drop(Code::kUnavailable, std::strerror(errno)));
  }
}

Result<std::size_t> RedisConnection::Impl::FeedReader(std::string_view bytes) {
  if (!tls) {
    redisReaderFeed(context->reader, bytes.data(), bytes.size());
    return bytes.size();
  }
  tls->Feed(bytes);
  std::size_t fed = 0;
  for (;;) {
    const auto plain = tls->Decrypt(decrypted);
    if (!plain) return tl::unexpected(Drop(plain.error().code, plain.error().message));
    if (*plain == 0) return fed;
    redisReaderFeed(context->reader, decrypted.data(), *plain);
    fed += *plain;
  }
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
    FUSELINE_ASSIGN_OR_FAIL(const std::string_view bytes, ReceiveSome(deadline));
    FUSELINE_ASSIGN_OR_FAIL(const std::size_t fed, FeedReader(bytes));
    taken += fed;
  }
}

Result<std::vector<RedisReply>> RedisConnection::Impl::ExchangeOnce(const std::vector<RedisCommand>& commands,
                                                                    std::int64_t extra_ms) {
  if (!context) return Error(Code::kUnavailable, "redis", at.text, "is not connected");
  std::string wire;
  for (const RedisCommand& command : commands) AppendCommand(wire, command);
  const auto deadline = SteadyClock::now() + std::chrono::milliseconds(options.command_timeout_ms + extra_ms);
  FUSELINE_FAIL_IF_ERROR(SendPlain(wire, deadline));
  std::vector<RedisReply> replies;
  replies.reserve(commands.size());
  while (replies.size() < commands.size()) {
    FUSELINE_ASSIGN_OR_FAIL(RedisReply reply, Receive(deadline));
    replies.push_back(std::move(reply));
  }
  return replies;
}

// What a node refused with MOVED it has not done, and the keys of a call lie together: all of it is said again at the other node.
Result<std::vector<RedisReply>> RedisConnection::Impl::Exchange(const std::vector<RedisCommand>& commands, std::int64_t extra_ms) {
  for (int moves = 0;; ++moves) {
    FUSELINE_ASSIGN_OR_FAIL(std::vector<RedisReply> replies, ExchangeOnce(commands, extra_ms));
    const auto moved = std::find_if(replies.begin(), replies.end(), [](const RedisReply& reply) {
      return reply.kind == RedisReply::Kind::kError && reply.text.starts_with("MOVED ");
    });
    if (moved == replies.end()) return replies;
    if (moves == kMovesMax) return tl::unexpected(Drop(Code::kUnavailable, "and its cluster disagree about where the keys are"));
    FUSELINE_ASSIGN_OR_FAIL(const RedisAddress other, AddressOfMoved(moved->text, at));
    FUSELINE_ASSIGN_OR_FAIL(const Credentials own, OwnCredentials());
    FUSELINE_FAIL_IF_ERROR(OpenAt(other, own));
  }
}

Result<RedisReply> RedisConnection::Impl::Judge(RedisReply reply) {
  if (reply.kind != RedisReply::Kind::kError) return reply;
  if (AsksForAnotherServer(reply.text)) Close();
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
const std::string& RedisConnection::peer() const { return impl_->at.text; }

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
