#include "upload.h"

#include <string>
#include <string_view>
#include <vector>

#include "fuseline/proto/schema.h"
#include "scripts.h"

namespace fuseline {

Status PutParts(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, const ArchivedVersion& version) {
  const v1::PolicyManifest& manifest = version.version.manifest;
  const std::string epoch_text = std::to_string(epoch);
  for (int i = 0; i < manifest.parts_size(); ++i) {
    const auto index = static_cast<std::size_t>(i);
    FUSELINE_ASSIGN_OR_RETURN(
        [[maybe_unused]] const RedisReply reply,
        redis.Eval(PutPartScript(), {keys.epoch(), keys.manifest(manifest.version()), keys.part(manifest.version(), index)},
                   {epoch_text, version.manifest_bytes, PartOf(manifest, version.version.weights, index)}));
  }
  return OkStatus();
}

Status PutDelta(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, const ArchivedVersion& version,
                const v1::VersionDelta& delta) {
  const std::uint64_t number = version.version.manifest.version();
  const std::string epoch_text = std::to_string(epoch), base = std::to_string(delta.base_version()), bytes = CanonicalBytes(delta);
  FUSELINE_ASSIGN_OR_RETURN([[maybe_unused]] const RedisReply reply,
                            redis.Eval(PutDeltaScript(), {keys.epoch(), keys.manifest(number), keys.delta(number)},
                                       {epoch_text, version.manifest_bytes, base, bytes}));
  return OkStatus();
}

Result<bool> CompleteVersion(RedisConnection& redis, const PolicyKeys& keys, const v1::AliasState& seen, std::uint64_t epoch,
                             const ArchivedVersion& version, const AliasMoves* moves, std::int64_t changes_kept) {
  const v1::PolicyManifest& manifest = version.version.manifest;
  const std::uint64_t number = manifest.version();
  std::vector<std::string> names = {keys.epoch(), keys.change(),   keys.aliases(),        keys.changes(),
                                    keys.left(),  keys.versions(), keys.manifest(number), keys.signature(number)};
  for (int i = 0; i < manifest.parts_size(); ++i) names.push_back(keys.part(number, static_cast<std::size_t>(i)));
  const std::string epoch_text = std::to_string(epoch), change = std::to_string(seen.change());
  const std::string kept = std::to_string(changes_kept), number_text = std::to_string(number);
  std::vector<std::string_view> arguments = {epoch_text, change, kept, number_text, version.manifest_bytes, version.version.signature};
  if (moves != nullptr) moves->AppendWords(arguments);
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Eval(PublishScript(), names, arguments));
  return reply.integer == 0;
}

}  // namespace fuseline
