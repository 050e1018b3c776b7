#include "fuseline/policy_store/audit_trail.h"

#include <string_view>
#include <utility>

#include <google/protobuf/util/json_util.h>

namespace fuseline {
namespace {

constexpr std::int64_t kEntriesAtOnce = 1'000;
constexpr std::string_view kIdBegin = "{\"id\":\"";

// The id of the last whole line of the file; "0" if there is none.
std::string LastId(std::string_view text) {
  const std::size_t end = text.rfind('\n');
  if (end == std::string_view::npos) return "0";
  const std::size_t before = end == 0 ? std::string_view::npos : text.rfind('\n', end - 1);
  std::string_view line = text.substr(before == std::string_view::npos ? 0 : before + 1, end);
  if (!line.starts_with(kIdBegin)) return "0";
  line.remove_prefix(kIdBegin.size());
  return std::string(line.substr(0, line.find('"')));
}

// "milliseconds-sequence", as numbers.
std::pair<std::uint64_t, std::uint64_t> PositionOf(const std::string& id) {
  const std::size_t dash = id.find('-');
  const auto number = [](const std::string& text) { return std::strtoull(text.c_str(), nullptr, 10); };
  return {number(id), dash == std::string::npos ? 0 : number(id.substr(dash + 1))};
}

}  // namespace

Result<std::vector<AuditEntry>> ReadChanges(RedisConnection& redis, const PolicyKeys& keys, const std::string& after,
                                            std::int64_t limit) {
  FUSELINE_ASSIGN_OR_FAIL(const auto stream, redis.ReadStream(keys.changes(), after, limit, /*block_ms=*/0));
  std::vector<AuditEntry> entries;
  for (const RedisStreamEntry& read : stream) {
    for (const auto& [field, bytes] : read.fields) {
      AuditEntry entry{.id = read.id, .change = {}};
      if (field != kChangeField && field != kNoteField) continue;
      if (entry.change.ParseFromString(bytes)) entries.push_back(std::move(entry));
    }
  }
  return entries;
}

std::string AuditLine(const AuditEntry& entry) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(entry.change, &json, options).ok()) json = "null";  // A name that is not UTF-8.
  return std::string(kIdBegin) + entry.id + "\",\"change\":" + json + '}';
}

Result<AuditTrail> AuditTrail::Open(std::filesystem::path folder, FileSystem& files) {
  AuditTrail trail(std::move(folder) / "changes.jsonl", files);
  const auto text = files.Read(trail.path_);
  if (!text && text.error().code == Code::kNotFound) return trail;
  if (!text) return tl::unexpected(text.error());
  trail.last_id_ = LastId(*text);
  trail.ends_in_half_a_line_ = !text->empty() && text->back() != '\n';
  return trail;
}

Status AuditTrail::Follow(RedisConnection& redis, const PolicyKeys& keys) {
  for (;;) {
    FUSELINE_ASSIGN_OR_RETURN(const auto entries, ReadChanges(redis, keys, last_id_, kEntriesAtOnce));
    if (entries.empty()) break;
    std::string lines = ends_in_half_a_line_ ? "\n" : "";
    for (const AuditEntry& entry : entries) lines += AuditLine(entry) + '\n';
    FUSELINE_RETURN_IF_ERROR(files_->Append(path_, lines));
    ends_in_half_a_line_ = false;
    last_id_ = entries.back().id;
  }
  // A server whose clock is behind that of the one before it names its entries lower: then its whole stream is new.
  const std::string stream = keys.changes();
  FUSELINE_ASSIGN_OR_RETURN(const RedisReply newest, redis.Command({"XREVRANGE", stream, "+", "-", "COUNT", "1"}));
  if (newest.elements.empty() || newest.elements[0].elements.empty()) return OkStatus();
  if (PositionOf(newest.elements[0].elements[0].text) < PositionOf(last_id_)) last_id_ = "0";
  return OkStatus();
}

}  // namespace fuseline
