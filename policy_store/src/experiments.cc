#include "fuseline/policy_store/experiments.h"

#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>

#include "fuseline/proto/schema.h"
#include "scripts.h"

namespace fuseline {
namespace {

constexpr const char* kOfNoExperiment = "";  // Each experiment has a name.

std::string NoteOf(const v1::Experiment& experiment, std::uint64_t epoch, std::string_view before) {
  v1::AliasChange note;
  note.set_epoch(epoch);
  if (experiment.history_size() == 0) return CanonicalBytes(note);
  const v1::ExperimentChange& change = *experiment.history().rbegin();
  note.set_who(change.who());
  note.set_why(std::string(before) + "experiment " + experiment.name() + ": " + v1::Experiment::State_Name(change.state()) + " at coverage " +
               std::to_string(change.coverage()) + (change.why().empty() ? "" : "; " + change.why()));
  note.set_wall_ms(change.wall_ms());
  return CanonicalBytes(note);
}

Status Write(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, std::string_view before, const v1::Experiment& next,
             std::int64_t changes_kept, std::optional<std::size_t> among, const std::string& note) {
  const std::string mine = std::to_string(epoch);
  const std::string bytes = CanonicalBytes(next), kept = std::to_string(changes_kept);
  const std::string count = among ? std::to_string(*among) : std::string();
  const std::string names[] = {keys.epoch(), keys.experiments(), keys.changes()};
  auto reply = redis.Eval(WriteExperimentScript(), {names[0], names[1], names[2]},
                          {mine, next.name(), before, bytes, kept, note, count});
  return reply ? OkStatus() : std::move(reply).error();
}

}  // namespace

Result<std::map<std::string, v1::Experiment>> ReadExperiments(RedisConnection& redis, const PolicyKeys& keys,
                                                              std::map<std::string, std::string>* unreadable) {
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Command({"HGETALL", keys.experiments()}));
  std::map<std::string, v1::Experiment> experiments;
  for (std::size_t i = 0; i + 1 < reply.elements.size(); i += 2) {
    const std::string &name = reply.elements[i].text, &bytes = reply.elements[i + 1].text;
    v1::Experiment experiment;
    if (experiment.ParseFromString(bytes) && experiment.name() == name) {
      experiments[name] = std::move(experiment);
    } else if (unreadable != nullptr) {
      unreadable->emplace(name, bytes);
    }
  }
  return experiments;
}

Status WriteExperiment(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, const v1::Experiment* seen,
                       const v1::Experiment& next, std::int64_t changes_kept, std::optional<std::size_t> among) {
  return Write(redis, keys, epoch, seen == nullptr ? std::string() : CanonicalBytes(*seen), next, changes_kept, among,
               NoteOf(next, epoch, ""));
}

Status RestoreExperiment(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t epoch, std::string_view seen,
                         const v1::Experiment& lost, std::int64_t changes_kept) {
  return Write(redis, keys, epoch, seen, lost, changes_kept, std::nullopt, NoteOf(lost, epoch, "restored from the archive; "));
}

Status WriteFigures(RedisConnection& redis, const PolicyKeys& keys, const v1::ExperimentTotals& totals) {
  auto reply = redis.Command({"HSET", keys.figures(), totals.name(), CanonicalBytes(totals)});
  return reply ? OkStatus() : std::move(reply).error();
}

Result<v1::ExperimentTotals> ReadFigures(RedisConnection& redis, const PolicyKeys& keys, const std::string& experiment) {
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Command({"HGET", keys.figures(), experiment}));
  v1::ExperimentTotals totals;
  if (reply.is_string() && !totals.ParseFromString(reply.text)) return Error(Code::kCorrupt, "figures cannot be read, of experiment", experiment);
  return totals;
}

Status WriteLeftOut(RedisConnection& redis, const PolicyKeys& keys, std::uint64_t sessions) {
  auto reply = redis.Command({"HSET", keys.figures(), kOfNoExperiment, std::to_string(sessions)});
  return reply ? OkStatus() : std::move(reply).error();
}

Result<std::uint64_t> ReadLeftOut(RedisConnection& redis, const PolicyKeys& keys) {
  FUSELINE_ASSIGN_OR_FAIL(const RedisReply reply, redis.Command({"HGET", keys.figures(), kOfNoExperiment}));
  std::uint64_t sessions = 0;
  const char* const end = reply.text.data() + reply.text.size();
  const auto read = std::from_chars(reply.text.data(), end, sessions);
  if (reply.is_string() && (read.ec != std::errc() || read.ptr != end)) return Error(Code::kCorrupt, "no number of left out sessions:", reply.text);
  return sessions;
}

}  // namespace fuseline
