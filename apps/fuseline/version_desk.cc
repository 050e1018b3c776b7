#include "version_desk.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include <pwd.h>
#include <unistd.h>

#include "fuseline/core/clock.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/import.h"
#include "fuseline/serving_bridge/redis_options.h"
#include "pipeline_status.h"

namespace fuseline {
namespace {

bool IsSame(const AliasMove& a, const AliasMove& b) {
  return a.alias == b.alias && a.to_version == b.to_version && a.pinned == b.pinned && a.cause == b.cause;
}

}  // namespace

std::string UserAtHost() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  const passwd* const user = ::getpwuid(::getuid());
  return (user == nullptr ? std::to_string(::getuid()) : std::string(user->pw_name)) + '@' + host.data();
}

Status CheckReason(bool execute, const std::string& reason) {
  if (!execute || !reason.empty()) return OkStatus();
  return ErrorStatus(Code::kInvalidInput, "--execute wants a --reason: who reads the audit trail must know why");
}

VersionDesk::VersionDesk(const v1::Config& config, PublicKeys trusted)
    : config_(config), keys_(config.policy().name()), trusted_(std::move(trusted)), files_(std::make_unique<DiskFileSystem>()) {}

Result<VersionDesk> VersionDesk::Open(const v1::Config& config) {
  FUSELINE_ASSIGN_OR_FAIL(PublicKeys trusted, PublicKeys::FromHex(config.policy_store().public_keys()));
  VersionDesk desk(config, std::move(trusted));
  const std::filesystem::path folder = StateFolders(config.fuseline().state_dir()).versions;
  if (std::filesystem::exists(folder / "versions"))
    desk.archive_ = Archive::OpenBeside(folder, std::to_string(::getpid()), *desk.files_);
  auto redis = RedisConnection::Connect(RedisOptionsOf(config.redis()));
  if (redis) desk.redis_ = std::move(*redis);
  else desk.redis_error_ = redis.error();
  if (!desk.redis_ && !desk.archive_) return tl::unexpected(desk.redis_error_);
  return desk;
}

Result<RedisConnection*> VersionDesk::Redis() {
  if (!redis_) return tl::unexpected(redis_error_);
  return &*redis_;
}

Result<v1::AliasState> VersionDesk::Aliases() {
  if (redis_) return ReadAliases(*redis_, keys_);
  return archive_->LoadAliases();  // Where they stood when the learner last saw them.
}

Result<std::vector<VersionDesk::Row>> VersionDesk::List() {
  std::map<std::uint64_t, Row> rows;
  if (archive_) {
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> archived, archive_->List());
    for (const std::uint64_t version : archived) {
      auto found = archive_->Get(version);
      if (!found && found.error().code == Code::kNotFound) continue;  // Retention took it meanwhile.
      if (!found) return tl::unexpected(found.error());
      const bool is_signed = !found->version.signature.empty();
      rows[version] = {.manifest = std::move(found->version.manifest), .in_archive = true, .is_signed = is_signed};
    }
  }
  if (redis_) {
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> published, PublishedVersions(*redis_, keys_));
    for (const std::uint64_t version : published) {
      FUSELINE_ASSIGN_OR_FAIL(const auto heads, redis_->Pipeline({{"GET", keys_.manifest(version)}, {"GET", keys_.signature(version)}}));
      if (heads[0].is_nil()) continue;
      Row& row = rows[version];
      row.in_redis = true;
      row.is_signed = row.is_signed || heads[1].is_string();
      if (row.in_archive) continue;
      FUSELINE_ASSIGN_OR_FAIL(row.manifest, DecodeManifest(heads[0].text, {}, version));
    }
  }
  std::vector<Row> listed;
  for (auto& [version, row] : rows) listed.push_back(std::move(row));
  return listed;
}

Result<ArchivedVersion> VersionDesk::Get(std::uint64_t version) {
  if (archive_) {
    auto found = archive_->Get(version);
    if (found || found.error().code != Code::kNotFound) return found;
  }
  if (!redis_) return Error(Code::kNotFound, "the archive has no version", version, "and redis is away:", redis_error_.message);
  return FetchVersion(*redis_, keys_, version, {}, trusted_);
}

