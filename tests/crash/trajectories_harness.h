#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/kafka/connection.h"
#include "fuseline/test_support/eventually.h"
#include "fuseline/test_support/kafka_process.h"
#include "fuseline/v1/event.pb.h"
#include "loop_harness.h"

namespace fuseline::test {

// A record of a topic of trajectories, as it lies there.
struct StoredRecord {
  std::string key, value;
};
using StoredTopic = std::map<std::int32_t, std::vector<StoredRecord>>;

// Everything that the topic holds now, in the order of offsets.
Result<StoredTopic> ReadTopic(const KafkaProcess& kafka, const std::string& topic);
// The same records in a new topic.
Status WriteTopic(KafkaProcess& kafka, const std::string& topic, const StoredTopic& records);

// What a reader makes of a topic of trajectories that takes a name only after its predecessor and drops what it knows.
struct TakenTrajectories {
  std::map<std::int32_t, std::vector<std::string>> bytes;  // Of each partition, in order: records whole.
  std::uint64_t repeats = 0;
  std::vector<std::string> faults;  // Gaps, repeats with other bytes, records in the wrong place; empty when all is well.
};
TakenTrajectories TakeAll(const StoredTopic& topic);

// Whether the group's offsets are at the end of every partition.
Result<bool> HasCommittedEverything(const KafkaProcess& kafka, const std::string& topic, const std::string& group);

kafka::Connection ConnectionTo(const KafkaProcess& kafka);

// `fuseline sessionize` of a group, from one topic to another.
class Member : public ServedProcess {
 public:
  Member(const KafkaProcess& kafka, const std::string& events_topic, const std::string& trajectories_topic, const std::string& group,
         std::vector<std::string> settings = {});

  // Waits until it owns so many partitions. Errors: as WaitUntil.
  Status WaitUntilOwns(std::size_t partitions);
};

// Waits until the member's group has committed all that the topic holds; false when it ended before, or not in time.
bool HasReadAll(const KafkaProcess& kafka, Member& member, const std::string& topic, const std::string& group);

// Records that the running process has taken from the broker; 0 while it does not answer.
std::uint64_t Ingested(Member& member);

// In KiB, of a running process.
std::int64_t ResidentKiB(std::int64_t pid);

// How often `what` stands in `text`.
std::size_t CountOf(const std::string& text, const std::string& what);

}  // namespace fuseline::test
