// How soon a version serves, what a swap costs those who rank meanwhile, and what verification costs: a ranker that
// follows a real redis-server on loopback. BENCHMARKS.md holds the figures.
//
//   latency  from the script that moves the alias (about to be sent, and answered) to the swap in the ranker, versions
//   of three sizes swap     two threads rank without pause while versions are swapped under them; beside a control,
//   where another ranker of the same process
//            takes as many versions, so that processor, caches and Redis are as busy
//   verify   a version of 10 MB: its digests, its decoding, its network; beside copying it
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fuseline/core/digest.h"
#include "fuseline/core/stage.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/test_support/redis_process.h"
#include "fuseline/test_support/temp_dir.h"
#include "measure.h"
#include "ranker_case.h"
#include "rounds.h"

namespace fuseline::bench {
namespace {

constexpr std::size_t kRounds = 5;
constexpr std::size_t kCandidates = 300, kExposed = 5;
constexpr int kReaders = 2;

double NowUs() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Quantile(std::vector<double>& values, double share) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

// A policy with two versions in Redis, whose alias `live` goes to and fro; and a ranker that follows it.
class Followed {
 public:
  Followed(const test::RedisProcess& redis, const RankerCase& from, const std::string& policy) : keys_(policy) {
    options_.address = "127.0.0.1:" + std::to_string(redis.port());
    archive_ = std::make_unique<Archive>(Must(Archive::Open(folder_.path(), std::uint64_t{8} << 20, disk_)));
    PublisherOptions publisher_options;
    publisher_options.policy = policy;
    auto publisher = Must(Publisher::Open(
        publisher_options, *archive_, [this] { return RedisConnection::Connect(options_); }, clock_, log_, metrics_));
    Must(publisher.Claim(1));
    for (std::uint64_t number = 1; number <= 2; ++number) {
      PolicyVersion version = from.version();
      version.manifest.set_version(number);
      version.manifest.set_policy(policy);
      Must(publisher.Publish(version, number == 1 ? PointLive::kYes : PointLive::kNo));
    }
    redis_ = std::make_unique<RedisConnection>(Must(RedisConnection::Connect(options_)));
    seen_ = Must(ReadAliases(*redis_, keys_));

    RankerOptions ranker_options = TestOptions("");
    ranker_options.redis = options_;
    ranker_options.policy = policy;
    ranker_options.poll_interval_ms = 1'000;
    ranker_options.on_version = [this](const v1::PolicyManifest&, const v1::AliasChange& change, std::int64_t) {
      taken_us_ = NowUs();
      taken_ = change.change();
      taken_.notify_all();
    };
    ranker_ = Must(Ranker::Open(std::move(ranker_options), log_, metrics_, clock_));
    Await(FindAlias(seen_, kLiveAlias)->change());
  }

