#include "private_redis.h"

#include <chrono>
#include <thread>

#include "fuseline/core/file.h"
#include "fuseline/redis/connection.h"

namespace fuseline {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);

bool Answers(const std::string& address) {
  RedisOptions options;
  options.address = address;
  auto connection = RedisConnection::Connect(options);
  return connection && connection->Command({"PING"});
}

}  // namespace

Result<PrivateRedis> PrivateRedis::Start(const std::filesystem::path& folder) {
  FUSELINE_FAIL_IF_ERROR(MakeFolders(folder));
  // The kernel's limit for the name of a Unix socket; redis-server would only say "invalid argument".
  const std::filesystem::path socket = std::filesystem::absolute(folder) / "redis.sock";
  if (socket.string().size() > 107) return Error(Code::kInvalidInput, "path of the Unix socket is too long:", socket.string());
  const std::filesystem::path log = folder / "redis.log";
  FUSELINE_ASSIGN_OR_FAIL(
      ChildProcess process,
      ChildProcess::Start({"redis-server", "--port", "0", "--unixsocket", socket.string(), "--save", "", "--appendonly", "no",
                           "--maxmemory-policy", "noeviction", "--dir", folder.string()},
                          log));
  PrivateRedis redis(std::move(process), "unix:" + socket.string());
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!Answers(redis.address())) {
    if (!redis.process_.running() || std::chrono::steady_clock::now() > deadline) {
      return Error(Code::kUnavailable, "redis-server does not answer; its log:", log.string());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return redis;
}

}  // namespace fuseline
