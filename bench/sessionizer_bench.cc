// What a durable session costs, in CPU time of one core, beside the ceiling, the obvious way and a stream engine, all
// from the same topic of a real broker, with the same gap, grace and event limit, committed at least each second:
//   read          consume and check: the ceiling of everything behind ingest
//   sessions      topic → KafkaSource → Sessionizer → committed, outbox read and acknowledged (as in one process)
//   to_topic      the same, its trajectories written to a topic before the outbox lets go (as apart)
//   naive         Get and Put of the user's whole window for each event, from decoded batches, the first events only
//   streams_exactly_once
//   streams_at_least_once   the Kafka Streams program of bench/peers/kafka_streams, if it was built
//   streams_count           the same at least once, a session keeps only its number of events: the engine alone
// One run does all of them in turn, round after round. CPU time is user and system time of all threads of the process
// that does the work, librdkafka's, RocksDB's and the virtual machine's included; the broker is another process.
//   sessionizer_bench [--rounds N] [--events N] [--evenly] [WAY …]
// 100,000 users, drawn by zipf(1.0) or evenly.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"
#include "fuseline/kafka/producer.h"
#include "kafka_streams_peer.h"
#include "session_ways.h"
#include "session_workload.h"

namespace fuseline::bench {
namespace {

constexpr std::int64_t kNaiveEvents = 40'000;  // Its cost per event grows with the windows.
constexpr std::int64_t kPatienceMs = 60'000;

struct Arguments {
  std::size_t rounds = 5;
  std::int64_t events = 100'000;  // The peer takes its time.
  Draw draw = Draw::kZipf;
  std::vector<std::string> ways;

  bool Wants(const std::string& way) const {
    return ways.empty() || std::find(ways.begin(), ways.end(), way) != ways.end();
  }
};

// Every engine must have made the same sessions, or their costs are not those of the same work.
class SameSessions {
 public:
  explicit SameSessions(const Workload& workload) : events_(workload.size()), left_open_(workload.partitions()) {}

  void Check(const std::string& way, std::int64_t events, std::int64_t sessions) {
    if (sessions_ < 0) {
      sessions_ = sessions;
      std::printf("%ld events, %ld sessions closed, %d left open\n", events_, sessions, left_open_);
    }
    if (events == events_ && sessions == sessions_) return;
    std::fprintf(stderr, "%s: %ld sessions of %ld events, not %ld of %ld\n", way.c_str(), sessions, events, sessions_,
                 events_);
    std::exit(1);
  }

 private:
  const std::int64_t events_;
  const std::int32_t left_open_;
  std::int64_t sessions_ = -1;
};

Cost Pipe(const EventTopic& topic, Sessions& sessions, SameSessions& same) {
  const Cost cost = CostOf([&] {
    topic.ReadAll([&](EventBatch&& batch) { sessions.Take(std::move(batch)); });
    sessions.Finish();
  });
  const v1::Accounting account = sessions.Account();
  same.Check("ours", static_cast<std::int64_t>(account.read()), static_cast<std::int64_t>(account.sessions()));
  return cost;
}

Cost PipeToTopic(const EventTopic& topic, SameSessions& same) {
  const auto producer = Must(kafka::Producer::Open(topic.connection(), {}, nullptr));
  const auto produce = [&](const OutboxEntry& entry) {
    kafka::OutgoingMessage message;
    message.topic = EventTopic::kTrajectories;
    message.partition = entry.name.partition();
    message.value = entry.bytes;
    Must(producer->ProduceOrWait(message, kPatienceMs));
  };
  Sessions sessions(SessionSettings(), produce, [&] { Must(producer->Flush(kPatienceMs)); });
  return Pipe(topic, sessions, same);
}

Cost Naive(const Workload& workload) {
  std::vector<EventBatch> batches = BatchesOf(workload, kNaiveEvents);
  NaiveSessions sessions;
  return CostOf([&] {
    for (EventBatch& batch : batches) sessions.Take(std::move(batch));
    sessions.Sync();
  });
}

Cost Stream(KafkaStreamsPeer& peer, const std::string& guarantee, const std::string& aggregate, SameSessions& same) {
  const KafkaStreamsPeer::Pass pass = Must(peer.Run(guarantee, aggregate));
  same.Check("Kafka Streams", pass.events, pass.sessions);
  return pass.cost;
}

struct Way {
  std::string name;
  std::int64_t events;
  std::function<Cost()> run;
  std::vector<Cost> costs = {};