Result<v1::AliasState> VersionDesk::MayImport(const ArchivedVersion& version) {
  FUSELINE_ASSIGN_OR_FAIL(RedisConnection* const redis, Redis());
  if (!archive_) {
    return Error(Code::kNotFound,
                 "no archive is here, and what it lacks is lost with redis: import where the learner's state is, not in",
                 config_.fuseline().state_dir());
  }
  FUSELINE_ASSIGN_OR_FAIL(v1::AliasState seen, Aliases());
  FUSELINE_FAIL_IF_ERROR(CheckImport(*redis, config_.policy().name(), seen, version));
  return seen;
}

Result<bool> VersionDesk::Import(const ArchivedVersion& version, const std::string& why) {
  FUSELINE_ASSIGN_OR_FAIL(const v1::AliasState seen, MayImport(version));
  FUSELINE_FAIL_IF_ERROR(archive_->Put(version.version));
  FUSELINE_ASSIGN_OR_FAIL(const bool was_there, ImportVersion(*redis_, config_.policy().name(), seen, version, Note(why)));
  FUSELINE_FAIL_IF_ERROR(archive_->Put(version.version));  // Before Redis had it, the learner might have pruned it.
  return was_there;
}

ChangeNote VersionDesk::Note(const std::string& why) const {
  return {.who = UserAtHost(), .why = why, .wall_ms = SystemClock().wall_ms(), .changes_kept = config_.policy_store().changes_kept()};
}

Status VersionDesk::Prepare(const AliasMove& move, const v1::AliasState& seen, bool despite_gate, bool execute,
                            const std::string& why) {
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion version, Get(move.to_version));
  const v1::GateVerdict& gate = version.version.manifest.gate();
  if (!gate.passed() && !despite_gate) {
    std::string reasons;
    for (const std::string& reason : gate.reasons()) reasons += (reasons.empty() ? "" : "; ") + reason;
    return ErrorStatus(Code::kConflict, "the gate did not accept version", move.to_version, "(--despite-gate takes it all the same):", reasons);
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> published, PublishedVersions(*redis_, keys_));
  if (std::binary_search(published.begin(), published.end(), move.to_version)) return OkStatus();
  if (!execute) return CheckImport(*redis_, config_.policy().name(), seen, version);
  const auto imported = ImportVersion(*redis_, config_.policy().name(), seen, version, Note(why));
  return imported ? OkStatus() : imported.error();
}

Result<VersionDesk::Moved> VersionDesk::Move(const Plan& plan, bool despite_gate, bool execute, const std::string& why) {
  FUSELINE_ASSIGN_OR_FAIL(RedisConnection* const redis, Redis());
  Moved moved;
  FUSELINE_ASSIGN_OR_FAIL(moved.before, ReadAliases(*redis, keys_));
  FUSELINE_ASSIGN_OR_FAIL(moved.move, plan(moved.before));
  FUSELINE_FAIL_IF_ERROR(Prepare(moved.move, moved.before, despite_gate, execute, why));
  if (!execute) return moved;

  const ChangeNote by = Note(why);
  moved.move.who = by.who;
  moved.move.why = by.why;
  moved.move.wall_ms = by.wall_ms;
  auto after = MoveAlias(*redis, keys_, moved.before, moved.move, by.changes_kept);
  if (!after && after.error().code == Code::kConflict) {
    FUSELINE_ASSIGN_OR_FAIL(moved.before, ReadAliases(*redis, keys_));
    FUSELINE_ASSIGN_OR_FAIL(const AliasMove again, plan(moved.before));
    if (!IsSame(again, moved.move)) return Error(Code::kConflict, "the aliases moved meanwhile, look again:", after.error().message);
    after = MoveAlias(*redis, keys_, moved.before, moved.move, by.changes_kept);
  }
  FUSELINE_ASSIGN_OR_FAIL(moved.after, std::move(after));
  return moved;
}

}  // namespace fuseline
