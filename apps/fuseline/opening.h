#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "freshness.h"
#include "learning_input.h"
#include "fuseline/core/file.h"
#include "fuseline/ingest/dead_letter.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/policy_store/archive.h"
#include "pipeline_status.h"
#include "session_stage.h"

namespace fuseline {

// A state folder in use by this process: its lock, held as long as this lives.
struct OpenFolder {
  FolderLock lock;
  StateFolders folders;

  // `input` says in words what is read: offsets of one input mean nothing in another.
  // Errors: kConflict if another process uses the folder; kInvalidInput if it was made from another input; kUnavailable below
  // min_free_disk_bytes.
  static Result<OpenFolder> Open(const v1::Config& config, const std::string& input);
};

// The stages that own what is inside. Errors: those of the stages.
Result<std::unique_ptr<Sessionizer>> OpenSessionizer(const v1::Config& config, const StateFolders& folders, Instruments instruments);
// `input`: what the learner goes on to read, in words (learning_input.h).
Result<std::unique_ptr<Learner>> OpenLearner(const v1::Config& config, const StateFolders& folders, const LearnerInput& input,
                                             Instruments instruments);
// Keeps the settings by which the state is read. After the stages were opened: what they refuse must not become these.
// A scorer that is learned from now on, where there are `versions` of it (ascending): numbered behind the newest of them, measured by
// the newest that passed its gate, or that was imported with none.
Status BeginScorerBehind(Learner& learner, const std::vector<std::uint64_t>& versions,
                         const std::function<Result<ArchivedVersion>(std::uint64_t)>& read);

Status RememberSettings(const v1::Config& config, const StateFolders& folders);

// Gives `stage` the events topic to read: every partition begins where SessionStage::TakeOver says.
Status ReadEventsTopic(const v1::Config& config, const KafkaReading& reading, DeadLetterSink* dead_letters, SessionStage& stage);

// The topic of dead letters, or the file that the settings name; `without_kafka`: that file, or STATE/dead_letters.jsonl.
Result<std::unique_ptr<DeadLetterSink>> OpenDeadLetters(const v1::Config& config, bool without_kafka);

// Makes this process the newest learner of its policy: appends a claim to the claims topic, made where it is missing, and returns
// its offset + 1.
Result<std::uint64_t> ClaimEpoch(const v1::Config& config);

// The archive in the state folder, published to Redis under `epoch`; 0: the archive alone. Feeds `freshness`.
Result<std::unique_ptr<Publication>> OpenPublication(const v1::Config& config, std::uint64_t epoch, Freshness& freshness,
                                                     Instruments instruments);

// The same of the scorer, under its own policy's name: of the one that is learned, or of what `versions import` put into the archive, which
// Redis may lose too. Null where there is neither.
Result<std::unique_ptr<Publication>> OpenScorerPublication(const v1::Config& config, std::uint64_t epoch, Instruments instruments);

// "fuseline 0.1.0, g++ 12.2.0, Release, build 8f3a…": what the lineage says of this program; the last is the linker's id of its bytes.
std::string BuildText();

}  // namespace fuseline
