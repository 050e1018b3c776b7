#include "publication.h"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "fuseline/core/backoff.h"
#include "fuseline/core/file.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/signature.h"
#include "fuseline/core/stage.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/policy_store/audit_trail.h"
#include "fuseline/policy_store/experiments.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/redis/connection.h"
#include "fuseline/serving_bridge/redis_options.h"
#include "experiment_keeper.h"
#include "guardrails.h"
#include "last_good.h"

namespace fuseline {
namespace {

constexpr std::int64_t kLookMs = 20;  // Between two looks for versions and acknowledgements.
constexpr std::size_t kRankersMax = 100'000;  // Lines beyond are not looked at: who can write one can write many.
constexpr int kLooksPerAliases = 10;  // The aliases are looked at with every so many of these.

PublisherOptions PublisherOptionsOf(const v1::Config& config, const SigningKey* signing_key, const PublicKeys& trusted) {
  PublisherOptions options;
  options.signing_key = signing_key;
  options.trusted = trusted;
  options.policy = config.policy().name();
  options.retention.keep_versions = config.policy_store().keep_versions();
  options.changes_kept = config.policy_store().changes_kept();
  options.retention.keep_pointed_ms = config.policy_store().keep_pointed_ms();
  options.delta_min_bytes = config.policy_store().delta_min_bytes();
  return options;
}

}  // namespace

Result<std::optional<SigningKey>> SigningKeyOf(const v1::PolicyStore& settings) {
  if (settings.signing_key_file().empty()) return std::optional<SigningKey>();
  const auto pem = ReadFile(settings.signing_key_file());
  if (!pem) return Error(Code::kInvalidInput, "policy_store.signing_key_file:", pem.error().message);
  auto key = SigningKey::FromPem(*pem);
  if (!key) return Error(Code::kInvalidInput, "policy_store.signing_key_file", settings.signing_key_file(), "holds", key.error().message);
  return std::optional(*std::move(key));
}

struct Publication::Impl {
  Impl(Options made_options, Instruments made_instruments, std::unique_ptr<FileSystem> made_files, Archive made_archive,
       AuditTrail made_trail, std::optional<SigningKey> made_key, PublicKeys made_trusted)
      : options(std::move(made_options)),
        instruments(made_instruments),
        files(std::move(made_files)),
        archive(std::move(made_archive)),
        trail(std::move(made_trail)),
        signing_key(std::move(made_key)),
        trusted(std::move(made_trusted)),
        keys(options.config.policy().name()),
        backoff(20, 2'000, options.config.fuseline().seed()),
        last_good(options.config.rollout().good_after_sessions()) {
    shared.With([&](Shared& state) { state.status.epoch = options.epoch; });
  }

  Status Run(std::stop_token stop);
  Status ArchiveNew();
  Status PublishNext();
  Status Connect();
  Status Publish(std::uint64_t version, PointLive point);
  Status FindUnpublished();
  Status LookAround();
  Status Repair(const Status& why);
  Status ReadAcknowledgements();
  void Hear(const std::string& ranker, const std::string& text, std::int64_t now_us);
  void ForgetTheSilent(std::int64_t now_us);
  void FollowLive();
  Status FollowExperiments();
  Status FollowLastGood();
  void LookAtExperiments();
  void NoteError(const Status& status);

  struct Shared {
    std::deque<PolicyVersion> made;     // To be archived.
    std::deque<std::uint64_t> stored;   // Archived; the learner has not heard of it.
    std::deque<v1::Act> acts;           // By others, on the alias live; the same.
    std::map<std::string, v1::ExperimentTotals> looks;  // To be judged, by experiment.
    std::uint64_t left_out = 0;         // Sessions that none of them has.
    PublicationStatus status;
    std::optional<Status> failure;
  };

  const Options options;
  const Instruments instruments;
  const std::unique_ptr<FileSystem> files;
  Archive archive;      // These borrow files.
  AuditTrail trail;
  const std::optional<SigningKey> signing_key;
  const PublicKeys trusted;
  const PolicyKeys keys;
  Backoff backoff;
  std::optional<Publisher> publisher;       // While connected and claimed.
  std::optional<RedisConnection> ack_reader;
  std::optional<ExperimentKeeper> keeper;
  std::string experiments_error;            // Of the last look at them; empty: none.
  std::string acks_error;                   // The same.
  LastGood last_good;
  std::deque<std::uint64_t> to_publish;     // Archived and accepted, ascending.
  std::uint64_t last_act = 0;               // Its change number.
  int looks = 0;
  bool look_for_lost = false;               // Redis had lost something: perhaps also what no alias points to.
  struct Heard {
    std::string text;  // Its line.
    Acknowledgement word;
    std::int64_t at_us = 0;   // When the line was last another one.
    bool is_gone = false;     // The line could not be deleted.
  };
  std::map<std::string, Heard> rankers;
  Guarded<Shared> shared;
  std::optional<Stage> stage;  // Last: it uses all above.
};

// Redis' part of the work is retried for ever: it may refuse us (its memory policy, our password) until somebody
// mends it, and may lose what it holds in the midst of being repaired, as often as it likes. The disk's is not:
// without an archive nothing may go on.
Status Publication::Impl::Run(std::stop_token stop) {
  std::int64_t wait_ms = 0;
  do {
    FUSELINE_RETURN_IF_ERROR(ArchiveNew());
    if (options.epoch > 0 && wait_ms <= 0) {
      Status published = PublishNext();
      if (published.ok()) published = LookAround();
      NoteError(published);
      if (published.ok()) {
        backoff.Reset();
      } else if (published.code == Code::kUnavailable || published.code == Code::kInvalidInput ||
                 published.code == Code::kNotFound) {
        publisher.reset();
        wait_ms = backoff.NextMs();
      } else {
        return published;
      }
    }
    wait_ms -= kLookMs;
  } while (SleepFor(stop, kLookMs));
  return ArchiveNew();
}

Status Publication::Impl::ArchiveNew() {
  for (;;) {
    const auto version = shared.With([](Shared& state) {
      return state.made.empty() ? std::optional<PolicyVersion>() : std::optional(state.made.front());
    });
    if (!version) return OkStatus();
    FUSELINE_RETURN_IF_ERROR(archive.Put(*version, signing_key ? &*signing_key : nullptr));
    const std::uint64_t number = version->manifest.version();
    const bool accepted = version->manifest.gate().passed();
    instruments.log.Info("policy_store.version_archived", "policy", options.config.policy().name(), "version", number, "accepted", accepted);
    if (accepted && options.epoch > 0 && (to_publish.empty() || to_publish.back() < number)) to_publish.push_back(number);
    shared.With([&](Shared& state) {
      state.made.pop_front();
      state.stored.push_back(number);
      state.status.waiting = to_publish.size();
    });
  }
}

Status Publication::Impl::Connect() {
  auto opened = Publisher::Open(
      PublisherOptionsOf(options.config, signing_key ? &*signing_key : nullptr, trusted), archive,
      [redis = RedisOptionsOf(options.config.redis())] { return RedisConnection::Connect(redis); }, instruments.clock,
      instruments.log, instruments.metrics);
  if (!opened) return std::move(opened).error();
  publisher.emplace(std::move(*opened));
  Status claimed = publisher->Claim(options.epoch);
  if (claimed.code == Code::kNotFound) claimed = publisher->Restore();
  FUSELINE_RETURN_IF_ERROR(claimed);

  auto reader = RedisConnection::Connect(RedisOptionsOf(options.config.redis()));
  if (!reader) return std::move(reader).error();
  ack_reader.emplace(std::move(*reader));
  // Nobody could be heard meanwhile.
  for (auto& [ranker, heard] : rankers) heard.at_us = instruments.clock.monotonic_us();

  return FindUnpublished();
}

// What a former life archived and did not publish, and what Redis lost although nothing points to it.
Status Publication::Impl::FindUnpublished() {
  auto newest = NewestAccepted(*ack_reader, keys);
  if (!newest && newest.error().code == Code::kCorrupt) {
    FUSELINE_RETURN_IF_ERROR(Repair(newest.error()));
    newest = NewestAccepted(*ack_reader, keys);
    if (!newest && newest.error().code == Code::kCorrupt) return ErrorStatus(Code::kUnavailable, newest.error().message);
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> published, PublishedVersions(*ack_reader, keys));
  if (!newest && newest.error().code != Code::kNotFound) return newest.error();
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> archived, archive.List());
  to_publish.clear();
  for (const std::uint64_t version : archived) {
    if (std::binary_search(published.begin(), published.end(), version)) continue;
    FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion found, archive.Get(version));
    if (!found.version.manifest.gate().passed()) continue;
    if (version > newest.value_or(0)) to_publish.push_back(version);
    else FUSELINE_RETURN_IF_ERROR(Publish(version, PointLive::kAgain));
  }
  look_for_lost = false;
  return OkStatus();
}

