#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "command.h"
#include "dead_letters_to_screen.h"
#include "event_text.h"
#include "fuseline/ingest/file_source.h"
#include "fuseline/sessionizer/partition_sessions.h"
#include "open_sessions.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

struct SessionsOptions {
  SettingsOptions settings;
  std::int64_t gap_ms = -1;
  std::int64_t lateness_ms = -1;
  std::int64_t cut_every_ms = 0;
  std::vector<std::string> files;
};

std::string Line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

void PrintClosings(const std::vector<Closing>& closings) {
  for (const Closing& closing : closings) {
    std::cout << Line({{"user_id", closing.user_id},
                       {"first_ms", closing.first_ms},
                       {"last_ms", closing.last_ms},
                       {"events", closing.events},
                       {"end", EndText(closing.end)}});
  }
}

void PrintAccount(const v1::Accounting& account, const std::vector<std::string>& late_event_ids) {
  std::cout << Line({{"accounting",
                      {{"read", account.read()},
                       {"used", account.used()},
                       {"pending", account.pending()},
                       {"duplicate", account.duplicate()},
                       {"late", account.late()},
                       {"orphan", account.orphan()},
                       {"malformed", account.malformed()},
                       {"quarantined", account.quarantined()},
                       {"control", account.control()}}},
                     {"late_event_ids", late_event_ids}});
}

Status SplitIntoSessions(FileSource& source, PartitionSessions& sessions) {
  std::vector<std::string> late_event_ids;
  while (!source.finished()) {
    FUSELINE_ASSIGN_OR_RETURN(std::optional<EventBatch> batch, source.Next(/*timeout_ms=*/100));
    if (!batch) continue;
    for (Record& record : batch->records) {
      FUSELINE_ASSIGN_OR_RETURN(const auto processed, sessions.Process(record));
      if (processed.verdict == Verdict::kLate) late_event_ids.emplace_back(record.event.event_id);
      PrintClosings(processed.closings);
    }
    sessions.Forget();  // Nothing is saved here, and what is closed can be forgotten.
  }
  FUSELINE_ASSIGN_OR_RETURN(const std::vector<Closing> flushed, sessions.Flush());
  PrintClosings(flushed);
  PrintAccount(sessions.state().accounting(), late_event_ids);
  std::cout.flush();
  return std::cout ? OkStatus() : ErrorStatus(Code::kUnavailable, "standard output cannot be written");
}

int RunSessions(const SessionsOptions& options) {
  // Not `required`: `show` has none.
  if (options.files.empty()) {
    return FailUsage(ErrorStatus(Code::kInvalidInput, "files is required: sessions FILE..., or sessions show USER"));
  }
  const auto config = options.settings.Load();
  if (!config) return FailUsage(config.error());
  SessionShape shape = ShapeOf(config->sessionizer());
  if (options.gap_ms >= 0) shape.gap_ms = options.gap_ms;
  if (options.lateness_ms >= 0) shape.lateness_ms = options.lateness_ms;
  shape.cut_every_ms = options.cut_every_ms;

  DeadLettersToScreen dead_letters;
  auto source = FileSource::Open(FileSourceOptionsOf(config->ingest(), options.files), &dead_letters);
  if (!source) return FailUsage(source.error());
  PartitionSessions sessions(/*partition=*/0, shape, config->sessionizer().max_trajectory_bytes());
  const Status done = SplitIntoSessions(**source, sessions);
  dead_letters.SayHowMany();
  return done.ok() ? static_cast<int>(kExitOk) : Fail(done);
}

struct ShowOptions {
  SettingsOptions settings;
  std::string user_id;
  bool json = false;
};

int ShowOpenSessions(const ShowOptions& options) {
  const auto config = options.settings.LoadOfState();
  if (!config) return FailUsage(config.error());
  const auto open = ReadOpenSessions(*config, options.user_id);
  if (!open) return Fail(open.error());
  std::cout << (options.json ? OpenSessionsJson(*open) + '\n' : OpenSessionsText(*open));
  return kExitOk;
}

void RegisterShow(Program& program, CLI::App* sessions) {
  auto options = std::make_shared<ShowOptions>();
  CLI::App* show = program.AddSubcommand(
      "show",
      "The open sessions of a user, from the state folder; also while a process runs on it. (For a file of that name: ./show)",
      "fuseline sessions show u42 --state .fuseline", sessions);
  options->settings.AddTo(*show);
  options->settings.AddStateTo(*show);
  show->add_option("user", options->user_id, "user id")->required()->type_name("USER");
  show->add_flag("--json", options->json, "one line of JSON");
  program.SetBody(show, [options] { return ShowOpenSessions(*options); });
}

}  // namespace

void RegisterSessions(Program& program) {
  auto options = std::make_shared<SessionsOptions>();
  CLI::App* sessions = program.AddSubcommand(
      "sessions", "Print the sessions of event files, one JSON line as each closes, then the account of every record",
      "fuseline sessions --gap-ms 1800000 --lateness-ms 120000 events.jsonl");
  options->settings.AddTo(*sessions);
  const auto add_ms = [&](const char* name, std::int64_t* value, const char* help) {
    sessions->add_option(name, *value, help)->check(CLI::Range(std::int64_t{0}, kShapeMaxMs))->type_name("MS");
  };
  add_ms("--gap-ms", &options->gap_ms, "a longer silence ends a session; else sessionizer.gap_ms");
  add_ms("--lateness-ms", &options->lateness_ms, "an event older than stream time by more is late; else sessionizer.lateness_ms");
  add_ms("--cut-every-ms", &options->cut_every_ms, "distance of each user's cut lines; 0, the default: none");
  sessions->add_option("files", options->files, "events in order of arrival: .jsonl or .pb, each also .gz or .zst; - for standard input")
      ->type_name("FILE");
  RegisterShow(program, sessions);
  program.SetBody(sessions, [options] { return RunSessions(*options); });
}

}  // namespace fuseline
