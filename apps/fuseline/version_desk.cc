#include "version_desk.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include <pwd.h>
#include <unistd.h>

#include "fuseline/core/clock.h"
#include "fuseline/core/digest.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/import.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/serving_bridge/redis_options.h"
#include "pipeline_status.h"
#include "publication.h"
#include "scorer_run.h"

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
  const std::filesystem::path folder = StateFolders(config.fuseline().state_dir()).ArchiveOf(config.policy().name());
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

// The number of the same weights in the archive, or the next.
Result<VersionDesk::Adopted> VersionDesk::NumberOf(const PolicyVersion& trained) {
  FUSELINE_ASSIGN_OR_FAIL(std::vector<std::uint64_t> numbers, PublishedVersions(*redis_, keys_));
  if (archive_) {
    FUSELINE_ASSIGN_OR_FAIL(const std::vector<std::uint64_t> archived, archive_->List());
    for (const std::uint64_t number : archived) {
      FUSELINE_ASSIGN_OR_FAIL(const ArchivedVersion version, archive_->Get(number));
      if (version.version.manifest.weights_sha256() == trained.manifest.weights_sha256()) return Adopted{number, true};
    }
    numbers.insert(numbers.end(), archived.begin(), archived.end());
  }
  return Adopted{numbers.empty() ? 1 : *std::ranges::max_element(numbers) + 1, false};
}

// As the writer of this policy, which Redis may have forgotten.
Status VersionDesk::Claim(std::uint64_t epoch) {
  Log log(Severity::kError);
  Metrics metrics;
  const SystemClock clock;
  PublisherOptions options;
  options.policy = config_.policy().name();
  const auto connect = [this] { return RedisConnection::Connect(RedisOptionsOf(config_.redis())); };
  FUSELINE_ASSIGN_OR_RETURN(Publisher publisher, Publisher::Open(std::move(options), *archive_, connect, clock, log, metrics));
  const Status claimed = publisher.Claim(epoch);
  return claimed.code == Code::kNotFound ? publisher.Restore() : claimed;
}

Result<VersionDesk::Adopted> VersionDesk::Adopt(const std::string& folder, bool execute, const std::string& why) {
  FUSELINE_ASSIGN_OR_FAIL(PolicyVersion trained, ReadScorer(folder));
  const std::string& policy = config_.policy().name();
  if (trained.manifest.policy() != policy)
    return Error(Code::kInvalidInput, "version is of another policy (a scorer wants --scorer):", trained.manifest.policy());
  if (config_.scorer().learn())
    return Error(Code::kConflict, "scorer.learn is on, and its learner numbers its own versions: take another policy.name for this one");
  if (Sha256Of(trained.weights) != trained.manifest.weights_sha256()) return Error(Code::kCorrupt, "weights are not those that the manifest promises");
  FUSELINE_ASSIGN_OR_FAIL(const TensorMap tensors, DecodeWeights(trained.weights));
  FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const ScorerNetwork network, ScorerNetwork::Create(trained.manifest, tensors));
  FUSELINE_ASSIGN_OR_FAIL(const std::optional<SigningKey> key, SigningKeyOf(config_.policy_store()));
  FUSELINE_ASSIGN_OR_FAIL(RedisConnection* const redis, Redis());
  const std::filesystem::path state = config_.fuseline().state_dir();
  if (!std::filesystem::exists(state)) return Error(Code::kNotFound, "no state folder, and what no archive holds is lost with redis:", state.string());
  FUSELINE_ASSIGN_OR_FAIL(Adopted adopted, NumberOf(trained));
  if (!execute) return adopted;

  if (!archive_) {
    const auto part_bytes = static_cast<std::uint64_t>(config_.policy_store().part_bytes());
    FUSELINE_ASSIGN_OR_FAIL(archive_, Archive::Open(StateFolders(state).ArchiveOf(policy), part_bytes, *files_));
  }
  if (!adopted.was_there) {
    trained.manifest.set_version(adopted.version);
    FUSELINE_FAIL_IF_ERROR(archive_->Put(trained, key ? &*key : nullptr));
  }
  FUSELINE_ASSIGN_OR_FAIL(v1::AliasState seen, Aliases());
  if (seen.epoch() == 0) {
    FUSELINE_FAIL_IF_ERROR(Claim(1));
    FUSELINE_ASSIGN_OR_FAIL(seen, Aliases());
  }
  FUSELINE_ASSIGN_OR_FAIL(const ArchivedVersion stored, archive_->Get(adopted.version));
  FUSELINE_ASSIGN_OR_FAIL(adopted.was_there, ImportVersion(*redis, policy, seen, stored, Note(why), ImportNumber::kAnyNumber));
  return adopted;
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
