#include "fuseline/policy_store/fetch.h"

#include <string>
#include <utility>
#include <vector>

#include "number.h"

namespace fuseline {

Result<std::uint64_t> NewestPublished(RedisConnection& redis, const PolicyKeys& keys) {
  const std::string key = keys.versions();
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Command({"ZRANGE", key, "-1", "-1"}));
  if (reply.elements.empty()) return Error(Code::kNotFound, "redis holds no version:", key);
  return ParseNumber(reply.elements.front().text);
}

Result<PolicyVersion> FetchVersion(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t version,
                                   std::string_view manifest_sha256) {
  const std::string manifest_key = keys.manifest(version);
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Command({"GET", manifest_key}));
  if (reply.is_nil()) return Error(Code::kNotFound, "redis has no version", version);
  FUSELINE_ASSIGN_OR_FAIL(v1::PolicyManifest manifest, DecodeManifest(reply.text, manifest_sha256, version));

  std::vector<std::string> names;
  for (int i = 0; i < manifest.parts_size(); ++i) names.push_back(keys.part(version, static_cast<std::size_t>(i)));
  std::vector<RedisCommand> commands;
  for (const std::string& name : names) commands.push_back({"GET", name});
  FUSELINE_ASSIGN_OR_FAIL(std::vector<RedisReply> replies, redis.Pipeline(commands));
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    if (replies[i].is_nil()) return Error(Code::kNotFound, "redis lacks a part:", names[i]);
    parts.push_back(std::move(replies[i].text));
  }
  return AssembleVersion(std::move(manifest), parts);
}

}  // namespace fuseline
