#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <memory>

#include "command.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/policy_keys.h"
#include "fuseline/policy_store/audit_trail.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/retention.h"
#include "fuseline/policy_store/version_difference.h"
#include "fuseline/policy_store/version_file.h"
#include "version_desk.h"
#include "version_text.h"

namespace fuseline {
namespace {

constexpr int kProbes = 100;
constexpr std::int64_t kChangesRead = 1'000'000;

struct VersionsOptions {
  SettingsOptions settings;
  bool json = false;
  bool execute = false;
  bool dry_run = false;  // The default, which may be said.
  bool despite_gate = false;
  bool scorer = false;
  std::string reason, file;
  std::string alias = std::string(kLiveAlias);
  std::uint64_t version = 0, other = 0;
  std::size_t limit = 50;
};

using Body = std::function<Status(const VersionsOptions&, const v1::Config&, VersionDesk&)>;

Status ListVersions(const VersionsOptions& options, const v1::Config&, VersionDesk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(const v1::AliasState aliases, desk.Aliases());
  FUSELINE_ASSIGN_OR_RETURN(const auto rows, desk.List());
  if (options.json) std::cout << VersionsJson(rows, aliases) << '\n';
  else std::cout << VersionsText(rows, aliases);
  if (!desk.has_redis()) std::cerr << "fuseline: redis is away: this is the archive, and the aliases as the learner last saw them\n";
  return OkStatus();
}

Status ShowVersion(const VersionsOptions& options, const v1::Config&, VersionDesk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(const v1::AliasState aliases, desk.Aliases());
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion version, desk.Get(options.version));
  if (options.json) std::cout << VersionJson(version, aliases) << '\n';
  else std::cout << VersionText(version, aliases);
  return OkStatus();
}

Status DiffVersions(const VersionsOptions& options, const v1::Config&, VersionDesk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion first, desk.Get(options.version));
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion second, desk.Get(options.other));
  FUSELINE_ASSIGN_OR_RETURN(const VersionDifference difference, CompareVersions(first.version, second.version, kProbes));
  if (options.json) std::cout << DifferenceJson(first.version, second.version, difference) << '\n';
  else std::cout << DifferenceText(first.version, second.version, difference);
  return OkStatus();
}

Status LogChanges(const VersionsOptions& options, const v1::Config&, VersionDesk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(RedisConnection* const redis, desk.Redis());
  FUSELINE_ASSIGN_OR_RETURN(auto entries, ReadChanges(*redis, desk.keys(), "0", kChangesRead));
  if (entries.size() > options.limit) entries.erase(entries.begin(), entries.end() - static_cast<std::ptrdiff_t>(options.limit));
  for (const AuditEntry& entry : entries) std::cout << (options.json ? AuditLine(entry) + '\n' : ChangeText(entry));
  return OkStatus();
}

// `plan_of` gives the plan; what it needs to know beyond the aliases it asks the desk.
using PlanOf = std::function<Result<VersionDesk::Plan>(const VersionsOptions&, VersionDesk&)>;

Body Moving(PlanOf plan_of) {
  return [plan_of](const VersionsOptions& options, const v1::Config&, VersionDesk& desk) -> Status {
    FUSELINE_ASSIGN_OR_RETURN(const VersionDesk::Plan plan, plan_of(options, desk));
    FUSELINE_ASSIGN_OR_RETURN(const VersionDesk::Moved moved, desk.Move(plan, options.despite_gate, options.execute, options.reason));
    std::cout << (options.json ? MoveJson(moved) + '\n' : MoveText(moved));
    return OkStatus();
  };
}

Result<VersionDesk::Plan> UnpinPlan(const VersionsOptions&, VersionDesk& desk) {
  FUSELINE_ASSIGN_OR_FAIL(RedisConnection* const redis, desk.Redis());
  const auto newest = NewestAccepted(*redis, desk.keys());
  if (!newest && newest.error().code != Code::kNotFound) return tl::unexpected(newest.error());
  return VersionDesk::Plan([version = newest.value_or(0)](const v1::AliasState& seen) { return PlanUnpin(seen, version); });
}

