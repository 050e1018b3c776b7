#include "fuseline/policy_store/import.h"

#include <string>

#include "alias_moves.h"
#include "fuseline/policy_store/fetch.h"
#include "scripts.h"
#include "upload.h"

namespace fuseline {

Result<bool> ImportVersion(RedisConnection& redis, std::string_view policy, const v1::AliasState& seen, const ArchivedVersion& version,
                           const ChangeNote& note) {
  const std::uint64_t number = version.version.manifest.version();
  const PolicyKeys keys(policy);
  if (version.version.manifest.policy() != policy) {
    return Error(Code::kInvalidInput, "version is of another policy:", version.version.manifest.policy());
  }
  if (seen.epoch() == 0) return Error(Code::kNotFound, "redis holds no epoch of this policy: unfenced");
  FUSELINE_ASSIGN_OR_FAIL(const std::uint64_t newest, NewestPublished(redis, keys));
  if (number > newest) return Error(Code::kConflict, "version", number, "is ahead of the newest here, and the learner will make its own:", newest);

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
