// From "here is a version" to "live in Redis and durable on disk", beside a plain SET of the same bytes to the same server.
// What the difference pays for: files synced, digests, the fence, and the alias moved in one step. Run it with TMPDIR on a disk and
// on a tmpfs: at 50 KB the disk's syncs are nearly all of it, at 2 MB digests, copies and Redis are a third or more.
#include <string>

#include <benchmark/benchmark.h>

#include "fuseline/core/check.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline {
namespace {

test::RedisProcess& Server() {
  static const auto server = test::RedisProcess::Start();
  FUSELINE_CHECK(server.has_value());
  return **server;
}

RedisOptions Options() { return {.address = "unix:" + Server().socket_path()}; }

PolicyVersion VersionOf(std::uint64_t number, std::size_t bytes) {
  PolicyVersion version;
  version.manifest.set_version(number);
  version.weights.assign(bytes, static_cast<char>(number));
  return version;
}

void BM_PlainSet(benchmark::State& state) {
  auto redis = RedisConnection::Connect(Options());
  FUSELINE_CHECK(redis.has_value());
  const std::string bytes(static_cast<std::size_t>(state.range(0)), 'x');
  for (auto _ : state) FUSELINE_CHECK(redis->Command({"SET", "plain", bytes}).has_value());
}

void BM_Publish(benchmark::State& state) {
  const test::TempDir folder;
  DiskFileSystem disk;
  SystemClock clock;
  Log log(Severity::kError);
  Metrics metrics;
  auto archive = Archive::Open(folder.path(), std::uint64_t{8} << 20, disk);
  FUSELINE_CHECK(archive.has_value());
  PublisherOptions options;
  options.policy = "bench" + std::to_string(clock.monotonic_us());  // Each run begins with a policy of its own.
  auto publisher = Publisher::Open(options, *archive, [] { return RedisConnection::Connect(Options()); }, clock, log, metrics);
  FUSELINE_CHECK(publisher.has_value() && publisher->Claim(1).ok());
  std::uint64_t number = 0;
  for (auto _ : state) {
    const PolicyVersion version = VersionOf(++number, static_cast<std::size_t>(state.range(0)));
    FUSELINE_CHECK(publisher->Publish(version, PointLive::kYes).has_value());
  }
}

BENCHMARK(BM_PlainSet)->Arg(50'000)->Arg(500'000)->Arg(2'000'000)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(100);
BENCHMARK(BM_Publish)->Arg(50'000)->Arg(500'000)->Arg(2'000'000)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(50);

}  // namespace
}  // namespace fuseline

BENCHMARK_MAIN();
