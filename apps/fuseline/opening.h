#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "freshness.h"
#include "fuseline/core/file.h"
#include "fuseline/ingest/dead_letter.h"
#include "fuseline/ingest/file_source.h"
#include "fuseline/ingest/kafka_source.h"
#include "pipeline.h"

namespace fuseline {

// A state folder in use by this process: its lock, and the stages that own what is inside.
struct OpenState {
  FolderLock lock;
  StateFolders folders;
  std::unique_ptr<Sessionizer> sessionizer;
  std::unique_ptr<Learner> learner;

  // `input` says in words what is read: offsets of one input mean nothing in another.
  // Errors: kConflict if another process uses the folder; kInvalidInput if it was made from another input; kUnavailable below
  // min_free_disk_bytes; those of the stages.
  static Result<OpenState> Open(const v1::Config& config, const std::string& input, Instruments instruments);
};

// Where to begin in a partition of which the state folder knows nothing.
struct KafkaReading {
  kafka::StartPosition from;
  bool until_end = false;   // A range, up to the ends seen at the start.
  bool cold_start = false;  // Begin again though the group has got further elsewhere.
};

// "topic events, 4 partitions, cluster …": the input of a state folder that reads the events topic.
Result<std::string> DescribeKafkaInput(const v1::Config& config);

// A source over the events topic that begins where `sessionizer` stopped.
// Errors: kInvalidInput if the group has committed offsets of which the state folder knows nothing, without cold_start.
Result<std::unique_ptr<KafkaSource>> OpenKafkaEvents(const v1::Config& config, const KafkaReading& reading,
                                                     const Sessionizer& sessionizer, DeadLetterSink* dead_letters);

// The topic of dead letters, or the file that the settings name; `without_kafka`: that file, or STATE/dead_letters.jsonl.
Result<std::unique_ptr<DeadLetterSink>> OpenDeadLetters(const v1::Config& config, bool without_kafka);

// Makes this process the newest learner of its policy: appends a claim to the claims topic, made where it is missing, and returns
// its offset + 1.
Result<std::uint64_t> ClaimEpoch(const v1::Config& config);

// The archive in the state folder, published to Redis under `epoch`; 0: the archive alone. Feeds `freshness`.
Result<std::unique_ptr<Publication>> OpenPublication(const v1::Config& config, std::uint64_t epoch, Freshness& freshness,
                                                     Instruments instruments);

// "0.1.0, g++ 12.2.0, Release": what the lineage says of this program.
std::string BuildText();

}  // namespace fuseline