Status Publication::Impl::Publish(std::uint64_t version, PointLive point) {
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion found, archive.Get(version));
  auto published = publisher->Publish(found.version, point);
  if (!published) {
    FUSELINE_RETURN_IF_ERROR(Repair(published.error()));
    published = publisher->Publish(found.version, point);
  }
  return published ? OkStatus() : std::move(published).error();
}

Status Publication::Impl::PublishNext() {
  if (!publisher) FUSELINE_RETURN_IF_ERROR(Connect());
  bool published_any = false;
  while (!to_publish.empty()) {
    const std::uint64_t number = to_publish.front();
    FUSELINE_RETURN_IF_ERROR(Publish(number, PointLive::kYes));
    to_publish.pop_front();
    published_any = true;
    const v1::AliasChange* const live = FindAlias(publisher->aliases(), kLiveAlias);
    if (options.on_published) options.on_published(number, live != nullptr && live->to_version() == number);
  }
  // Only now: among many that waited for Redis, or were lost with it, retention would take those that are still to come.
  if (published_any && !look_for_lost) {
    const auto retained = publisher->Retain();
    if (!retained && retained.error().code == Code::kCorrupt) {
      instruments.log.Warn("policy_store.nothing_deleted", "reason", retained.error().message);
      FUSELINE_RETURN_IF_ERROR(Repair(retained.error()));
    } else if (!retained && retained.error().code != Code::kConflict) {
      return retained.error();
    }
  }
  const v1::AliasChange* live = FindAlias(publisher->aliases(), kLiveAlias);
  shared.With([&](Shared& state) {
    state.status.waiting = to_publish.size();
    state.status.live_version = live == nullptr ? 0 : live->to_version();
  });
  return OkStatus();
}