// The archive belongs to the learner's process, which prunes its own.
Status CollectGarbage(const VersionsOptions& options, const v1::Config& config, VersionDesk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(RedisConnection* const redis, desk.Redis());
  FUSELINE_ASSIGN_OR_RETURN(const v1::AliasState seen, desk.Aliases());
  const RetentionRule rule{.keep_versions = config.policy_store().keep_versions(), .keep_pointed_ms = config.policy_store().keep_pointed_ms()};
  std::vector<std::uint64_t> versions;
  if (options.execute) {
    const ChangeNote note = desk.Note(options.reason);
    FUSELINE_ASSIGN_OR_RETURN(versions, DeleteOldVersions(*redis, desk.keys(), seen, seen.epoch(), rule, &note));
  } else {
    FUSELINE_ASSIGN_OR_RETURN(versions, OldVersions(*redis, desk.keys(), seen, rule));
  }
  std::string list;
  for (const std::uint64_t version : versions) list += (list.empty() ? "" : options.json ? "," : " ") + std::to_string(version);
  if (options.json) {
    std::cout << "{\"versions\":[" << list << "],\"executed\":" << (options.execute ? "true" : "false") << "}\n";
    return OkStatus();
  }
  std::cout << (options.execute ? "deleted from redis: " : "to delete from redis: ") << (list.empty() ? "none" : list) << '\n';
  if (!options.execute) std::cout << "nothing was changed; --execute does it\n";
  return OkStatus();
}

Status ExportVersion(const VersionsOptions& options, const v1::Config&, VersionDesk& desk) {
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion version, desk.Get(options.version));
  const std::string bytes = EncodeVersionFile(version);
  FUSELINE_RETURN_IF_ERROR(WriteFileAtomically(options.file, bytes));
  std::cout << options.file << ": version " << options.version << ", " << bytes.size() << " bytes, "
            << (version.version.signature.empty() ? "not signed" : "signed") << '\n';
  return OkStatus();
}

// What train-scorer made.
Status AdoptFolder(const VersionsOptions& options, VersionDesk& desk) {
  const auto adopted = desk.Adopt(options.file, options.execute, options.reason);
  if (!adopted) return ErrorStatus(adopted.error().code, options.file + ":", adopted.error().message);
  std::cout << options.file << ": a whole scorer, version " << adopted->version << (adopted->was_there ? ", as it was there before\n" : "\n");
  if (options.execute) {
    std::cout << "it is in the archive and in redis now; no gate has judged it: versions promote " << adopted->version << " --scorer --despite-gate\n";
  } else {
    std::cout << "nothing was changed; --execute puts it into the archive and redis, where versions promote finds it\n";
  }
  return OkStatus();
}

Status ImportFile(const VersionsOptions& options, const v1::Config&, VersionDesk& desk) {
  if (std::filesystem::is_directory(options.file)) return AdoptFolder(options, desk);
  FUSELINE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(options.file));
  auto version = DecodeVersionFile(bytes, desk.trusted());
  if (!version) return ErrorStatus(version.error().code, options.file + ":", version.error().message);
  std::cout << options.file << ": version " << version->version.manifest.version() << " is whole, "
            << (version->version.signature.empty() ? "not signed" : desk.trusted().empty() ? "signed by whom is not checked" : "signed by a trusted key")
            << '\n';
  if (!options.execute) {
    if (const auto may = desk.MayImport(*version); !may) return may.error();
    std::cout << "nothing was changed; --execute puts it into the archive and redis, where versions promote finds it\n";
    return OkStatus();
  }
  FUSELINE_ASSIGN_OR_RETURN(const bool was_there, desk.Import(*version, options.reason));
  std::cout << (was_there ? "it was there before\n" : "it is in the archive and in redis now\n");
  return OkStatus();
}

