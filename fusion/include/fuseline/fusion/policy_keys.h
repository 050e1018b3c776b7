#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

inline constexpr std::string_view kLiveAlias = "live";
inline constexpr std::string_view kCanaryAlias = "canary";
inline constexpr std::string_view kShadowAlias = "shadow";
inline constexpr std::string_view kLastGoodAlias = "last_good";
inline constexpr std::string_view kProvingAlias = "proving";  // Which version may become last_good next.

// The one field of an entry of the change stream: the canonical bytes of an AliasChange.
inline constexpr std::string_view kChangeField = "change";
inline constexpr std::string_view kNoteField = "note";  // Of an entry that moved no alias.

// How a policy's things are called in Redis, and what stands there; publisher and rankers both follow this. One hash tag per
// policy, so that all keys of one lie on one node of a cluster:
//
//   fuseline:{NAME}:epoch         string      decimal: the writer that may write
//   fuseline:{NAME}:change        string      decimal: number of the last alias change
//   fuseline:{NAME}:aliases       hash        alias → AliasChange that moved it there (canonical bytes): all a ranker needs to
//                                             know of it in one read: epoch, change, to_version, manifest_sha256
//   fuseline:{NAME}:changes       stream      every change, oldest trimmed: field `change` → AliasChange (canonical bytes), or field
//                                             `note` → one that moved no alias (imported, deleted)
//   fuseline:{NAME}:versions      sorted set  decimal version, scored by itself: what is complete here
//   fuseline:{NAME}:left          sorted set  decimal version → time (Redis' own, ms) at which an alias last left it
//   fuseline:{NAME}:v:N:manifest  string      PolicyManifest (canonical bytes); its SHA-256 is AliasChange.manifest_sha256
//   fuseline:{NAME}:v:N:signature string      64 bytes: Ed25519 over v:N:manifest; absent: the version is not signed
//   fuseline:{NAME}:v:N:parts:I   string      bytes of manifest.parts[I], I from 0; one after another they are the weights file
//   fuseline:{NAME}:v:N:delta     hash        decimal version that it was made from → VersionDelta; absent: there are only the parts
//   fuseline:{NAME}:acks          hash        ranker → what serves there since when (acknowledgement.h)
//   fuseline:{NAME}:experiments   hash        name → Experiment (canonical bytes)
//   fuseline:{NAME}:figures       hash        experiment → ExperimentTotals at the last look, without users; under the empty name: sessions left out
//
// A ranker follows (epoch, change), and refuses an AliasChange that is not greater than the last it took for that alias.
// Value type; every accessor makes a string.
class PolicyKeys {
 public:
  explicit PolicyKeys(std::string_view policy);  // REQUIRES: ValidatePolicyName(policy).ok().

  std::string epoch() const { return prefix_ + "epoch"; }
  std::string change() const { return prefix_ + "change"; }
  std::string aliases() const { return prefix_ + "aliases"; }
  std::string changes() const { return prefix_ + "changes"; }
  std::string versions() const { return prefix_ + "versions"; }
  std::string left() const { return prefix_ + "left"; }
  std::string acks() const { return prefix_ + "acks"; }
  std::string experiments() const { return prefix_ + "experiments"; }
  std::string figures() const { return prefix_ + "figures"; }
  std::string manifest(std::uint64_t version) const;
  std::string signature(std::uint64_t version) const;
  std::string part(std::uint64_t version, std::size_t index) const;
  std::string delta(std::uint64_t version) const;

 private:
  std::string prefix_;  // "fuseline:{NAME}:"
};

// 1 to 128 letters, digits, '_', '-', '.': no brace may break the hash tag.
// Errors: kInvalidInput.
Status ValidatePolicyName(std::string_view policy);

// The policy under whose name the scorer of `policy` is published: "NAME.scorer".
std::string ScorerPolicyOf(std::string_view policy);

// Whether (epoch, change) of `next` is greater than that of `last`.
bool IsNewer(const v1::AliasChange& next, const v1::AliasChange& last);

// Errors: kCorrupt if the bytes are no AliasChange with an alias, a version and a digest of 32 bytes.
Result<v1::AliasChange> DecodeAliasChange(std::string_view bytes);

// Cuts `weights` into manifest.parts of at most `part_bytes` and fills weights_sha256. REQUIRES: part_bytes > 0.
void SealManifest(v1::PolicyManifest& manifest, std::string_view weights, std::uint64_t part_bytes);

inline constexpr std::uint64_t kPartBytesMax = 8 << 20;

// Bytes of part `index` inside `weights`. REQUIRES: the manifest is sealed over these weights.
std::string_view PartOf(const v1::PolicyManifest& manifest, std::string_view weights, std::size_t index);

// Errors: kCorrupt unless SHA-256(bytes) = `manifest_sha256` (an empty one is not asked), the bytes are a manifest of
// `version`, and its part sizes are positive, at most kPartBytesMax each, and sum to at most `max_weights_bytes`. So
// nothing larger is ever asked for.
Result<v1::PolicyManifest> DecodeManifest(std::string_view bytes, std::string_view manifest_sha256, std::uint64_t version,
                                          std::uint64_t max_weights_bytes = std::uint64_t{1} << 30);

// The version whose parts were read one by one.
// Errors: kCorrupt, naming the part, unless number, sizes and digests are those of the manifest, part by part and as a whole.
Result<PolicyVersion> AssembleVersion(v1::PolicyManifest manifest, const std::vector<std::string>& parts);

}  // namespace fuseline
