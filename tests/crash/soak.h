#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "fuseline/core/child_process.h"
#include "fuseline/core/random.h"
#include "fuseline/core/status.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/test_support/kafka_process.h"
#include "said_trajectories.h"

namespace fuseline::test {

struct SoakOptions {
  std::string folder;                // All of its state; a second call goes on from there.
  std::uint64_t events = 2'000'000;  // At least 1,000.
  std::uint64_t kills = 200;
  std::int64_t for_ms = 3'600'000;  // Wall time of this call.
  std::uint64_t seed = 1;
};

struct SoakReport {
  bool finished = false;  // False: the time is up, and nothing below is known yet.
  std::uint64_t trajectories = 0;
  std::uint64_t repeats = 0;  // Dropped by the reader, as they should be.
  std::uint64_t lost = 0;     // Said by the undisturbed members, never by those that were killed.
  std::uint64_t twice = 0;    // Said under a name that the undisturbed did not give, or twice with different bytes.
  std::uint64_t altered = 0;  // Other bytes under the same name.
  std::uint64_t gaps = 0;
  nlohmann::json account, undisturbed_account;  // Sums over the partitions.

  bool proven() const { return finished && lost + twice + altered + gaps == 0 && account == undisturbed_account; }
};

// `fuseline sessionize`, two members of a group over a real broker, killed again and again at random moments while
// events flow; some come back without their state folder. Then the same log is read by a member that is left alone,
// into another topic, and the two topics are compared. One thread. Errors: kUnavailable when a member ends by itself or
// the work does not go on, with its log.
class Soak {
 public:
  static Result<std::unique_ptr<Soak>> Open(SoakOptions options);
  Result<SoakReport> Run();

 private:
  using Instant = std::chrono::steady_clock::time_point;
  struct Member {
    std::string name;
    std::optional<ChildProcess> process;
  };
  explicit Soak(SoakOptions options) : options_(std::move(options)), random_(options_.seed, "soak", 0) {}

  Status Prepare();
  Status Save();
  Status StartMember(Member& member, const std::string& group, const std::string& topic, bool ticks);
  Status StopMembers();
  Status KillUntilAllIsRead();
  Status KillOne();
  Status Close();
  Status ReadUndisturbed();
  Result<SoakReport> Compare();

  Status Turn(TrajectoryTopic& topic);  // A step of everything that goes on, some 10 ms.
  // Errors: kUnavailable if neither events nor trajectories go on.
  Status TurnUntil(TrajectoryTopic& topic, const std::function<bool()>& holds);
  Status TurnFor(std::uint64_t ms);
  Status Produce();
  Status Send(std::int32_t partition, const struct SoakRecord& record);
  bool HasSaidTheEnd(const TrajectoryTopic& topic, const std::string& group);
  Result<nlohmann::json> AccountOf(const std::string& group);
  std::string FolderOf(const Member& member) const { return options_.folder + "/" + member.name; }
  bool TimeIsUp() const { return std::chrono::steady_clock::now() >= deadline_; }
  void PrintProgress();

  SoakOptions options_;
  Random random_;
  nlohmann::json state_;  // What a later call begins with.
  Instant begin_ = std::chrono::steady_clock::now(), deadline_, last_print_, last_turn_;
  std::uint64_t produced_at_begin_ = 0;
  std::uint64_t produced_ = 0;
  double allowance_ = 0;                 // Records that may be produced now.
  std::unique_ptr<KafkaProcess> kafka_;  // Outlives all below.
  kafka::Connection connection_;
  std::unique_ptr<kafka::Producer> producer_;
  Status delivery_;
  std::unique_ptr<TrajectoryTopic> topic_, reference_;
  std::vector<Member> members_;
};

}  // namespace fuseline::test