  struct Moved {
    double sent_us, answered_us, taken_us;
  };
  Moved MoveAndAwait() {
    const std::uint64_t other = 3 - FindAlias(seen_, kLiveAlias)->to_version();
    AliasMove move = Must(PlanPromotion(seen_, kLiveAlias, other));
    move.who = "bench";
    Moved moved{};
    moved.sent_us = NowUs();
    seen_ = Must(MoveAlias(*redis_, keys_, seen_, move, 10'000));
    moved.answered_us = NowUs();
    Await(FindAlias(seen_, kLiveAlias)->change());
    moved.taken_us = taken_us_;
    return moved;
  }

  Ranker& ranker() { return *ranker_; }

 private:
  void Await(std::uint64_t change) {
    for (std::uint64_t taken = taken_; taken < change; taken = taken_) taken_.wait(taken);
  }

  PolicyKeys keys_;
  RedisOptions options_;
  test::TempDir folder_;
  DiskFileSystem disk_;
  SystemClock clock_;
  Log log_{Severity::kError};
  Metrics metrics_;
  std::unique_ptr<Archive> archive_;
  std::unique_ptr<RedisConnection> redis_;
  v1::AliasState seen_;
  std::atomic<double> taken_us_ = 0;
  std::atomic<std::uint64_t> taken_ = 0;  // The last change taken.
  std::unique_ptr<Ranker> ranker_;        // Last: its thread calls into the members above.
};

void Latency(const test::RedisProcess& redis) {
  for (const auto& [preset, moves] : {std::pair{"small", 2'000}, {"paper", 2'000}, {"large", 100}}) {
    const RankerCase from(preset);
    Followed followed(redis, from, std::string("latency-") + preset);
    std::vector<double> sent, answered;
    for (int i = 0; i < moves; ++i) {
      const auto moved = followed.MoveAndAwait();
      sent.push_back(1e-3 * (moved.taken_us - moved.sent_us));
      answered.push_back(1e-3 * (moved.taken_us - moved.answered_us));
      SleepFor(std::stop_token(), 1);
    }
    std::printf(
        "latency, %s, %.2f MB, %d moves (%s): from the script sent to the swap p50 %.3f ms, p99 %.3f ms, at most %.3f "
        "ms; "
        "from its answer p50 %.3f, p99 %.3f\n",
        preset, 1e-6 * static_cast<double>(from.version().weights.size()), moves, Load().c_str(), Quantile(sent, 0.5),
        Quantile(sent, 0.99), Quantile(sent, 1), Quantile(answered, 0.5), Quantile(answered, 0.99));
    std::fflush(stdout);
  }
}

// What readers met in one round: microseconds of each ranking, by the clock on the wall and by that of their own
// processor time.
struct Met {
  std::vector<double> wall, cpu;
  std::size_t swaps = 0;
};

// `moved`: whose versions change meanwhile, each `pause_ms` after the one before was taken; null: nobody's.
Met Read(Ranker& ranker, const OwnedRequest& request, Followed* moved, std::int64_t pause_ms, double seconds) {
  Met met;
  std::vector<Met> each(kReaders);
  {
    std::vector<std::jthread> readers;
    for (Met& mine : each) {
      readers.emplace_back([&] {
        mine.wall.reserve(1'000'000);
        mine.cpu.reserve(1'000'000);
        auto reader = ranker.NewReader();
        Decision decision;
        const RankingRequest view = request.view(kExposed);
        Must(ranker.Rank(view, reader, decision));
        for (const double end = NowUs() + 1e6 * seconds; NowUs() < end;) {
          const double cpu = ThreadSeconds(), wall = NowUs();
          Must(ranker.Rank(view, reader, decision));
          mine.wall.push_back(NowUs() - wall);
          mine.cpu.push_back(1e6 * (ThreadSeconds() - cpu));
        }
      });
    }
    for (const double end = NowUs() + 1e6 * seconds; NowUs() < end;) {
      if (moved != nullptr) {
        moved->MoveAndAwait();
        ++met.swaps;
      }
      SleepFor(std::stop_token(), pause_ms);
    }
  }
  for (Met& mine : each) {
    met.wall.insert(met.wall.end(), mine.wall.begin(), mine.wall.end());
    met.cpu.insert(met.cpu.end(), mine.cpu.begin(), mine.cpu.end());
  }
  return met;
}

void Swap(const test::RedisProcess& redis) {
  const RankerCase from("paper");
  Followed ours(redis, from, "swap-ours"), elsewhere(redis, from, "swap-elsewhere");
  const OwnedRequest request(kCandidates, 1);
  struct Condition {
    const char* name;
    Followed* moved;
    std::int64_t pause_ms;
    std::vector<double> wall_50{}, wall_99{}, cpu_50{}, cpu_99{};
    double swaps = 0;
  };
  std::vector<Condition> conditions{{"no swaps", nullptr, 10},
                                    {"another ranker's, 20 a second at most", &elsewhere, 50},
                                    {"ours, 20 a second at most", &ours, 50},
                                    {"another ranker's, without pause", &elsewhere, 0},
                                    {"ours, without pause", &ours, 0}};
  constexpr double kSeconds = 2;
  for (std::size_t round = 0; round < kRounds; ++round) {
    for (Condition& condition : conditions) {
      Met met = Read(ours.ranker(), request, condition.moved, condition.pause_ms, kSeconds);
      condition.wall_50.push_back(Quantile(met.wall, 0.5));
      condition.wall_99.push_back(Quantile(met.wall, 0.99));
      condition.cpu_50.push_back(Quantile(met.cpu, 0.5));
      condition.cpu_99.push_back(Quantile(met.cpu, 0.99));
      condition.swaps += static_cast<double>(met.swaps) / (kSeconds * kRounds);
    }
  }
  std::printf(
      "swap, paper, %d threads that rank %zu candidates, %zu rounds of %.0f s (%s); microseconds: median of the rounds "
      "(best .. worst)\n",
      kReaders, kCandidates, kRounds, kSeconds, Load().c_str());
  const auto print = [](const char* what, std::vector<double>& rounds) {
    std::printf("  %s %.0f (%.0f .. %.0f)", what, Quantile(rounds, 0.5), Quantile(rounds, 0), Quantile(rounds, 1));
  };
  for (Condition& condition : conditions) {
    std::printf("  %-38s %6.1f swaps/s ", condition.name, condition.swaps);
    print("wall p50", condition.wall_50);
    print("p99", condition.wall_99);
    print("| own CPU p50", condition.cpu_50);
    print("p99", condition.cpu_99);
    std::printf("\n");
  }
  std::fflush(stdout);
}

void Verify() {
  const RankerCase from("large");
  const PolicyVersion& version = from.version();
  const std::string manifest = CanonicalBytes(version.manifest), digest = Sha256Of(manifest);
  std::vector<std::string> parts;
  for (int i = 0; i < version.manifest.parts_size(); ++i)
    parts.emplace_back(PartOf(version.manifest, version.weights, static_cast<std::size_t>(i)));
  std::string copy(version.weights.size(), '\0');
  const auto assembled = [&] {
    return Must(AssembleVersion(Must(DecodeManifest(manifest, digest, version.manifest.version())), parts));
  };

  std::vector<Way> ways;
  ways.push_back(WayHere("all of it", [&] {
    const PolicyVersion read = assembled();
    Must(PolicyNetwork::Create(read.manifest, Must(DecodeWeights(read.weights))));
  }));
  ways.push_back(WayHere("digests of parts and whole", [&] { assembled(); }));
  ways.push_back(WayHere("decoding, each value finite", [&] { Must(DecodeWeights(version.weights)); }));
  ways.push_back(WayHere("network, packed for the kernels",
                         [&] { Must(PolicyNetwork::Create(version.manifest, from.tensors())); }));
  ways.push_back(WayHere("SHA-256 of the weights, once", [&] { Sha256Of(version.weights); }));
  ways.push_back(
      WayHere("copying the weights, once", [&] { std::memcpy(copy.data(), version.weights.data(), copy.size()); }));
  MeasureInTurn(ways, kRounds, 0.5);
  std::printf("verify, %.2f MB in %zu parts (%s)\n", 1e-6 * static_cast<double>(version.weights.size()), parts.size(),
              Load().c_str());
  for (const Way& way : ways) Print(way, &ways.front());
}

}  // namespace
}  // namespace fuseline::bench

int main(int argc, char** argv) {
  using namespace fuseline;
  std::vector<std::string> parts(argv + 1, argv + argc);
  if (parts.empty()) parts = {"latency", "swap", "verify"};
  const auto redis = bench::Must(test::RedisProcess::Start({.tcp = true}));
  for (const std::string& part : parts) {
    if (part == "latency") {
      bench::Latency(*redis);
    } else if (part == "swap") {
      bench::Swap(*redis);
    } else if (part == "verify") {
      bench::Verify();
    } else {
      std::fprintf(stderr, "usage: pick_up_bench [latency] [swap] [verify]\n");
      return 2;
    }
  }
}
