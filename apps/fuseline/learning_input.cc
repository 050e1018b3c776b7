#include "learning_input.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "fuseline/ingest/file_source.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/admin.h"

namespace fuseline {

std::string DescribeFiles(const std::vector<std::string>& files) {
  std::string text = "files";
  std::error_code unresolved;  // A file that is not there is said by who opens it.
  for (const std::string& file : files) {
    text +=
        ' ' + (file == "-" ? file : std::filesystem::weakly_canonical(file, unresolved).string());
  }
  return text;
}

Result<std::string> DescribeTopic(const v1::Config& config, const std::string& topic) {
  FUSELINE_ASSIGN_OR_FAIL(
      const auto admin,
      kafka::Admin::Open(ConnectionOf(config.kafka()), config.kafka().connect_timeout_ms()));
  FUSELINE_FAIL_IF_ERROR(admin->CheckReachable());
  FUSELINE_ASSIGN_OR_FAIL(const std::string cluster, admin->ClusterId());
  FUSELINE_ASSIGN_OR_FAIL(const std::int32_t partitions, admin->PartitionCount(topic));
  return "topic " + topic + ", " + std::to_string(partitions) + " partitions, cluster " + cluster;
}

std::string FromOf(const kafka::StartPosition& from) {
  using Kind = kafka::StartPosition::Kind;
  switch (from.kind) {
    case Kind::kEarliest: return "";
    case Kind::kLatest: return "latest";
    case Kind::kOffset: return "offset:" + std::to_string(from.value);
    case Kind::kTimestamp: return "time:" + std::to_string(from.value);
  }
  return "";
}

ReadInput ReadInputWords(const std::string& words, const v1::Config& config) {
  ReadInput read{.input = {.words = words}};
  if (words.starts_with("files ")) {
    read.kind = InputKind::kFiles;
    return read;
  }
  if (const auto at = words.rfind(", from "); at != std::string::npos)
    read.input = {words.substr(0, at), words.substr(at + std::string_view(", from ").size())};
  if (words.starts_with("topic " + config.kafka().events_topic() + ","))
    read.kind = InputKind::kEvents;
  if (words.starts_with("topic " + config.kafka().trajectories_topic() + ","))
    read.kind = InputKind::kTrajectories;
  return read;
}

Status ReadFiles(const v1::Config& config, const std::vector<std::string>& files,
                 DeadLetterSink* dead_letters, SessionStage& stage) {
  FUSELINE_ASSIGN_OR_RETURN(const kafka::StartPosition begin,
                            stage.TakeOver(/*partition=*/0, std::nullopt, /*log_start=*/0, {}));
  FileSourceOptions options = FileSourceOptionsOf(config.ingest(), files);
  options.start_offset = begin.value;
  FUSELINE_ASSIGN_OR_RETURN(auto source, FileSource::Open(std::move(options), dead_letters));
  stage.Read(std::move(source), [source = source.get()] {
    const FileProgress progress = source->progress();
    return InputProgress{static_cast<double>(progress.bytes_read),
                         static_cast<double>(progress.bytes_total)};
  });
  return OkStatus();
}

}  // namespace fuseline
