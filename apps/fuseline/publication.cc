#include "publication.h"

#include <algorithm>
#include <deque>
#include <map>
#include <sstream>

#include "fuseline/core/backoff.h"
#include "fuseline/core/guarded.h"
#include "fuseline/core/stage.h"
#include "fuseline/policy_store/aliases.h"
#include "fuseline/policy_store/archive.h"
#include "fuseline/policy_store/fetch.h"
#include "fuseline/policy_store/publisher.h"
#include "fuseline/redis/connection.h"
#include "redis_options.h"

namespace fuseline {
namespace {

constexpr std::int64_t kLookMs = 20;  // Between two looks for versions and acknowledgements.
constexpr int kLooksPerAliases = 10;  // The aliases are looked at with every so many of these.

PublisherOptions PublisherOptionsOf(const v1::Config& config) {
  PublisherOptions options;
  options.policy = config.policy().name();
  options.retention.keep_versions = config.policy_store().keep_versions();
  options.changes_kept = config.policy_store().changes_kept();
  options.retention.keep_pointed_ms = config.policy_store().keep_pointed_ms();
  return options;
}

}  // namespace

struct Publication::Impl {
  Impl(Options made_options, Instruments made_instruments, std::unique_ptr<FileSystem> made_files, Archive made_archive)
      : options(std::move(made_options)),
        instruments(made_instruments),
        files(std::move(made_files)),
        archive(std::move(made_archive)),
        keys(options.config.policy().name()),
        backoff(20, 2'000, options.config.fuseline().seed()) {
    shared.With([&](Shared& state) { state.status.epoch = options.epoch; });
  }

  Status Run(std::stop_token stop);
  Status ArchiveNew();
  Status PublishNext();
  Status Connect();
  Status Repair(const Status& why);
  void ReadAcknowledgements();
  void ReadMoves();
  PointLive Point() const;
  void NoteError(const Status& status);

  struct Shared {
    std::deque<PolicyVersion> made;     // To be archived.
    std::deque<std::uint64_t> stored;   // Archived; the learner has not heard of it.
    std::deque<v1::Act> acts;           // By others, on the alias live; the same.
    PublicationStatus status;
    std::optional<Status> failure;
  };