// What others did and what Redis lost is seen here when nothing is published.
Status Publication::Impl::LookAround() {
  const Status heard = ReadAcknowledgements();
  if (std::exchange(acks_error, heard.message) != heard.message && !heard.ok()) {
    instruments.log.Warn("policy_store.acknowledgements_unread", "reason", heard.message);
  }
  if (!heard.ok() && !ack_reader->connected()) return heard;  // Nothing else depends on what they say.
  LookAtExperiments();
  if (!publisher || looks++ % kLooksPerAliases != 0) return OkStatus();
  const Status checked = publisher->Check();
  if (!checked.ok()) FUSELINE_RETURN_IF_ERROR(Repair(checked));
  if (look_for_lost) FUSELINE_RETURN_IF_ERROR(FindUnpublished());
  FollowLive();
  FUSELINE_RETURN_IF_ERROR(FollowExperiments());
  FUSELINE_RETURN_IF_ERROR(FollowLastGood());
  return trail.Follow(*ack_reader, keys);
}

// What Redis lost, or holds in bytes that nobody can read, is brought back: here what aliases point to, all else that was published, and
// experiments, at the next look. What somebody else moved is read again. One of either is an answer, two are trouble.
Status Publication::Impl::Repair(const Status& why) {
  instruments.log.Warn("policy_store.publication_repaired", "reason", why.message);
  if (why.code == Code::kNotFound || why.code == Code::kCorrupt) {
    look_for_lost = true;
    return publisher->Restore();
  }
  if (why.code == Code::kConflict) return publisher->Claim(options.epoch);
  return why;
}

void Publication::Impl::NoteError(const Status& status) {
  const bool changed = shared.With([&](Shared& state) {
    state.status.connected = status.ok();
    return std::exchange(state.status.last_error, status.message) != status.message;
  });
  if (changed && !status.ok()) instruments.log.Warn("policy_store.redis_unavailable", "reason", status.message);
}

