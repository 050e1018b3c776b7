#include "fuseline/policy_store/fetch.h"

#include <string>
#include <utility>
#include <vector>

#include "number.h"

namespace fuseline {
namespace {

// Before anything is fetched: the parts have the sizes that the manifest says, which is within limits. One round trip.
Status CheckSizes(RedisConnection& redis, const v1::PolicyManifest& manifest, const std::vector<std::string>& names) {
  std::vector<RedisCommand> commands;
  for (const std::string& name : names) commands.push_back({"STRLEN", name});
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<RedisReply> sizes, redis.Pipeline(commands));
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (sizes[i].integer == 0) return ErrorStatus(Code::kNotFound, "redis lacks a part:", names[i]);
    if (static_cast<std::uint64_t>(sizes[i].integer) != manifest.parts(static_cast<int>(i)).size_bytes()) {
      return ErrorStatus(Code::kCorrupt, "part has another size than the manifest says:", names[i], sizes[i].integer);
    }
  }
  return OkStatus();
}

}  // namespace

Result<std::vector<std::uint64_t>> PublishedVersions(RedisConnection& redis, const PolicyKeys& keys) {
  const std::string key = keys.versions();
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Command({"ZRANGE", key, "0", "-1"}));
  std::vector<std::uint64_t> versions;
  for (const RedisReply& element : reply.elements) {
    // What is no version's number is nothing that anybody of ours made complete.
    if (const auto version = ParseNumber(element.text)) versions.push_back(*version);
  }
  return versions;
}

Result<std::uint64_t> NewestPublished(RedisConnection& redis, const PolicyKeys& keys) {
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> versions, PublishedVersions(redis, keys));
  if (versions.empty()) return Error(Code::kNotFound, "redis holds no version:", keys.versions());
  return versions.back();
}

Result<std::uint64_t> NewestAccepted(RedisConnection& redis, const PolicyKeys& keys) {
  FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> versions, PublishedVersions(redis, keys));
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    FUSELINE_ASSIGN_OR_FAIL(const RedisReply bytes, redis.Command({"GET", keys.manifest(*version)}));
    if (bytes.is_nil()) continue;
    FUSELINE_ASSIGN_OR_FAIL(const v1::PolicyManifest manifest, DecodeManifest(bytes.text, {}, *version));
    if (manifest.gate().passed()) return *version;
  }
  return Error(Code::kNotFound, "redis holds no accepted version:", keys.versions());
}

Result<ArchivedVersion> FetchVersion(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t version,
                                     std::string_view manifest_sha256, const PublicKeys& trusted) {
  ArchivedVersion fetched;
  const std::string manifest_key = keys.manifest(version), signature_key = keys.signature(version);
  FUSELINE_ASSIGN_OR_FAIL(std::vector<RedisReply> heads, redis.Pipeline({{"GET", manifest_key}, {"GET", signature_key}}));
  if (heads[0].is_nil()) return Error(Code::kNotFound, "redis has no version", version);
  fetched.manifest_bytes = std::move(heads[0].text);
  fetched.version.signature = std::move(heads[1].text);
  if (!trusted.empty() && !trusted.Verify(fetched.manifest_bytes, fetched.version.signature)) {
    return Error(Code::kCorrupt, "no key of policy_store.public_keys signed version", version);
  }
  FUSELINE_ASSIGN_OR_FAIL(v1::PolicyManifest manifest, DecodeManifest(fetched.manifest_bytes, manifest_sha256, version));

  std::vector<std::string> names;
  for (int i = 0; i < manifest.parts_size(); ++i) names.push_back(keys.part(version, static_cast<std::size_t>(i)));
  FUSELINE_FAIL_IF_ERROR(CheckSizes(redis, manifest, names));
  std::vector<RedisCommand> commands;
  for (const std::string& name : names) commands.push_back({"GET", name});
  FUSELINE_ASSIGN_OR_FAIL(std::vector<RedisReply> replies, redis.Pipeline(commands));
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    if (replies[i].is_nil()) return Error(Code::kNotFound, "redis lacks a part:", names[i]);
    parts.push_back(std::move(replies[i].text));
  }
  FUSELINE_ASSIGN_OR_FAIL(PolicyVersion whole, AssembleVersion(std::move(manifest), parts));
  fetched.version.manifest = std::move(whole.manifest);
  fetched.version.weights = std::move(whole.weights);
  return fetched;
}

}  // namespace fuseline
