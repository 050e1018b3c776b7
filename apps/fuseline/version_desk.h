#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/core/signature.h"
#include "fuseline/core/status.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/redis/connection.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

std::string UserAtHost();  // Who runs this command, as the audit trail names him.
// Errors: kInvalidInput for what acts and does not say why.
Status CheckReason(bool execute, const std::string& reason);

// Where operators' commands find versions and move aliases: Redis, where it answers, and the archive, where the state folder is here.
// It works beside a running learner and on another machine; the archive is only read, but by an import.
// Errors of what needs Redis: kUnavailable when it is away, besides their own.
class VersionDesk {
 public:
  // Errors: kUnavailable with neither a Redis nor an archive; kInvalidInput for keys in the settings that are none.
  static Result<VersionDesk> Open(const v1::Config& config);

  struct Row {
    v1::PolicyManifest manifest;
    bool in_archive = false;
    bool in_redis = false;
    bool is_signed = false;
  };
  Result<std::vector<Row>> List();  // Ascending.
  Result<ArchivedVersion> Get(std::uint64_t version);  // Verified. Errors: kNotFound, kCorrupt.
  bool has_redis() const { return redis_.has_value(); }
  Result<v1::AliasState> Aliases();
  Result<RedisConnection*> Redis();
  const PolicyKeys& keys() const { return keys_; }
  const PublicKeys& trusted() const { return trusted_; }

  using Plan = std::function<Result<AliasMove>(const v1::AliasState& seen)>;
  struct Moved {
    v1::AliasState before;
    v1::AliasState after;  // Empty if nothing was executed.
    AliasMove move;
  };
  // Says what `plan` would do, or does it under the reason `why`. Where an alias moved meanwhile it looks again, and does the same move once.
  // A version that only the archive holds is put into Redis first. Errors: those of the plan and of MoveAlias; kConflict if the gate refused
  // the version and `despite_gate` is not set, or if what the plan says now is something else.
  Result<Moved> Move(const Plan& plan, bool despite_gate, bool execute, const std::string& why);

  // Puts a verified version into the archive and then into Redis; moves no alias. Returns whether Redis had it
  // before. Errors: kNotFound without an archive here; those of ImportVersion and Archive::Put, with nothing changed,
  // or the archive alone.
  Result<bool> Import(const ArchivedVersion& version, const std::string& why);
  // Whether Import would, and the aliases as they stand. Errors: as Import, with nothing changed.
  Result<v1::AliasState> MayImport(const ArchivedVersion& version);

  // Makes the scorer that `fuseline train-scorer` left in `folder` the next version of this policy: numbered, signed as the settings say, in the
  // archive, then in Redis; moves no alias. Where nobody has ever published the policy, this claims it. Without `execute`, only says what would be.
  // Errors: kNotFound without a state folder; kConflict with scorer.learn, whose learner numbers its own; kInvalidInput for a
  // version of another policy or a key that is none; kCorrupt for one that no ranker would take; those of ImportVersion.
  struct Adopted {
    std::uint64_t version = 0;
    bool was_there = false;  // The same weights, under this number.
  };
  Result<Adopted> Adopt(const std::string& folder, bool execute, const std::string& why);

  ChangeNote Note(const std::string& why) const;  // By user@host, now.

 private:
  VersionDesk(const v1::Config& config, PublicKeys trusted);
  Result<Adopted> NumberOf(const PolicyVersion& trained);
  Status Claim(std::uint64_t epoch);
  Status Prepare(const AliasMove& move, const v1::AliasState& seen, bool despite_gate, bool execute, const std::string& why);

  v1::Config config_;
  PolicyKeys keys_;
  PublicKeys trusted_;
  std::optional<RedisConnection> redis_;
  Status redis_error_;
  std::unique_ptr<DiskFileSystem> files_;
  std::optional<Archive> archive_;
};

}  // namespace fuseline
