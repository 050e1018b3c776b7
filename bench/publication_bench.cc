// From "here is a version" to "live in Redis and durable on disk", beside a plain SET of the same bytes to the same
// server. What the difference pays for: files synced, digests, the fence, and the alias moved in one step. Run it with
// TMPDIR on a disk and on a tmpfs: at 50 KB the disk's syncs are nearly all of it, at 2 MB digests, copies and Redis
// are a third or more. And what verification costs a ranker, and a delta its maker and its taker.
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/random.h"
#include "fuseline/core/signature.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/fusion/version_delta.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/proto/schema.h"
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

// A version as rankers get it, and one that an update later made of it: each weight has moved by a thousandth of
// itself.
struct Trained {
  explicit Trained(std::size_t bytes) {
    Random random(1, "trained", bytes);
    std::vector<float> before(bytes / sizeof(float)), after(before.size());
    for (std::size_t i = 0; i < before.size(); ++i) {
      before[i] = static_cast<float>(0.1 * random.NextNormal());
      after[i] = static_cast<float>(before[i] * (1 + 1e-3 * random.NextNormal()));
    }
    base = Sealed(1, before);
    next = Sealed(2, after);
  }
  static PolicyVersion Sealed(std::uint64_t number, const std::vector<float>& values) {
    PolicyVersion version;
    version.manifest.set_version(number);
    version.weights = EncodeWeights({{"actor.0.weight", {{static_cast<std::uint32_t>(values.size())}, values}}});
    SealManifest(version.manifest, version.weights, std::uint64_t{8} << 20);
    return version;
  }
  PolicyVersion base, next;
};

void SetThroughput(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

// All that a ranker asks of a version's bytes once it has them: signature, digests, finite tensors.
void BM_Verify(benchmark::State& state) {
  const PolicyVersion version = Trained(static_cast<std::size_t>(state.range(0))).next;
  const SigningKey key = *SigningKey::Generate();
  const PublicKeys trusted = *PublicKeys::FromHex(ToHex(key.public_key()));
  const std::string manifest = CanonicalBytes(version.manifest), digest = Sha256Of(manifest), signature = key.Sign(manifest);
  std::vector<std::string> parts;
  for (int i = 0; i < version.manifest.parts_size(); ++i) parts.emplace_back(PartOf(version.manifest, version.weights, static_cast<std::size_t>(i)));
  for (auto _ : state) {
    FUSELINE_CHECK(trusted.Verify(manifest, signature));
    auto decoded = DecodeManifest(manifest, digest, 2);
    FUSELINE_CHECK(decoded.has_value());
    const auto whole = AssembleVersion(*std::move(decoded), parts);
    FUSELINE_CHECK(whole.has_value() && DecodeWeights(whole->weights).has_value());
  }
  SetThroughput(state);
}

void BM_MakeDelta(benchmark::State& state) {
  const Trained trained(static_cast<std::size_t>(state.range(0)));
  std::size_t bytes = 0;
  for (auto _ : state) bytes = MakeDelta(trained.base, trained.next)->difference().size();
  SetThroughput(state);
  state.counters["of_whole"] = static_cast<double>(bytes) / static_cast<double>(trained.next.weights.size());
}

// The digests included: what a ranker does in place of reading the parts and verifying them.
void BM_ApplyDelta(benchmark::State& state) {
  const Trained trained(static_cast<std::size_t>(state.range(0)));
  const v1::VersionDelta delta = *MakeDelta(trained.base, trained.next);
  for (auto _ : state) FUSELINE_CHECK(ApplyDelta(delta, trained.base, trained.next.manifest).has_value());
  SetThroughput(state);
}

void BM_AssembleParts(benchmark::State& state) {
  const PolicyVersion version = Trained(static_cast<std::size_t>(state.range(0))).next;
  for (auto _ : state) FUSELINE_CHECK(AssembleVersion(version.manifest, {version.weights}).has_value());
  SetThroughput(state);
}

BENCHMARK(BM_Verify)->Arg(10'000'000)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_MakeDelta)->Arg(50'000)->Arg(500'000)->Arg(2'000'000)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ApplyDelta)->Arg(50'000)->Arg(500'000)->Arg(2'000'000)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_AssembleParts)->Arg(50'000)->Arg(500'000)->Arg(2'000'000)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_PlainSet)->Arg(50'000)->Arg(500'000)->Arg(2'000'000)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(100);
BENCHMARK(BM_Publish)->Arg(50'000)->Arg(500'000)->Arg(2'000'000)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(50);

}  // namespace
}  // namespace fuseline

BENCHMARK_MAIN();
