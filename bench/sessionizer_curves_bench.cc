// Where the cost of an event and the memory bend: from 10,000 to 10,000,000 users, from 1 to 64 partitions, and with
// less memory than the open sessions need. Events are made in this process, one batch after another, because a topic of
// 10,000,000 users would be larger than many a disk: no broker, so the cost is the sessionizer's alone, from checked
// batches to committed sessions, outbox read and acknowledged. Each point runs in a process of its own.
//   zipf, partitions   1,000,000 events of users drawn by zipf(1.0), 20 ms apart: sessions close on the way
//   open               one event of each user, so that each has an open session, then (`drawn`, measured apart)
//                      1,000,000 of users drawn evenly
// CPU time is that of the whole process less that of making the events; memory is what comes on top of the generator's.
//   sessionizer_curves_bench [POINT …], points as the first column names them
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "fuseline/core/check.h"
#include "session_ways.h"
#include "session_workload.h"

namespace fuseline::bench {
namespace {

constexpr std::int64_t kDrawn = 1'000'000;
constexpr double kOpenSpanMs = 1'500'000;  // Shorter than the gap: nothing closes.
constexpr std::int64_t kMib = 1 << 20;
constexpr std::int64_t kStep = 10'000;

struct Point {
  std::string name;
  WorkloadOptions workload;
  std::int64_t max_memory_mib = 16'384;  // More than any point needs.
};

std::vector<Point> Points() {
  std::vector<Point> points;
  for (const std::size_t users : {10'000ul, 100'000ul, 1'000'000ul, 10'000'000ul}) {
    points.push_back({"zipf/" + std::to_string(users), {.events = kDrawn, .users = users}});
  }
  for (const std::size_t users : {10'000ul, 100'000ul, 1'000'000ul, 10'000'000ul}) {
    WorkloadOptions workload{.events = static_cast<std::int64_t>(users) + kDrawn, .users = users, .draw = Draw::kOnce};
    workload.spacing_ms = kOpenSpanMs / static_cast<double>(workload.events);
    points.push_back({"open/" + std::to_string(users), workload});
    for (const std::int64_t mib : {1024, 256}) {
      if (users >= 1'000'000)
        points.push_back({"open/" + std::to_string(users) + "/" + std::to_string(mib) + "MiB", workload, mib});
    }
  }
  for (const std::int32_t partitions : {1, 2, 4, 8, 16, 32, 64}) {
    points.push_back({"partitions/" + std::to_string(partitions), {.events = kDrawn, .partitions = partitions}});
  }
  return points;
}

// Feeds a sessionizer with generated events.
class Feed {
 public:
  explicit Feed(const Point& point)
      : workload_(point.workload), batcher_(point.workload.partitions), sessions_(SettingsOf(point)) {}

  // Returns the seconds of CPU that all but making the events took.
  double Run(std::int64_t events) {
    double making_s = 0;
    const Cost cost = CostOf([&] {
      for (std::int64_t i = 0; i < events; i += kStep) {
        const double begin_s = ThreadSeconds();
        std::vector<EventBatch> batches = Make(std::min(kStep, events - i));
        making_s += ThreadSeconds() - begin_s;
        for (EventBatch& batch : batches) sessions_.Take(std::move(batch));
      }
      sessions_.Finish();
    });
    return cost.cpu_s - making_s;
  }

  const Sessions& sessions() const { return sessions_; }

 private:
  std::vector<EventBatch> Make(std::int64_t events) {
    std::vector<EventBatch> full;
    for (std::int64_t i = 0; i < events && workload_.Next(&event_); ++i) {
      if (batcher_.Add(event_)) full.push_back(batcher_.Take(event_.partition));
    }
    return full;
  }

  static v1::Sessionizer SettingsOf(const Point& point) {
    v1::Sessionizer settings = SessionSettings();
    settings.set_max_memory_bytes(point.max_memory_mib * kMib);
    return settings;
  }

  Workload workload_;
  Batcher batcher_;
  GeneratedEvent event_;
  Sessions sessions_;
};

void Measure(const Point& point) {
  Feed feed(point);
  const double before_mib = MemoryMib();
  const bool open = point.workload.draw == Draw::kOnce;
  const std::int64_t first = open ? static_cast<std::int64_t>(point.workload.users) : 0;
  const double first_s = open ? feed.Run(first) : 0;
  const double drawn_s = feed.Run(kDrawn);
  std::printf("%-24s %10.2f %10.2f %12lu %10.0f %10.0f %10.0f\n", point.name.c_str(),
              open ? 1e6 * first_s / static_cast<double>(first) : 0, 1e6 * drawn_s / kDrawn,
              feed.sessions().OpenSessions(), feed.sessions().HeldMib(), PeakMemoryMib() - before_mib,
              feed.sessions().DiskMib());
  std::fflush(stdout);
}

void Main(const std::vector<std::string>& names) {
  std::printf("%-24s %10s %10s %12s %10s %10s %10s\n", "", "first us", "drawn us", "open", "held MiB", "peak MiB",
              "disk MiB");
  std::fflush(stdout);
  for (const Point& point : Points()) {
    if (!names.empty() && std::find(names.begin(), names.end(), point.name) == names.end()) continue;
    const pid_t child = ::fork();
    FUSELINE_CHECK(child >= 0);
    if (child == 0) {
      Measure(point);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) std::printf("%-24s failed\n", point.name.c_str());
  }
}

}  // namespace
}  // namespace fuseline::bench

int main(int argc, char** argv) { fuseline::bench::Main(std::vector<std::string>(argv + 1, argv + argc)); }
