#include "trajectories_harness.h"

#include <cstdlib>
#include <fstream>
#include <utility>

#include "fuseline/kafka/consumer.h"
#include "fuseline/kafka/producer.h"
#include "fuseline/proto/trajectory_name.h"
#include "fuseline/proto/trajectory_record.h"

namespace fuseline::test {
namespace {

constexpr std::int64_t kPatienceMs = 60'000;
constexpr int kLooksMax = 1'200;  // Of 50 ms.

Result<std::unique_ptr<kafka::Consumer>> OpenConsumer(const KafkaProcess& kafka, const std::string& topic, const std::string& group = "") {
  kafka::ConsumerOptions options;
  options.topic = topic;
  options.group_id = group;
  return kafka::Consumer::Open(ConnectionTo(kafka), options);
}

std::vector<std::string> MemberSettings(const std::string& events_topic, const std::string& trajectories_topic, const std::string& group,
                                        std::vector<std::string> settings) {
  settings.push_back("kafka.events_topic=" + events_topic);
  settings.push_back("kafka.trajectories_topic=" + trajectories_topic);
  settings.push_back("kafka.group_id=" + group);
  // Commits often, so that partitions change hands between many of them, unless a test wants it otherwise.
  settings.insert(settings.begin(),
                  {"kafka.session_timeout_ms=1000", "fuseline.log_level=info", "sessionizer.commit_interval_ms=20"});
  return settings;
}

}  // namespace

kafka::Connection ConnectionTo(const KafkaProcess& kafka) {
  kafka::Connection connection;
  connection.bootstrap_servers = kafka.bootstrap_servers();
  return connection;
}

Result<StoredTopic> ReadTopic(const KafkaProcess& kafka, const std::string& topic) {
  FUSELINE_ASSIGN_OR_FAIL(const auto consumer, OpenConsumer(kafka, topic));
  FUSELINE_ASSIGN_OR_FAIL(const std::int32_t count, consumer->PartitionCount());
  StoredTopic records;
  std::map<std::int32_t, kafka::StartPosition> starts;
  std::map<std::int32_t, std::int64_t> left;  // Up to the ends of now.
  for (std::int32_t partition = 0; partition < count; ++partition) {
    FUSELINE_ASSIGN_OR_FAIL(const kafka::Watermarks marks, consumer->QueryWatermarks(partition));
    if (marks.high > marks.low) left[partition] = marks.high;
    starts[partition] = kafka::StartPosition::Earliest();
    records[partition];
  }
  FUSELINE_FAIL_IF_ERROR(consumer->Assign(starts));
  for (int look = 0; look < kLooksMax && !left.empty(); ++look) {
    FUSELINE_ASSIGN_OR_FAIL(const kafka::MessageBatch batch, consumer->Consume(1'000, 50));
    for (const kafka::Message& message : batch.messages()) {
      records[message.partition].push_back({std::string(message.key), std::string(message.value)});
      if (left.contains(message.partition) && message.offset + 1 >= left[message.partition]) left.erase(message.partition);
    }
  }
  if (!left.empty()) return Error(Code::kUnavailable, "topic not read in time:", topic);
  return records;
}

Status WriteTopic(KafkaProcess& kafka, const std::string& topic, const StoredTopic& records) {
  FUSELINE_RETURN_IF_ERROR(kafka.CreateTopic(topic, static_cast<int>(records.size()), {{"retention.ms", "-1"}}));
  FUSELINE_ASSIGN_OR_RETURN(const auto producer, kafka::Producer::Open(ConnectionTo(kafka), {}, nullptr));
  for (const auto& [partition, stored] : records) {
    for (const StoredRecord& record : stored) {
      kafka::OutgoingMessage message;
      message.topic = topic;
      message.partition = partition;
      message.key = record.key;
      message.value = record.value;
      FUSELINE_RETURN_IF_ERROR(producer->ProduceOrWait(message, kPatienceMs));
    }
  }
  return producer->Flush(kPatienceMs);
}

TakenTrajectories TakeAll(const StoredTopic& topic) {
  TakenTrajectories taken;
  for (const auto& [partition, records] : topic) {
    std::map<std::string, std::string> known;
    std::string last = "none";
    taken.bytes[partition];
    for (const StoredRecord& stored : records) {
      const auto record = DecodeTrajectoryRecord(stored.value, partition);
      if (!record) {
        taken.faults.push_back(record.error().message);
        continue;
      }
      if (record->has_progress()) continue;
      const v1::Trajectory& trajectory = record->trajectory();
      const std::string name = NameText(trajectory.name());
      if (stored.key != trajectory.user_id()) taken.faults.push_back("key is not the user of " + name);
      if (const auto repeat = known.find(name); repeat != known.end()) {
        ++taken.repeats;
        if (repeat->second != stored.value) taken.faults.push_back("other bytes under the name " + name);
        continue;
      }
      const std::string predecessor = trajectory.has_predecessor() ? NameText(trajectory.predecessor()) : "none";
      if (predecessor != last) taken.faults.push_back("gap: " + name + " follows " + predecessor + ", the last is " + last);
      last = name;
      known[name] = stored.value;
      taken.bytes[partition].push_back(stored.value);
    }
  }
  return taken;
}

Result<bool> HasCommittedEverything(const KafkaProcess& kafka, const std::string& topic, const std::string& group) {
  FUSELINE_ASSIGN_OR_FAIL(const auto consumer, OpenConsumer(kafka, topic, group));
  FUSELINE_ASSIGN_OR_FAIL(const std::int32_t count, consumer->PartitionCount());
  for (std::int32_t partition = 0; partition < count; ++partition) {
    const std::int32_t one[] = {partition};
    FUSELINE_ASSIGN_OR_FAIL(const kafka::Watermarks marks, consumer->QueryWatermarks(partition));
    FUSELINE_ASSIGN_OR_FAIL(const auto committed, consumer->Committed(one));
    if (committed.empty() || committed.begin()->second.offset < marks.high) return false;
  }
  return true;
}

Member::Member(const KafkaProcess& kafka, const std::string& events_topic, const std::string& trajectories_topic,
               const std::string& group, std::vector<std::string> settings)
    : ServedProcess(kafka, "sessionize", MemberSettings(events_topic, trajectories_topic, group, std::move(settings))) {}

Status Member::WaitUntilOwns(std::size_t partitions) {
  return WaitUntil([&](const nlohmann::json& status) { return status["partitions"].size() == partitions; }, kPatienceMs);
}

bool HasReadAll(const KafkaProcess& kafka, Member& member, const std::string& topic, const std::string& group) {
  return Eventually([&] { return !member.running() || HasCommittedEverything(kafka, topic, group).value_or(false); }) && member.running();
}

std::uint64_t Ingested(Member& member) {
  const auto status = member.Ask();
  return status && status->contains("ingested") ? status->at("ingested").get<std::uint64_t>() : 0;
}

std::int64_t ResidentKiB(std::int64_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::atoll(line.c_str() + 6);
  }
  return 0;
}

std::size_t CountOf(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

}  // namespace fuseline::test
