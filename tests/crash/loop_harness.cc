#include "loop_harness.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "fuseline/core/file.h"
#include "fuseline/core/http.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/rollout/experiment.h"
#include "fuseline/serving_bridge/event_log_kafka.h"
#include "fuseline/simulator/bridge.h"
#include "fuseline/simulator/simulation.h"

namespace fuseline::test {
namespace {

class Collected final : public EventSink {
 public:
  Status Append(v1::Event&& event) override {
    events.push_back(std::move(event));
    return OkStatus();
  }
  std::vector<v1::Event> events;
};

std::string Program() { return std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline"; }

constexpr std::int64_t kFlushPatienceMs = 10'000;

Status WriteAll(EventLogSink& sink, std::span<const v1::Event> events) {
  while (!events.empty()) {
    const auto taken = sink.Write(events);
    if (!taken && taken.error().code != Code::kUnavailable) return taken.error();
    if (taken) {
      events = events.subspan(*taken);
    } else {
      // The producer's queue is full: what is in it goes first.
      FUSELINE_RETURN_IF_ERROR(sink.Flush(kFlushPatienceMs));
    }
  }
  return OkStatus();
}

void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }

}  // namespace

Result<std::vector<v1::Event>> SimulatedEvents(std::uint64_t seed, std::uint64_t count) {
  const TempDir dir;
  Log log(Severity::kError);
  Metrics metrics;
  const SystemClock clock;
  v1::Config config = DefaultSettings();
  config.mutable_redis()->set_address("unix:" + (dir / "nobody.sock"));
  FUSELINE_ASSIGN_OR_FAIL(RankerOptions options, RankerOptionsOf(config));
  options.name = "simulated";
  options.seed = seed;
  options.experiments = {LearningBesideStatic("simulated", 0.2)};
  FUSELINE_ASSIGN_OR_FAIL(const auto ranker, Ranker::Open(std::move(options), log, metrics, clock));
  return EventsRankedBy(*ranker, seed, /*start_ms=*/1'704'067'200'000, count);
}

Result<std::vector<v1::Event>> EventsRankedBy(Ranker& ranker, std::uint64_t seed, std::int64_t start_ms, std::uint64_t count) {
  const v1::Config config = DefaultSettings();
  FUSELINE_ASSIGN_OR_FAIL(const auto world, CreateFeedWorld(config.simulator(), config.rewards(), seed, SchemaOf(config)));
  BridgeRankService service(ranker);
  Collected collected;
  Simulation simulation(*world, service, collected, start_ms);
  if (const auto made = simulation.RunUntil({.max_events = count}); !made) return tl::unexpected(made.error());
  collected.events.resize(std::min<std::size_t>(collected.events.size(), count));
  return std::move(collected.events);
}

Status MakeEventsTopic(KafkaProcess& kafka, const std::string& topic, int partitions, const std::vector<v1::Event>& events) {
  FUSELINE_RETURN_IF_ERROR(kafka.CreateTopic(topic, partitions, {{"retention.ms", "-1"}, {"message.timestamp.type", "CreateTime"}}));
  return AppendEvents(kafka, topic, events);
}

Status AppendEvents(const KafkaProcess& kafka, const std::string& topic, const std::vector<v1::Event>& events) {
  Log log(Severity::kError);
  KafkaSinkOptions options;
  options.connection.bootstrap_servers = kafka.bootstrap_servers();
  options.topic = topic;
  options.event_time_timestamps = true;
  FUSELINE_ASSIGN_OR_RETURN(const auto sink, OpenKafkaSink(options, log));
  constexpr std::size_t kChunk = 2'000;
  for (std::size_t i = 0; i < events.size(); i += kChunk) {
    FUSELINE_RETURN_IF_ERROR(WriteAll(*sink, std::span(events).subspan(i, std::min(kChunk, events.size() - i))));
  }
  return sink->Flush(kFlushPatienceMs);
}

ServedProcess::ServedProcess(const KafkaProcess& kafka, const std::string& subcommand, std::vector<std::string> settings)
    : state_(dir_ / "state") {
  // A topic that is compared record by record is only read, unless a test wants it otherwise; the broker may be reached another way.
  settings.insert(settings.begin(), {"sessionizer.idle_timeout_ms=0", "kafka.brokers=" + kafka.bootstrap_servers()});
  settings.push_back("fuseline.state_dir=" + state_);
  settings.push_back("http.address=127.0.0.1:0");
  arguments_ = {Program(), subcommand};
  for (const std::string& setting : settings) {
    arguments_.push_back("--set");
    arguments_.push_back(setting);
  }
}

Status ServedProcess::Start(const std::vector<std::string>& more_arguments) {
  // A killed process leaves its address behind: nobody may mistake it for the new one's.
  std::error_code ignored;
  std::filesystem::remove(state_ + "/http_address", ignored);
  std::vector<std::string> arguments = arguments_;
  arguments.insert(arguments.end(), more_arguments.begin(), more_arguments.end());
  FUSELINE_ASSIGN_OR_RETURN(ChildProcess process, ChildProcess::Start(arguments, dir_ / "log"));
  process_.emplace(std::move(process));
  return OkStatus();
}

int ServedProcess::Interrupt() {
  process_->Signal(SIGINT);
  return process_->Wait();
}

std::optional<nlohmann::json> ServedProcess::Ask() {
  const auto address = ReadFile(state_ + "/http_address");
  if (!address) return std::nullopt;
  const auto answer = HttpGet(*address, "/status", 1'000);
  if (!answer) return std::nullopt;
  return nlohmann::json::parse(*answer);
}

Status ServedProcess::WaitUntil(const std::function<bool(const nlohmann::json& status)>& holds, std::int64_t patience_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
  std::string last = "none";
  while (running() && std::chrono::steady_clock::now() < deadline) {
    if (const auto status = Ask()) {
      if (holds(*status)) return OkStatus();
      last = status->dump();
    }
    Pause();
  }
  return ErrorStatus(Code::kUnavailable, running() ? "not in time" : "the process ended", last, log());
}

namespace {

std::vector<std::string> LoopSettings(const RedisProcess& redis, const std::string& topic, std::vector<std::string> settings) {
  settings.push_back("kafka.events_topic=" + topic);
  settings.insert(settings.begin(), "kafka.group_id=" + std::filesystem::path(redis.socket_path()).parent_path().filename().string());
  settings.push_back("redis.address=unix:" + redis.socket_path());
  return settings;
}

}  // namespace

LoopProcess::LoopProcess(const KafkaProcess& kafka, const RedisProcess& redis, const std::string& topic,
                         std::vector<std::string> settings)
    : ServedProcess(kafka, "run", LoopSettings(redis, topic, std::move(settings))) {}

Status LoopProcess::WaitUntilLearned(std::uint64_t events, std::int64_t patience_ms) {
  const auto learned = [&](const nlohmann::json& status) {
    return status["accounting"]["read"] == events && status["idle"] == true && status["learner_backlog"] == 0;
  };
  return WaitUntil(learned, patience_ms);
}

Result<nlohmann::json> ServedProcess::StoredStatus() {
  std::string output;
  const int code = RunFuseline({"status", "--json", "--state", state_}, &output);
  if (code != 0) return Error(Code::kInternal, "fuseline status ended with", code);
  return nlohmann::json::parse(output);
}

std::string ServedProcess::log() const { return ReadFile(dir_ / "log").value_or(""); }

int RunFuseline(const std::vector<std::string>& arguments, std::string* output) {
  TempDir dir;
  std::vector<std::string> command = {"/bin/sh", "-c", "exec \"$@\" >\"$0\"", dir / "output", Program()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  auto process = ChildProcess::Start(command);
  if (!process) return 127;
  const int code = process->Wait();
  *output = ReadFile(dir / "output").value_or("");
  return code;
}

}  // namespace fuseline::test
