#include "fuseline/policy_store/import.h"

#include <string>

#include "alias_moves.h"
#include "fuseline/policy_store/fetch.h"
#include "scripts.h"
#include "upload.h"

namespace fuseline {

Status CheckImport(RedisConnection& redis, std::string_view policy, const v1::AliasState& seen,
                   const ArchivedVersion& version, ImportNumber rule) {
  const std::uint64_t number = version.version.manifest.version();
  const PolicyKeys keys(policy);
  if (version.version.manifest.policy() != policy) {
    return ErrorStatus(Code::kInvalidInput, "version is of another policy:", version.version.manifest.policy());
  }
  if (seen.epoch() == 0) return ErrorStatus(Code::kNotFound, "redis holds no epoch of this policy: unfenced");
  if (rule == ImportNumber::kBehindTheLearner) {
    FUSELINE_ASSIGN_OR_RETURN(const std::uint64_t newest, NewestPublished(redis, keys));
    if (number > newest) {
      return ErrorStatus(Code::kConflict, "version", number,
                         "is ahead of the newest here, and the learner will make its own:", newest);
    }
  }
  FUSELINE_ASSIGN_OR_RETURN(const RedisReply stored, redis.Command({"GET", keys.manifest(number)}));
  if (stored.is_nil() || stored.text == version.manifest_bytes) return OkStatus();
  return ErrorStatus(Code::kConflict, "redis holds another version under this number:", number);
}

Result<bool> ImportVersion(RedisConnection& redis, std::string_view policy, const v1::AliasState& seen,
                           const ArchivedVersion& version, const ChangeNote& note, ImportNumber rule) {
  const std::uint64_t number = version.version.manifest.version();
  const PolicyKeys keys(policy);
  FUSELINE_FAIL_IF_ERROR(CheckImport(redis, policy, seen, version, rule));
  FUSELINE_FAIL_IF_ERROR(PutParts(redis, keys, seen.epoch(), version));
  FUSELINE_ASSIGN_OR_FAIL(const bool was_there,
                          CompleteVersion(redis, keys, seen, seen.epoch(), version, /*moves=*/nullptr, note.changes_kept));
  if (was_there) return true;
  const std::string epoch = std::to_string(seen.epoch()), kept = std::to_string(note.changes_kept), text = std::to_string(number);
  const std::string bytes = NoteBytes(note, v1::AliasChange::IMPORTED, seen, /*from=*/0, number);
  FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const RedisReply reply,
                          redis.Eval(NoteScript(), {keys.epoch(), keys.changes(), keys.left()}, {epoch, kept, bytes, text}));
  return false;
}

}  // namespace fuseline
