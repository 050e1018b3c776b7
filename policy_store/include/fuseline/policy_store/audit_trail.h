#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/file_system.h"
#include "fuseline/redis/connection.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// One entry of a policy's change stream.
struct AuditEntry {
  std::string id;  // Of the stream.
  v1::AliasChange change;
};

// The entries after `after` ("0": all that Redis keeps), oldest first, at most `limit`. Those that cannot be read are left out.
Result<std::vector<AuditEntry>> ReadChanges(RedisConnection& redis, const PolicyKeys& keys, const std::string& after, std::int64_t limit);

// As one line of JSON without a newline: {"id": …, "change": {…}}, the field names of AliasChange; absent is 0, false or empty.
std::string AuditLine(const AuditEntry& entry);

// Who moved which alias where, when and why, in a file that outlives Redis: FOLDER/changes.jsonl, one AuditLine each. It follows the
// change stream, so it also knows what was done while nobody followed, as long as the stream keeps it.
// Where: beside the publisher, on its thread; one process owns the folder. Nothing is decided by it.
class AuditTrail {
 public:
  // Goes on where the file ends. Errors: kUnavailable (disk).
  static Result<AuditTrail> Open(std::filesystem::path folder, FileSystem& files);

  // Writes what is new, durably. One round trip where nothing is. Errors: kUnavailable (disk); those of the connection.
  Status Follow(RedisConnection& redis, const PolicyKeys& keys);

 private:
  AuditTrail(std::filesystem::path path, FileSystem& files) : path_(std::move(path)), files_(&files) {}

  std::filesystem::path path_;
  FileSystem* files_;
  std::string last_id_ = "0";
  bool ends_in_half_a_line_ = false;  // A crash came in between.
};

}  // namespace fuseline