  const Options options;
  const Instruments instruments;
  const std::unique_ptr<FileSystem> files;
  Archive archive;  // Borrows files.
  const PolicyKeys keys;
  Backoff backoff;
  std::optional<Publisher> publisher;       // While connected and claimed.
  std::optional<RedisConnection> ack_reader;
  std::deque<std::uint64_t> to_publish;     // Archived and accepted, ascending.
  std::uint64_t newest_published = 0;
  std::uint64_t last_act = 0;               // Its change number.
  int looks = 0;
  std::map<std::string, std::uint64_t> version_of_ranker;
  Guarded<Shared> shared;
  std::optional<Stage> stage;  // Last: it uses all above.
};

// Redis' part of the work is retried for ever, a refusal (its memory policy, our password) included, for somebody may mend it.
// The disk's is not: without an archive nothing may go on.
Status Publication::Impl::Run(std::stop_token stop) {
  std::int64_t wait_ms = 0;
  do {
    FUSELINE_RETURN_IF_ERROR(ArchiveNew());
    if (options.epoch > 0 && wait_ms <= 0) {
      const Status published = PublishNext();
      NoteError(published);
      if (published.ok()) {
        backoff.Reset();
        ReadAcknowledgements();
        if (publisher && looks++ % kLooksPerAliases == 0) ReadMoves();
      } else if (published.code == Code::kUnavailable || published.code == Code::kInvalidInput) {
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
    FUSELINE_RETURN_IF_ERROR(archive.Put(*version));
    const std::uint64_t number = version->manifest.version();
    const bool accepted = version->manifest.gate().passed();
    instruments.log.Info("policy_store.version_archived", "version", number, "accepted", accepted);
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
      PublisherOptionsOf(options.config), archive,
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

  // What a former life archived and did not publish.
  const auto newest = NewestPublished(*ack_reader, keys);
  if (!newest && newest.error().code != Code::kNotFound) return newest.error();
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> archived, archive.List());
  newest_published = newest.value_or(0);
  to_publish.clear();
  for (const std::uint64_t version : archived) {
    if (version <= newest.value_or(0)) continue;
    FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion found, archive.Get(version));
    if (found.version.manifest.gate().passed()) to_publish.push_back(version);
  }
  return OkStatus();
}

Status Publication::Impl::PublishNext() {
  if (!publisher) FUSELINE_RETURN_IF_ERROR(Connect());
  bool published_any = false;
  while (!to_publish.empty()) {
    const std::uint64_t number = to_publish.front();
    FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion found, archive.Get(number));
    auto published = publisher->Publish(found.version, Point());
    if (!published) {
      FUSELINE_RETURN_IF_ERROR(Repair(published.error()));
      published = publisher->Publish(found.version, Point());
      if (!published) return std::move(published).error();
    }
    to_publish.pop_front();
    newest_published = std::max(newest_published, number);
    published_any = true;
    if (options.on_published) options.on_published(number);
  }
  // Only now: among many that waited for Redis, retention would take those that are still to come.
  if (published_any) {
    const auto retained = publisher->Retain();
    if (!retained && retained.error().code != Code::kConflict) return retained.error();
  }
  const v1::AliasChange* live = FindAlias(publisher->aliases(), kLiveAlias);
  shared.With([&](Shared& state) {
    state.status.waiting = to_publish.size();
    state.status.live_version = live == nullptr ? 0 : live->to_version();
  });
  return OkStatus();
}

PointLive Publication::Impl::Point() const {
  const v1::AliasChange* live = FindAlias(publisher->aliases(), kLiveAlias);
  const bool held = live != nullptr && live->who() != PublisherOptions().who && live->to_version() < newest_published;
  return held ? PointLive::kNo : PointLive::kYes;
}

// What Redis lost is brought back; what somebody else moved is read again. One of either is an answer, two are trouble.
Status Publication::Impl::Repair(const Status& why) {
  instruments.log.Warn("policy_store.publication_repaired", "reason", why.message);
  if (why.code == Code::kNotFound) return publisher->Restore();
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

// A ranker's word is "change version wall_ms".
void Publication::Impl::ReadAcknowledgements() {
  const auto reply = ack_reader->Command({"HGETALL", keys.acks()});
  if (!reply) {
    publisher.reset();  // The connections are made anew together.
    return;
  }
  for (std::size_t i = 0; i + 1 < reply->elements.size(); i += 2) {
    std::istringstream word(reply->elements[i + 1].text);
    std::uint64_t change = 0;
    std::uint64_t version = 0;
    std::int64_t wall_ms = 0;
    if (!(word >> change >> version >> wall_ms)) continue;  // Some other client's; it informs, it decides nothing.
    const bool is_new = std::exchange(version_of_ranker[reply->elements[i].text], version) != version;
    if (is_new && options.on_use) options.on_use(version, wall_ms);
  }
  shared.With([&](Shared& state) { state.status.rankers = version_of_ranker.size(); });
}

void Publication::Impl::ReadMoves() {
  const auto aliases = ReadAliases(*ack_reader, keys);
  if (!aliases) {
    publisher.reset();
    return;
  }
  const v1::AliasChange* live = FindAlias(*aliases, kLiveAlias);
  if (live == nullptr) return;
  shared.With([&](Shared& state) { state.status.live_version = live->to_version(); });
  if (live->who() == PublisherOptions().who || live->change() <= last_act) return;
  last_act = live->change();
  v1::Act act;
  act.set_number(live->change());
  act.set_incumbent(live->to_version());
  act.set_holds(live->to_version() < newest_published);
  act.set_who(live->who());
  act.set_why(live->why());
  shared.With([&](Shared& state) { state.acts.push_back(std::move(act)); });
}

Publication::Publication(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Publication>> Publication::Open(Options options, Instruments instruments) {
  const auto part_bytes = static_cast<std::uint64_t>(options.config.policy_store().part_bytes());
  auto files = std::make_unique<DiskFileSystem>();
  FUSELINE_ASSIGN_OR_FAIL(Archive archive, Archive::Open(options.folder, part_bytes, *files));
  auto impl = std::make_unique<Impl>(std::move(options), instruments, std::move(files), std::move(archive));
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
