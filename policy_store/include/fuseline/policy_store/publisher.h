#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/clock.h"
#include "fuseline/core/log.h"
#include "fuseline/core/metrics.h"
#include "fuseline/core/signature.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/policy_store/retention.h"
#include "fuseline/redis/connection.h"

namespace fuseline {

struct PublisherOptions {
  std::string policy = "default";
  std::string who = "learner";        // As alias changes name their author.
  RetentionRule retention;
  const SigningKey* signing_key = nullptr;  // Of versions that the archive does not hold yet; borrowed for the publisher's life.
  PublicKeys trusted;                       // If any, an alias may only point to what one of them signed.
  std::int64_t changes_kept = 10'000;  // Newest entries of the change stream that stay, about.
  std::int64_t delta_min_bytes = 0;    // Weights as large are also published as what changed since the live version; 0: never.
};

// kYes: unless somebody has pinned it. kAgain: no; Redis lost the version, and retention spares it as if an alias had left it just now.
enum class PointLive { kNo, kYes, kAgain };

struct Published {
  bool was_there = false;    // The same version with the same digest had been published before; nothing was moved.
  std::uint64_t change = 0;  // Number of the last alias change known afterwards.
  std::size_t delta_bytes = 0;  // Of the difference that went along; 0: none did.
};

// Puts versions into rankers' hands: archive first, then Redis, parts first and then one script that makes the version
// complete and moves the alias `live`, or does nothing. A delta goes along where it saves a quarter at least; nothing depends on it: it is
// not restored, and rankers take the parts where it is absent.
//
// Where: after learner and gate; rankers see its work through the keys of fusion/policy_keys.h. Thread-compatible.
// A writer is known by its epoch. Every script checks it, so a writer that was replaced changes nothing, however late its
// words arrive.
// Errors of all below, besides their own:
//   kUnavailable   Redis or the disk is slow or down; repeat the same call, with a back-off. It may have taken effect.
//   kConflict      "fenced": a newer writer has claimed the policy; stop. "moved": an operator moved an alias meanwhile;
//                  the call can be repeated, once.
//   kNotFound      "unfenced", "behind" or "lacks": Redis lost what it held (FLUSHALL, failover), or holds what
//                  cannot be read: call Restore, then repeat.
//   kCorrupt       the archive is damaged. (Of Retain: or a manifest or experiment in Redis.)
//   kInvalidInput  the server may evict keys (its maxmemory-policy is not noeviction), or refuses the credentials.
class Publisher {
 public:
  using RedisFactory = std::function<Result<RedisConnection>()>;

  // Connects, and checks that the server never evicts. All references are borrowed for the publisher's life.
  static Result<Publisher> Open(PublisherOptions options, Archive& archive, RedisFactory connect, const Clock& clock, Log& log,
                                Metrics& metrics);
  Publisher(Publisher&&) noexcept;
  Publisher& operator=(Publisher&&) noexcept;
  ~Publisher();

  // Makes this the writer. `epoch` (1 or later) comes from outside Redis and only grows: a claim record's offset + 1, or NextEpoch.
  // Takes over what Redis says of the aliases; fetches into the archive the versions they point to, where it lacks them.
  // Errors: kConflict if a greater epoch is there. kNotFound: claimed, but Redis lacks what the archive remembers: Restore.
  Status Claim(std::uint64_t epoch);

  // REQUIRES: Claim. Durable in the archive and complete in Redis when it returns.
  // Errors: kInvalidInput, kConflict as Archive::Put; kConflict if Redis holds another manifest under this version.
  Result<Published> Publish(const PolicyVersion& version, PointLive point);

  // Whether Redis still holds what this writer knows: the claim, the aliases, and every byte's place of the versions that they point to
  // (sizes; digests are the rankers' to check). Takes over what operators moved. Two round trips. REQUIRES: Claim.
  Status Check();

  // Publishes again the versions that aliases pointed to and points the aliases there, pins included, under change numbers greater than
  // any that this archive has seen, by a margin for operators' moves that it has not. Where only parts were lost, no alias moves. What
  // cannot be read counts as lost. Retention spares what comes back as if an alias had left it just now. Does nothing if Redis has lost nothing. REQUIRES: Claim (its kNotFound counts). Errors: kCorrupt if the archive is damaged.
  Status Restore();

  // Deletes versions by the rule, in Redis and then in the archive. Returns those deleted from Redis. REQUIRES: Claim.
  Result<std::vector<std::uint64_t>> Retain();

  // The aliases as last seen.
  const v1::AliasState& aliases() const;

 private:
  struct Impl;
  explicit Publisher(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
