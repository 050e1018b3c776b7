#include "soak.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <numeric>

#include "fuseline/core/file.h"
#include "fuseline/kafka/consumer.h"
#include "fuseline/test_support/server.h"
#include "soak_stream.h"

namespace fuseline::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kPartitions = 4;
constexpr int kMembers = 2;
constexpr double kRecordsPerSecond = 5'000;
constexpr std::uint64_t kRulesChanges = 6;
constexpr std::int64_t kPatienceMs = 120'000;  // Without any of it, the work has stopped.
constexpr const char* kGroup = "soak";
constexpr const char* kReferenceGroup = "undisturbed";

std::vector<std::int32_t> AllPartitions() {
  std::vector<std::int32_t> all(kPartitions);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace

Result<std::unique_ptr<Soak>> Soak::Open(SoakOptions options) {
  std::unique_ptr<Soak> soak(new Soak(std::move(options)));
  FUSELINE_FAIL_IF_ERROR(soak->Prepare());
  return soak;
}

Status Soak::Prepare() {
  deadline_ = begin_ + milliseconds(options_.for_ms);
  last_print_ = last_turn_ = begin_;
  FUSELINE_RETURN_IF_ERROR(MakeFolders(options_.folder));
  const nlohmann::json asked = {{"events", options_.events}, {"kills", options_.kills}, {"seed", options_.seed}};
  state_ = {{"asked", asked}, {"produced", 0}, {"killed", 0}, {"emptied", 0},
            {"rules", 0},     {"endings", 0},  {"calls", 0}};
  const auto stored = ReadFile(options_.folder + "/soak.json");
  if (stored) {
    state_ = nlohmann::json::parse(*stored);
    if (state_["asked"] != asked) {
      return ErrorStatus(Code::kConflict, "the folder holds another soak: go on with it, or name an empty folder;",
                         state_["asked"].dump());
    }
  }
  state_["calls"] = state_["calls"].get<std::uint64_t>() + 1;
  random_ = Random(options_.seed, "kills", state_["calls"].get<std::uint64_t>());
  produced_ = produced_at_begin_ = state_["produced"];

  FUSELINE_ASSIGN_OR_RETURN(kafka_, KafkaProcess::Start(options_.folder + "/kafka"));
  connection_.bootstrap_servers = kafka_->bootstrap_servers();
  if (!stored) {
    const std::map<std::string, std::string> settings = {
        {"retention.ms", "-1"}, {"message.timestamp.type", "CreateTime"}, {"max.message.bytes", "8388608"}};
    for (const char* topic : {"events", "trajectories", "undisturbed"}) {
      FUSELINE_RETURN_IF_ERROR(kafka_->CreateTopic(topic, kPartitions, settings));
    }
    FUSELINE_RETURN_IF_ERROR(kafka_->CreateTopic("fuseline.dead_letters", 1));
    FUSELINE_RETURN_IF_ERROR(Save());
  }
  const auto delivered = [this](const kafka::DeliveryReport& report) {
    if (!report.status.ok()) delivery_ = report.status;
    if (report.id != 0) state_["ends"][static_cast<std::size_t>(report.partition)] = report.offset;
  };
  FUSELINE_ASSIGN_OR_RETURN(producer_, kafka::Producer::Open(connection_, {}, delivered));
  FUSELINE_ASSIGN_OR_RETURN(topic_, TrajectoryTopic::Open(connection_, "trajectories", kPartitions));
  FUSELINE_ASSIGN_OR_RETURN(reference_, TrajectoryTopic::Open(connection_, "undisturbed", kPartitions));
  for (int m = 0; m < kMembers; ++m) members_.push_back({.name = "member-" + std::to_string(m)});
  return OkStatus();
}

// What is produced is flushed first: after a kill of the soak itself, some records are sent again, which makes them
// duplicates.
Status Soak::Save() {
  if (producer_) {
    FUSELINE_RETURN_IF_ERROR(producer_->Flush(kPatienceMs));
    FUSELINE_RETURN_IF_ERROR(delivery_);
  }
  state_["produced"] = produced_;
  return WriteFileAtomically(options_.folder + "/soak.json", state_.dump(2) + "\n");
}

Status Soak::StartMember(Member& member, const std::string& group, const std::string& topic, bool ticks) {
  // Commits often, so that kills fall on all of it.
  const std::vector<std::string> settings = {"kafka.brokers=" + connection_.bootstrap_servers,
                                             "kafka.group_id=" + group,
                                             "kafka.trajectories_topic=" + topic,
                                             "kafka.session_timeout_ms=1000",
                                             "sessionizer.gap_ms=" + std::to_string(kSoakGapMs),
                                             "sessionizer.lateness_ms=" + std::to_string(kSoakLatenessMs),
                                             "sessionizer.cut_every_ms=90000",
                                             "sessionizer.max_events=40",
                                             "sessionizer.commit_records=2000",
                                             "sessionizer.commit_interval_ms=50",
                                             std::string("sessionizer.idle_timeout_ms=") + (ticks ? "300" : "0"),
                                             "ingest.max_future_ms=1000",
                                             "fuseline.state_dir=" + FolderOf(member),
                                             "fuseline.log_level=warn",
                                             "http.address=127.0.0.1:0"};
  std::vector<std::string> arguments = {std::string(std::getenv("FUSELINE_BIN_DIR")) + "/fuseline", "sessionize"};
  for (const std::string& setting : settings) {
    arguments.push_back("--set");
    arguments.push_back(setting);
  }
  FUSELINE_ASSIGN_OR_RETURN(auto process, ChildProcess::Start(arguments, FolderOf(member) + ".log"));
  member.process.emplace(std::move(process));
  return OkStatus();
}

Status Soak::StopMembers() {
  for (Member& member : members_) {
    if (!member.process) continue;
    member.process->Signal(SIGINT);
    const int code = member.process->Wait();
    member.process.reset();
    const std::string log = TailOfFile(FolderOf(member) + ".log", 20);
    // librdkafka 2.0 may abort when a member leaves before its group was formed: to the state, one more kill.
    const bool aborted_by_client =
        code == 128 + SIGABRT && log.find("rd_kafka_sticky_assignor_state_destroy") != std::string::npos;
    if (code != 130 && !aborted_by_client)
      return ErrorStatus(Code::kInternal, "an interrupted member ended with", code, log);
  }
  return OkStatus();
}

Result<SoakReport> Soak::Run() {
  if (!state_.contains("ends")) FUSELINE_FAIL_IF_ERROR(KillUntilAllIsRead());
  if (!TimeIsUp()) FUSELINE_FAIL_IF_ERROR(Close());
  if (!TimeIsUp()) FUSELINE_FAIL_IF_ERROR(ReadUndisturbed());
  FUSELINE_FAIL_IF_ERROR(StopMembers());
  FUSELINE_FAIL_IF_ERROR(Save());
  return TimeIsUp() ? SoakReport() : Compare();
}

Status Soak::Turn(TrajectoryTopic& topic) {
  FUSELINE_RETURN_IF_ERROR(Produce());
  FUSELINE_RETURN_IF_ERROR(topic.Poll(/*timeout_ms=*/10));
  PrintProgress();
  for (Member& member : members_) {
    if (member.process && !member.process->running()) {
      return ErrorStatus(Code::kUnavailable, "a member ended by itself with", member.process->Wait(),
                         TailOfFile(FolderOf(member) + ".log", 20));
    }
  }
  return OkStatus();
}

// The flow stops where the next kill is due, so that kills are spread over all of it.
Status Soak::Produce() {
  const auto now = steady_clock::now();
  const std::uint64_t killed = state_["killed"];
  const std::uint64_t until =
      killed >= options_.kills ? options_.events : options_.events * (killed + 1) / (options_.kills + 1);
  allowance_ = std::min(kRecordsPerSecond,
                        allowance_ + std::chrono::duration<double>(now - last_turn_).count() * kRecordsPerSecond);
  last_turn_ = now;
  for (; allowance_ >= 1 && produced_ < until; ++produced_, --allowance_) {
    FUSELINE_RETURN_IF_ERROR(Send(-1, MakeSoakRecord(options_.seed, produced_)));
    const std::uint64_t rules = state_["rules"];
    if (rules >= kRulesChanges || produced_ < options_.events * (rules + 1) / (kRulesChanges + 1)) continue;
    state_["rules"] = rules + 1;
    for (const std::int32_t p : AllPartitions()) FUSELINE_RETURN_IF_ERROR(Send(p, MakeSoakRules(rules + 1, produced_)));
  }
  producer_->Poll(0);
  return delivery_;
}

Status Soak::Send(std::int32_t partition, const SoakRecord& record) {
  return producer_->ProduceOrWait({.topic = "events",
                                   .key = record.key,
                                   .value = record.value,
                                   .partition = partition,
                                   .timestamp_ms = record.time_ms},
                                  kPatienceMs);
}

Status Soak::KillUntilAllIsRead() {
  for (Member& member : members_) FUSELINE_RETURN_IF_ERROR(StartMember(member, kGroup, "trajectories", /*ticks=*/true));
  while (!TimeIsUp() && state_["killed"] < options_.kills) {
    const std::uint64_t killed = state_["killed"];
    FUSELINE_RETURN_IF_ERROR(
        TurnUntil(*topic_, [&] { return produced_ >= options_.events * killed / (options_.kills + 1); }));
    // Most kills wait until the members say something again; the others fall on their opening, or on a group that is
    // being formed.
    const std::uint64_t said = topic_->trajectories();
    if (random_.NextBelow(10) < 7) {
      FUSELINE_RETURN_IF_ERROR(TurnUntil(*topic_, [&] { return topic_->trajectories() > said; }));
      FUSELINE_RETURN_IF_ERROR(TurnFor(random_.NextBelow(700)));
    } else {
      FUSELINE_RETURN_IF_ERROR(TurnFor(random_.NextBelow(2'500)));
    }
    if (!TimeIsUp()) FUSELINE_RETURN_IF_ERROR(KillOne());
  }
  return TurnUntil(*topic_, [&] { return produced_ == options_.events; });
}

Status Soak::TurnUntil(TrajectoryTopic& topic, const std::function<bool()>& holds) {
  std::uint64_t progress = 0;
  auto patience = steady_clock::now() + milliseconds(kPatienceMs);
  while (!TimeIsUp() && !holds()) {
    FUSELINE_RETURN_IF_ERROR(Turn(topic));
    if (topic.trajectories() + produced_ != std::exchange(progress, topic.trajectories() + produced_)) {
      patience = steady_clock::now() + milliseconds(kPatienceMs);
    }
    if (steady_clock::now() < patience) continue;
    return ErrorStatus(Code::kUnavailable, "nothing goes on", TailOfFile(FolderOf(members_[0]) + ".log", 20));
  }
  return OkStatus();
}

Status Soak::TurnFor(std::uint64_t ms) {
  const auto end = steady_clock::now() + milliseconds(ms);
  while (!TimeIsUp() && steady_clock::now() < end) FUSELINE_RETURN_IF_ERROR(Turn(*topic_));
  return OkStatus();
}

Status Soak::KillOne() {
  Member& member = members_[random_.NextBelow(members_.size())];
  if (!member.process->running()) return OkStatus();  // The next turn says why.
  member.process->Kill();
  state_["killed"] = state_["killed"].get<std::uint64_t>() + 1;
  if (random_.NextBelow(5) == 0) {
    std::filesystem::remove_all(FolderOf(member));
    state_["emptied"] = state_["emptied"].get<std::uint64_t>() + 1;
  }
  FUSELINE_RETURN_IF_ERROR(Save());
  return StartMember(member, kGroup, "trajectories", /*ticks=*/true);
}

// Ends every session in every partition, and waits until that was said and committed. No more ticks: the end of the log
// stands.
Status Soak::Close() {
  FUSELINE_RETURN_IF_ERROR(StopMembers());
  for (Member& member : members_)
    FUSELINE_RETURN_IF_ERROR(StartMember(member, kGroup, "trajectories", /*ticks=*/false));
  if (!state_.contains("ends")) {
    const std::uint64_t endings = state_["endings"];
    state_["endings"] = endings + 1;  // One that was cut off is followed by a later one.
    FUSELINE_RETURN_IF_ERROR(Save());
    const std::uint64_t index = options_.events + endings * 1'000'000;
    for (const std::int32_t p : AllPartitions()) FUSELINE_RETURN_IF_ERROR(Send(p, MakeSoakEnd(index, false)));
    state_["ends"] = std::vector<std::int64_t>(kPartitions, -1);
    for (const std::int32_t p : AllPartitions()) {
      const SoakRecord last = MakeSoakEnd(index, true);
      FUSELINE_RETURN_IF_ERROR(producer_->ProduceOrWait({.topic = "events",
                                                         .key = last.key,
                                                         .value = last.value,
                                                         .partition = p,
                                                         .timestamp_ms = last.time_ms,
                                                         .id = 1},
                                                        kPatienceMs));
    }
    FUSELINE_RETURN_IF_ERROR(Save());
  }
  FUSELINE_RETURN_IF_ERROR(TurnUntil(*topic_, [&] { return HasSaidTheEnd(*topic_, kGroup); }));
  return StopMembers();
}

Status Soak::ReadUndisturbed() {
  members_.resize(1);
  members_[0].name = "undisturbed";
  FUSELINE_RETURN_IF_ERROR(StartMember(members_[0], kReferenceGroup, "undisturbed", /*ticks=*/false));
  return TurnUntil(*reference_, [&] { return HasSaidTheEnd(*reference_, kReferenceGroup); });
}

// Of every partition, and committed all of it.
bool Soak::HasSaidTheEnd(const TrajectoryTopic& topic, const std::string& group) {
  for (std::size_t p = 0; p < kPartitions; ++p) {
    const auto& said = topic.said()[p];
    if (said.empty() || said.rbegin()->first.first < state_["ends"][p]) return false;
  }
  return AccountOf(group).has_value();
}

// Sums what the group's word on each partition says. Errors: kNotFound until all of them are on the end of the log.
Result<nlohmann::json> Soak::AccountOf(const std::string& group) {
  FUSELINE_ASSIGN_OR_FAIL(const auto consumer,
                          kafka::Consumer::Open(connection_, {.topic = "events", .group_id = group}));
  FUSELINE_ASSIGN_OR_FAIL(const auto committed, consumer->Committed(AllPartitions()));
  nlohmann::json sums = nlohmann::json::object();
  for (std::int32_t p = 0; p < kPartitions; ++p) {
    const auto found = committed.find(p);
    if (found == committed.end() || found->second.offset <= state_["ends"][static_cast<std::size_t>(p)]) {
      return Error(Code::kNotFound, "not at the end yet; partition", p);
    }
    const auto metadata = nlohmann::json::parse(found->second.metadata);
    for (const auto& [name, value] : metadata["accounting"].items()) {
      sums[name] = sums.value(name, std::uint64_t{0}) +
                   (value.is_string() ? std::stoull(value.get<std::string>()) : value.get<std::uint64_t>());
    }
  }
  return sums;
}

Result<SoakReport> Soak::Compare() {
  SoakReport report{.finished = true,
                    .trajectories = reference_->trajectories(),
                    .repeats = topic_->repeats(),
                    .twice = topic_->contradictions() + reference_->contradictions(),
                    .gaps = topic_->gaps() + reference_->gaps()};
  for (std::size_t p = 0; p < kPartitions; ++p) {
    const auto& expected = reference_->said()[p];
    const auto& said = topic_->said()[p];
    for (const auto& [name, digest] : expected) {
      const auto found = said.find(name);
      if (found == said.end()) {
        ++report.lost;
      } else if (found->second != digest) {
        ++report.altered;
      }
    }
    report.twice += static_cast<std::uint64_t>(
        std::ranges::count_if(said, [&](const auto& each) { return !expected.contains(each.first); }));
  }
  FUSELINE_ASSIGN_OR_FAIL(report.account, AccountOf(kGroup));
  FUSELINE_ASSIGN_OR_FAIL(report.undisturbed_account, AccountOf(kReferenceGroup));
  return report;
}

void Soak::PrintProgress() {
  const auto now = steady_clock::now();
  if (now - last_print_ < milliseconds(10'000)) return;
  last_print_ = now;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const double rate = static_cast<double>(produced_ - produced_at_begin_) / seconds;
  const double left = rate > 0 ? static_cast<double>(options_.events - std::min(options_.events, produced_)) / rate : 0;
  std::cerr << "soak: " << produced_ << " of " << options_.events << " events, " << static_cast<std::uint64_t>(rate)
            << "/s, " << state_["killed"] << " of " << options_.kills << " kills (" << state_["emptied"]
            << " with their state), " << topic_->trajectories() << " trajectories, " << topic_->repeats()
            << " repeats, " << topic_->gaps() << " gaps, " << reference_->trajectories() << " read undisturbed; "
            << static_cast<std::uint64_t>(left / 60) << " min left\n";
}

}  // namespace fuseline::test