  double Rate(double Cost::*seconds, std::size_t rank) const {  // Events per second; rank 0 is the slowest round.
    std::vector<double> rates;
    for (const Cost& cost : costs) rates.push_back(static_cast<double>(events) / (cost.*seconds));
    std::sort(rates.begin(), rates.end());
    return rates[rank];
  }
  double Median() const { return Rate(&Cost::cpu_s, costs.size() / 2); }
};

void PrintTable(const std::vector<Way>& ways) {
  std::printf("%-22s %14s %12s %12s %10s %14s\n", "events/s", "median of CPU", "worst", "best", "us/event",
              "median of wall");
  for (const Way& way : ways) {
    std::printf("%-22s %14.0f %12.0f %12.0f %10.2f %14.0f\n", way.name.c_str(), way.Median(), way.Rate(&Cost::cpu_s, 0),
                way.Rate(&Cost::cpu_s, way.costs.size() - 1), 1e6 / way.Median(),
                way.Rate(&Cost::wall_s, way.costs.size() / 2));
  }
  for (const Way& a : ways) {
    for (const Way& b : ways) {
      if (&a < &b) std::printf("%s / %s = %.2f\n", a.name.c_str(), b.name.c_str(), a.Median() / b.Median());
    }
  }
}

std::unique_ptr<KafkaStreamsPeer> StartPeer(const EventTopic& topic) {
  auto peer = KafkaStreamsPeer::Start(topic.bootstrap_servers(), EventTopic::kName);
  if (!peer && peer.error().code == Code::kNotFound) {
    std::printf("without Kafka Streams: %s\n", peer.error().message.c_str());
    return nullptr;
  }
  return Must(std::move(peer));
}

void Main(const Arguments& arguments) {
  const Workload workload({.events = arguments.events, .draw = arguments.draw});
  SameSessions same(workload);
  std::vector<Way> ways;
  const auto add = [&](const char* name, std::int64_t events, std::function<Cost()> run) {
    if (arguments.Wants(name)) ways.push_back({name, events, std::move(run)});
  };
  auto topic = EventTopic::Fill(workload);
  std::unique_ptr<KafkaStreamsPeer> peer;
  if (topic) {
    add("read", workload.size(), [&] { return CostOf([&] { (*topic)->ReadAll([](EventBatch&&) {}); }); });
    add("sessions", workload.size(), [&] {
      Sessions sessions(SessionSettings());
      return Pipe(**topic, sessions, same);
    });
    add("to_topic", workload.size(), [&] { return PipeToTopic(**topic, same); });
    const std::size_t ours = ways.size();
    add("streams_exactly_once", workload.size(), [&] { return Stream(*peer, "exactly_once_v2", "events", same); });
    add("streams_at_least_once", workload.size(), [&] { return Stream(*peer, "at_least_once", "events", same); });
    add("streams_count", workload.size(), [&] { return Stream(*peer, "at_least_once", "count", same); });
    if (ways.size() > ours) peer = StartPeer(**topic);
    if (!peer) ways.resize(ours);
  } else {
    std::printf("naive only: %s\n", topic.error().message.c_str());
  }
  add("naive", kNaiveEvents, [&] { return Naive(workload); });
  for (Way& way : ways) way.run();  // Once for nothing: page caches, machine code.
  for (std::size_t round = 0; round < arguments.rounds; ++round) {
    for (Way& way : ways) {
      way.costs.push_back(way.run());
      std::fprintf(stderr, "round %zu %s: %.2f s of CPU\n", round + 1, way.name.c_str(), way.costs.back().cpu_s);
    }
  }
  PrintTable(ways);
}

}  // namespace
}  // namespace fuseline::bench

int main(int argc, char** argv) {
  namespace bench = fuseline::bench;
  bench::Arguments arguments;
  bool understood = true;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--rounds" && i + 1 < argc) {
      arguments.rounds = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--events" && i + 1 < argc) {
      arguments.events = std::strtol(argv[++i], nullptr, 10);
    } else if (argument == "--evenly") {
      arguments.draw = bench::Draw::kEvenly;
    } else if (argument.starts_with("-")) {
      understood = false;
    } else {
      arguments.ways.push_back(argument);
    }
  }
  if (!understood || arguments.rounds < 1 || arguments.events < 1) {
    std::fprintf(
        stderr,
        "usage: sessionizer_bench [--rounds N] [--events N] [--evenly] [read|sessions|to_topic|…]\n");
    return 2;
  }
  bench::Main(arguments);
}