Status Publication::Impl::ReadAcknowledgements() {
  const auto reply = ack_reader->Command({"HGETALL", keys.acks()});
  if (!reply) return reply.error();
  const std::int64_t now_us = instruments.clock.monotonic_us();
  for (std::size_t i = 0; i + 1 < reply->elements.size(); i += 2) {
    Hear(reply->elements[i].text, reply->elements[i + 1].text, now_us);
  }
  ForgetTheSilent(now_us);
  std::map<std::string, Acknowledgement> words;
  for (const auto& [ranker, heard] : rankers) {
    if (!heard.is_gone) words.emplace(ranker, heard.word);
  }
  shared.With([&](Shared& state) { state.status.rankers = std::move(words); });
  return OkStatus();
}

void Publication::Impl::Hear(const std::string& ranker, const std::string& text, std::int64_t now_us) {
  const auto known = rankers.find(ranker);
  if (known != rankers.end() && known->second.text == text) return;
  const auto word = ParseAcknowledgement(text);
  // Some other client's, or one of too many.
  if (!word || (known == rankers.end() && rankers.size() >= kRankersMax)) return;
  const bool is_news = known == rankers.end() || known->second.is_gone || known->second.word.version != word->version;
  rankers[ranker] = {text, *word, now_us};
  if (is_news && options.on_use) options.on_use(ranker, word->version, word->since_ms);
}

// A ranker of before writes only when something changes: it is never taken for silent.
void Publication::Impl::ForgetTheSilent(std::int64_t now_us) {
  for (auto heard = rankers.begin(); heard != rankers.end();) {
    const auto& [ranker, last] = *heard;
    const bool is_silent = last.word.seen_ms != 0 && now_us - last.at_us > kRankerGoneMs * 1'000;
    if (!is_silent || last.is_gone) {
      ++heard;
      continue;
    }
    instruments.log.Info("policy_store.ranker_gone", "ranker", ranker, "version", last.word.version);
    if (options.on_gone) options.on_gone(ranker);
    heard->second.is_gone = true;
    const auto deleted = ack_reader->Command({"HDEL", keys.acks(), ranker});
    // Without the right to delete, it is at least not counted.
    heard = deleted ? rankers.erase(heard) : std::next(heard);
  }
}

void Publication::Impl::FollowLive() {
  const v1::AliasChange* const live = FindAlias(publisher->aliases(), kLiveAlias);
  if (live == nullptr) return;
  shared.With([&](Shared& state) {
    state.status.live_version = live->to_version();
    state.status.pin = live->pinned() ? std::optional(*live) : std::nullopt;
  });
  const bool is_ours = live->cause() == v1::AliasChange::PUBLISHED || live->cause() == v1::AliasChange::UNSPECIFIED;
  if (is_ours || live->change() <= last_act) return;
  last_act = live->change();
  v1::Act act;
  act.set_number(live->change());
  act.set_incumbent(live->to_version());
  act.set_holds(live->pinned());
  act.set_who(live->who());
  act.set_why(live->why());
  shared.With([&](Shared& state) { state.acts.push_back(std::move(act)); });
}

// Errors: of the disk, or a file there that cannot be read: as the archive's. What Redis refuses is tried again.
Status Publication::Impl::FollowExperiments() {
  if (!publisher) return OkStatus();
  if (!keeper) {
    FUSELINE_ASSIGN_OR_RETURN(keeper, ExperimentKeeper::Open(options.folder));
  }
  const Status followed =
      keeper->Follow(*ack_reader, keys, options.epoch, options.config.policy_store().changes_kept(), instruments);
  if (std::exchange(experiments_error, followed.message) != followed.message && !followed.ok()) {
    instruments.log.Warn("rollout.experiments_not_followed", "reason", followed.message);
  }
  if (followed.code == Code::kUnavailable) publisher.reset();
  return OkStatus();
}

// Who moved an alias meanwhile, or replaced us, is seen at the next look.
Status Publication::Impl::FollowLastGood() {
  if (!publisher || !keeper) return OkStatus();
  const Status followed = last_good.Follow(*ack_reader, keys, publisher->aliases(), keeper->doubts_live(),
                                           options.config.policy_store().changes_kept(), instruments.clock);
  return followed.code == Code::kUnavailable ? followed : OkStatus();
}

