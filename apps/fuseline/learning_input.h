#pragma once

#include <string>
#include <vector>

#include "fuseline/ingest/dead_letter.h"
#include "fuseline/kafka/connection.h"
#include "session_stage.h"

namespace fuseline {

// What a learner reads, as its lineage and its state folder say it in words.
std::string DescribeFiles(const std::vector<std::string>& files);  // "files /a /b"
// "topic events, 4 partitions, cluster …".
Result<std::string> DescribeTopic(const v1::Config& config, const std::string& topic);

struct LearnerInput {
  std::string words;
  std::string from;      // Where a partition that nobody knows begins, as --from has it; empty: at its
                         // beginning.
  bool history = false;  // A warm start.
};
// What --from says, for a LearnerInput.
std::string FromOf(const kafka::StartPosition& from);

enum class InputKind { kFiles, kEvents, kTrajectories, kUnknown };
// An input as a lineage has it; the topics are those that the settings name.
struct ReadInput {
  InputKind kind = InputKind::kUnknown;
  LearnerInput input;
};
ReadInput ReadInputWords(const std::string& words, const v1::Config& config);

// Gives `stage` files of events to read, as partition 0. `dead_letters` may be null. Errors: those
// of FileSource.
Status ReadFiles(const v1::Config& config, const std::vector<std::string>& files,
                 DeadLetterSink* dead_letters, SessionStage& stage);

}  // namespace fuseline