int MakeKey(const std::string& file) {
  const auto key = SigningKey::Generate();
  if (!key) return Fail(key.error());
  // Never over another key: what it signed could not be signed again.
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) return FailUsage(ErrorStatus(Code::kInvalidInput, "cannot create", file, ": it exists, or its folder does not"));
  const std::string pem = key->ToPem();
  const bool written = ::write(descriptor, pem.data(), pem.size()) == static_cast<ssize_t>(pem.size()) && ::fsync(descriptor) == 0;
  ::close(descriptor);
  if (!written) return Fail(ErrorStatus(Code::kUnavailable, "cannot write", file));
  std::cout << "private key: " << file << " (policy_store.signing_key_file of the learner; keep it secret)\n"
            << "public key:  " << ToHex(key->public_key()) << " (policy_store.public_keys of rankers and operators)\n";
  return kExitOk;
}

int Run(const VersionsOptions& options, const Body& body) {
  auto config = options.settings.LoadOfState();
  if (!config) return FailUsage(config.error());
  if (options.scorer) {
    config->mutable_policy()->set_name(ScorerPolicyOf(config->policy().name()));
    if (const Status named = ValidatePolicyName(config->policy().name()); !named.ok()) return FailUsage(named);
  }
  if (const Status said = CheckReason(options.execute, options.reason); !said.ok()) return FailUsage(said);
  auto desk = VersionDesk::Open(*config);
  if (!desk) return Fail(desk.error());
  const Status done = body(options, *config, *desk);
  return done.ok() ? static_cast<int>(kExitOk) : Fail(done);
}

// The subcommands, one after another; each has options of its own.
class Registration {
 public:
  explicit Registration(Program& program)
      : program_(program),
        versions_(program.AddSubcommand("versions", "The versions of the policy: which there are, what differs, which one is live, and who said so",
                                        "fuseline versions list && fuseline versions rollback --reason 'watch time fell'")) {
    versions_->require_subcommand(1);
  }

  struct Added {
    CLI::App* command;
    std::shared_ptr<VersionsOptions> options;
  };
  Added Add(const std::string& name, const std::string& help, const std::string& example, Body body) {
    auto options = std::make_shared<VersionsOptions>();
    CLI::App* command = program_.AddSubcommand(name, help, example, versions_);
    options->settings.AddTo(*command);
    options->settings.AddStateTo(*command);
    command->add_flag("--json", options->json, "as JSON, one object a line");
    command->add_flag("--scorer", options->scorer, "of the policy's scorer: policy NAME.scorer");
    program_.SetBody(command, [options, body = std::move(body)] { return Run(*options, body); });
    return {command, options};
  }
  // Of what changes something.
  Added AddChanging(const std::string& name, const std::string& help, const std::string& example, Body body) {
    Added added = Add(name, help, example, std::move(body));
    CLI::Option* execute = added.command->add_flag("--execute", added.options->execute, "do it");
    added.command->add_flag("--dry-run", added.options->dry_run, "say what would be done, and do nothing: the default")->excludes(execute);
    added.command->add_option("--reason", added.options->reason, "why; for the audit trail")->type_name("TEXT");
    return added;
  }
  CLI::App* versions() { return versions_; }

 private:
  Program& program_;
  CLI::App* versions_;
};

void AddVersion(const Registration::Added& added, const char* name, std::uint64_t& version, bool required = true) {
  added.command->add_option(name, version, "version's number")->check(CLI::PositiveNumber)->type_name("N")->required(required);
}