// What fails is tried again with the next sums, or sooner if Redis was away; nothing else waits for it.
void Publication::Impl::LookAtExperiments() {
  const auto [waiting, left_out] = shared.With([](Shared& state) { return std::pair(std::exchange(state.looks, {}), state.left_out); });
  for (const auto& [name, totals] : waiting) {
    Status looked = WriteLeftOut(*ack_reader, keys, left_out);
    if (looked.ok()) looked = LookAtExperiment(*ack_reader, keys, options.epoch, options.config, totals, instruments);
    if (looked.ok()) continue;
    instruments.log.Warn("rollout.look_failed", "experiment", name, "reason", looked.message);
    if (looked.code != Code::kUnavailable) continue;
    publisher.reset();
    shared.With([&](Shared& state) { state.looks.emplace(name, totals); });
    return;
  }
}

Publication::Publication(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Publication>> Publication::Open(Options options, Instruments instruments) {
  const auto part_bytes = static_cast<std::uint64_t>(options.config.policy_store().part_bytes());
  auto files = std::make_unique<DiskFileSystem>();
  FUSELINE_ASSIGN_OR_FAIL(Archive archive, Archive::Open(options.folder, part_bytes, *files));
  FUSELINE_ASSIGN_OR_FAIL(AuditTrail trail, AuditTrail::Open(options.folder, *files));
  FUSELINE_ASSIGN_OR_FAIL(std::optional<SigningKey> signing_key, SigningKeyOf(options.config.policy_store()));
  FUSELINE_ASSIGN_OR_FAIL(PublicKeys trusted, PublicKeys::FromHex(options.config.policy_store().public_keys()));
  auto impl = std::make_unique<Impl>(std::move(options), instruments, std::move(files), std::move(archive), std::move(trail),
                                     std::move(signing_key), std::move(trusted));
  Impl* const borrowed = impl.get();
  impl->stage.emplace("publication", [borrowed](std::stop_token stop) {
    Status outcome = borrowed->Run(stop);
    if (!outcome.ok()) borrowed->shared.With([&](Impl::Shared& state) { state.failure = outcome; });
    return outcome;
  });
  return std::unique_ptr<Publication>(new Publication(std::move(impl)));
}

Publication::~Publication() = default;

void Publication::Store(PolicyVersion version) {
  impl_->shared.With([&](Impl::Shared& state) { state.made.push_back(std::move(version)); });
}

std::optional<std::uint64_t> Publication::TakeStored() {
  return impl_->shared.With([](Impl::Shared& state) {
    if (state.stored.empty()) return std::optional<std::uint64_t>();
    const std::uint64_t version = state.stored.front();
    state.stored.pop_front();
    return std::optional(version);
  });
}

std::optional<v1::Act> Publication::TakeAct() {
  return impl_->shared.With([](Impl::Shared& state) {
    if (state.acts.empty()) return std::optional<v1::Act>();
    std::optional<v1::Act> act(std::move(state.acts.front()));
    state.acts.pop_front();
    return act;
  });
}

void Publication::Look(v1::ExperimentTotals totals, std::uint64_t left_out) {
  impl_->shared.With([&](Impl::Shared& state) {
    state.left_out = left_out;
    const std::string name = totals.name();
    state.looks[name] = std::move(totals);
  });
}

void Publication::Served(std::uint64_t policy_version) { impl_->last_good.Count(policy_version); }

std::optional<Status> Publication::failure() const {
  return impl_->shared.With([](const Impl::Shared& state) { return state.failure; });
}

bool Publication::WaitUntilPublished(std::int64_t patience_ms) const {
  const std::int64_t deadline_us = impl_->instruments.clock.monotonic_us() + patience_ms * 1'000;
  const auto done = [&] {
    return impl_->shared.With([](const Impl::Shared& state) {
      return state.made.empty() && state.status.waiting == 0 && state.status.connected;
    });
  };
  while (!done()) {
    if (failure() || impl_->instruments.clock.monotonic_us() > deadline_us) return false;
    SleepFor(std::stop_token(), kLookMs);
  }
  return true;
}

PublicationStatus Publication::status() const {
  return impl_->shared.With([](const Impl::Shared& state) { return state.status; });
}

}  // namespace fuseline
