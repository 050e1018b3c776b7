#include "fuseline/test_support/redis_process.h"

#include <csignal>
#include <fstream>
#include <utility>

#include <hiredis/hiredis.h>

#include "fuseline/test_support/server.h"

namespace fuseline::test {
namespace {

constexpr int kStartPatienceMs = 10'000;
constexpr int kPortAttempts = 3;

using Connection = std::unique_ptr<redisContext, decltype(&redisFree)>;

// The answer as redis-cli prints it when its output is no terminal: nil is an empty line, an array
// one line an element.
std::string Printed(const redisReply& reply) {
  switch (reply.type) {
    case REDIS_REPLY_INTEGER: return std::to_string(reply.integer);
    case REDIS_REPLY_ARRAY: {
      std::string lines;
      for (std::size_t i = 0; i < reply.elements; ++i)
        lines += (i == 0 ? "" : "\n") + Printed(*reply.element[i]);
      return lines;
    }
    case REDIS_REPLY_NIL: return "";
    default: return {reply.str, reply.len};
  }
}

}  // namespace

Result<std::unique_ptr<RedisProcess>> RedisProcess::Start(Options options) {
  std::unique_ptr<RedisProcess> redis(new RedisProcess(std::move(options)));
  redis->socket_path_ = redis->dir_ / "redis.sock";
  Status status;
  for (int attempt = 0; attempt < kPortAttempts; ++attempt) {
    if (redis->options_.tcp) redis->port_ = FreePort();
    status = redis->Launch();
    if (status.ok()) return redis;
  }
  return tl::unexpected(status);
}

Status RedisProcess::Launch() {
  const std::string log_path = dir_ / "redis.log";
  const std::string settings_path = dir_ / "redis.conf";
  std::ofstream(settings_path)
      << "port " << port_ << "\nbind 127.0.0.1\nunixsocket " << socket_path_ << "\ndir "
      << dir_.path() << "\nsave \"\"\nmaxmemory-policy noeviction\nappendfsync always\nappendonly "
      << (options_.append_only ? "yes" : "no") << "\n";
  std::vector<std::string> command{"redis-server", settings_path};
  command.insert(command.end(), options_.extra_args.begin(), options_.extra_args.end());
  FUSELINE_ASSIGN_OR_RETURN(process_, ChildProcess::Start(command, log_path));
  return WaitUntilReady(*process_, log_path, kStartPatienceMs, [this] {
    const auto answer = Command({"PING"});
    return answer.has_value() && *answer == "PONG";
  });
}

void RedisProcess::Kill() { process_->Kill(); }
Status RedisProcess::Restart() { return Launch(); }
void RedisProcess::Pause() { process_->Signal(SIGSTOP); }
void RedisProcess::Resume() { process_->Signal(SIGCONT); }

Result<std::string> RedisProcess::Command(const std::vector<std::string>& args) {
  const timeval patience{.tv_sec = 5, .tv_usec = 0};
  const Connection connection(redisConnectUnixWithTimeout(socket_path_.c_str(), patience),
                              redisFree);
  if (connection == nullptr || connection->err != 0)
    return Error(Code::kUnavailable, "cannot connect to redis", socket_path_);
  redisSetTimeout(connection.get(), patience);
  std::vector<const char*> words;
  std::vector<std::size_t> lengths;
  for (const auto& arg : args) {
    words.push_back(arg.data());
    lengths.push_back(arg.size());
  }
  const std::unique_ptr<redisReply, decltype(&freeReplyObject)> reply(
      static_cast<redisReply*>(redisCommandArgv(connection.get(), static_cast<int>(args.size()),
                                                words.data(), lengths.data())),
      freeReplyObject);
  if (reply == nullptr)
    return Error(Code::kUnavailable, "no answer from redis", connection->errstr);
  if (reply->type == REDIS_REPLY_ERROR)
    return Error(Code::kInvalidInput, "redis refused the command", Printed(*reply));
  return Printed(*reply);
}

}  // namespace fuseline::test