void RegisterLooking(Registration& registration) {
  registration.Add("list", "Versions in archive and Redis, and where the aliases point", "fuseline versions list --json", ListVersions);
  const auto show = registration.Add("show", "All about one version: digests, lineage, gate, figures", "fuseline versions show 12", ShowVersion);
  AddVersion(show, "version", show.options->version);
  const auto diff = registration.Add("diff", "What differs between two: settings, lineage, figures, weights, and actions on random requests",
                                     "fuseline versions diff 11 12", DiffVersions);
  AddVersion(diff, "first", diff.options->version);
  AddVersion(diff, "second", diff.options->other);
  const auto log = registration.Add("log", "Who moved which alias where, when and why, as Redis remembers it; STATE/policy/changes.jsonl keeps it all",
                                    "fuseline versions log --limit 20", LogChanges);
  log.command->add_option("--limit", log.options->limit, "newest entries that are shown")->capture_default_str()->type_name("N");
  const auto exported = registration.Add("export", "One version as one self-contained file", "fuseline versions export 12 --to policy-12.fuseline", ExportVersion);
  AddVersion(exported, "version", exported.options->version);
  exported.command->add_option("--to", exported.options->file, "the file to write")->required()->type_name("FILE");
}

void RegisterMoving(Registration& registration) {
  const auto promote = registration.AddChanging(
      "promote", "Point an alias at a version; a pin of it stays", "fuseline versions promote 12 --alias canary --reason 'try it' --execute",
      Moving([](const VersionsOptions& options, VersionDesk&) {
        return VersionDesk::Plan([alias = options.alias, version = options.version](const v1::AliasState& seen) {
          return PlanPromotion(seen, alias, version);
        });
      }));
  AddVersion(promote, "version", promote.options->version);
  promote.command->add_option("--alias", promote.options->alias, "live, canary or shadow")->capture_default_str()->type_name("ALIAS");
  promote.command->add_flag("--despite-gate", promote.options->despite_gate, "also a version that the gate refused");

  const auto rollback = registration.AddChanging(
      "rollback", "Pin live to last_good, or to another version: later ones are stored and not pointed to until unpin",
      "fuseline versions rollback --reason 'watch time fell' --execute", Moving([](const VersionsOptions& options, VersionDesk&) {
        return VersionDesk::Plan([version = options.version](const v1::AliasState& seen) { return PlanRollback(seen, version); });
      }));
  AddVersion(rollback, "--to", rollback.options->version, /*required=*/false);
  rollback.command->add_flag("--despite-gate", rollback.options->despite_gate, "also to a version that the gate refused");

  registration.AddChanging("pin", "Keep live where it is, whatever is published", "fuseline versions pin --reason 'holidays' --execute",
                           Moving([](const VersionsOptions&, VersionDesk&) { return VersionDesk::Plan(PlanPin); }));
  registration.AddChanging("unpin", "Let live go on: to the newest accepted version now, and then with each that is published",
                           "fuseline versions unpin --reason 'mended' --execute", Moving(UnpinPlan));
}

}  // namespace

void RegisterVersions(Program& program) {
  Registration registration(program);
  RegisterLooking(registration);
  RegisterMoving(registration);
  registration.AddChanging("gc", "Delete from Redis what retention gives up: neither pointed to, nor left lately, nor among the newest",
                           "fuseline versions gc", CollectGarbage);
  const auto imported = registration.AddChanging(
      "import", "Verify an exported version, or a scorer that train-scorer made, and put it into the archive, then into Redis; no alias moves",
      "fuseline versions import policy-12.fuseline --reason 'from staging' --execute\n"
      "  fuseline versions import scorers/mmoe-none-1 --scorer --reason 'trained on April' --execute", ImportFile);
  imported.command->add_option("file", imported.options->file, "what versions export wrote, or a folder that train-scorer made")->required()->type_name("FILE");

  auto file = std::make_shared<std::string>();
  CLI::App* keygen = program.AddSubcommand("keygen", "Make an Ed25519 key that signs versions", "fuseline versions keygen signing-key.pem",
                                           registration.versions());
  keygen->add_option("file", *file, "PEM file to make; it must not exist")->required()->type_name("FILE");
  program.SetBody(keygen, [file] { return MakeKey(*file); });
}

}  // namespace fuseline
