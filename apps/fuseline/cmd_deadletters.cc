#include <algorithm>
#include <chrono>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "command.h"
#include "dead_letters.h"
#include "fuseline/core/clock.h"
#include "fuseline/ingest/kafka_source.h"
#include "fuseline/kafka/admin.h"
#include "letter_text.h"
#include "requeue.h"
#include "stop_signal.h"
#include "time_text.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kReasonsShown = 20;

struct LetterOptions {
  SettingsOptions settings;
  std::string file, reason, source, since, until;
  std::int64_t partition = -1;
  std::vector<std::string> positions;
  bool json = false;

  void AddTo(CLI::App& command) {
    settings.AddTo(command);
    command
        .add_option("--file", file,
                    "file of dead letters; else ingest.dead_letters_file, else the topic kafka.dead_letters_topic")
        ->type_name("FILE");
    command.add_flag("--json", json, "lines of JSON instead of a table");
  }
  void AddFilterTo(CLI::App& command) {
    command.add_option("--reason", reason, "only letters with this text in their reason")->type_name("TEXT");
    command.add_option("--partition", partition, "only letters of this partition")
        ->check(CLI::NonNegativeNumber)
        ->type_name("P");
    command.add_option("--source", source, "only letters of this topic or file")->type_name("NAME");
    command
        .add_option("--since", since, "only letters kept at or after this time: milliseconds, or 2022-04-24T09:05Z")
        ->type_name("TIME");
    command.add_option("--until", until, "only letters kept before this time")->type_name("TIME");
  }
  Result<LetterFilter> Filter() const {
    LetterFilter filter{.reason = reason, .source = source};
    if (partition >= 0) filter.partition = static_cast<std::int32_t>(partition);
    for (const auto& [text, bound] : {std::pair(&since, &filter.since_ms), std::pair(&until, &filter.until_ms)}) {
      if (text->empty()) continue;
      FUSELINE_ASSIGN_OR_FAIL(*bound, ParseTime(*text));
    }
    for (const std::string& text : positions) {
      FUSELINE_ASSIGN_OR_FAIL(const auto position, ParsePosition(text));
      filter.positions.insert(position);
    }
    return filter;
  }
  LetterPlace Place(const v1::Config& config) const {
    return {config.kafka(), file.empty() ? config.ingest().dead_letters_file() : file};
  }
};

// Settings and filter, or why not: the part that every one of the commands begins with.
struct Question {
  v1::Config config;
  LetterFilter filter;
};
Result<Question> Ask(const LetterOptions& options) {
  Question question;
  FUSELINE_ASSIGN_OR_FAIL(question.config, options.settings.Load());
  FUSELINE_ASSIGN_OR_FAIL(question.filter, options.Filter());
  return question;
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n'; }

void WarnOf(const LetterCounts& counts) {
  if (counts.unreadable > 0)
    std::cerr << "fuseline: " << counts.unreadable << " records are no dead letters and were passed over\n";
}

// A file that is not there was named by a person; a topic that is not there, by settings that are otherwise good.
int FailToRead(const LetterOptions& options, const Status& status) {
  return options.file.empty() ? Fail(status) : FailUsage(status);
}

// --- list ---

// By how many letters have them, most first.
std::vector<std::pair<std::string, std::uint64_t>> Ranked(const std::map<std::string, std::uint64_t>& reasons) {
  std::vector<std::pair<std::string, std::uint64_t>> ranked(reasons.begin(), reasons.end());
  std::ranges::stable_sort(ranked, [](const auto& a, const auto& b) { return a.second > b.second; });
  return ranked;
}

int List(const LetterOptions& options, std::uint64_t limit) {
  const auto question = Ask(options);
  if (!question) return FailUsage(question.error());
  StopSignal stop;
  std::deque<std::string> newest;
  std::map<std::string, std::uint64_t> reasons;
  std::uint64_t letters = 0;
  const auto counts =
      ReadLetters(options.Place(question->config), question->filter, stop.token(), [&](KeptLetter&& kept) {
        ++letters;
        ++reasons[ReasonKind(kept.letter.reason)];
        newest.push_back(options.json ? LetterJson(kept) : LetterRow(kept));
        if (newest.size() > limit) newest.pop_front();
        return OkStatus();
      });
  if (!counts) return FailToRead(options, counts.error());
  WarnOf(*counts);
  for (const std::string& line : newest) std::cout << line << '\n';
  const auto ranked = Ranked(reasons);
  if (options.json) {
    Json by_reason = Json::object();
    for (const auto& [reason, count] : ranked) by_reason[reason] = count;
    std::cout << Dump({{"letters", letters},
                       {"shown", newest.size()},
                       {"repeats", counts->repeats},
                       {"unreadable", counts->unreadable},
                       {"reasons", by_reason}});
  } else {
    std::cout << letters << " letters, the newest " << newest.size() << " shown, " << counts->repeats
              << " repeats not shown\n";
    for (std::size_t i = 0; i < std::min(ranked.size(), kReasonsShown); ++i) {
      std::cout << "  " << ranked[i].second << "  " << ranked[i].first << '\n';
    }
    if (ranked.size() > kReasonsShown) std::cout << "  and " << ranked.size() - kReasonsShown << " other reasons\n";
  }
  return stop.stopped() ? kExitInterrupted : kExitOk;
}

// --- show ---

int Show(const LetterOptions& options, std::size_t bytes_max) {
  const auto question = Ask(options);
  if (!question) return FailUsage(question.error());
  StopSignal stop;
  std::uint64_t shown = 0;
  const EventLimits limits = LimitsOf(question->config.ingest());
  const auto counts =
      ReadLetters(options.Place(question->config), question->filter, stop.token(), [&](KeptLetter&& kept) {
        if (!options.json && shown > 0) std::cout << '\n';
        ++shown;
        std::cout << (options.json ? LetterPageJson(kept, limits) + '\n' : LetterPage(kept, limits, bytes_max));
        return OkStatus();
      });
  if (!counts) return FailToRead(options, counts.error());
  if (shown == 0) return Fail(ErrorStatus(Code::kNotFound, "no such dead letter:", options.positions.front()));
  return kExitOk;
}

// --- requeue ---

struct RequeueOptions : LetterOptions {
  bool all = false;
  bool execute = false;
  bool refused_too = false;
};

// Says of each letter what is, or would be, done with it, and does it.
class RequeueRun {
 public:
  RequeueRun(const RequeueOptions& options, const v1::Config& config, std::int32_t partitions)
      : options_(options), config_(config), partitions_(partitions) {}

  Status Start() {
    if (!options_.execute) return OkStatus();
    FUSELINE_ASSIGN_OR_RETURN(requeuer_, Requeuer::Open(config_));
    return OkStatus();
  }
  Status Take(const KeptLetter& kept) {
    const RequeuePlan plan = PlanRequeue(kept, config_, partitions_, clock_.wall_ms(), options_.refused_too);
    if (!plan.appends) {
      ++refused_;
      Say(kept.letter, "refused", {{"why", plan.why_not}}, plan.why_not);
      return OkStatus();
    }
    ++appends_;
    if (requeuer_ != nullptr) return requeuer_->Append(plan, kept.letter);
    const std::string where =
        plan.partition >= 0 ? "partition " + std::to_string(plan.partition) : "the partition of its key";
    Say(kept.letter, "would be appended", {{"partition", plan.partition}, {"key", plan.key}},
        "to " + where + (plan.key.empty() ? ", without a key" : ", key " + plan.key));
    return OkStatus();
  }
  int Finish() {
    std::uint64_t failed = 0;
    for (const auto& appended : requeuer_ == nullptr ? std::vector<Requeuer::Appended>() : requeuer_->Finish()) {
      const DeadLetter at{.source = "", .partition = appended.from_partition, .offset = appended.from_offset};
      failed += appended.status.ok() ? 0 : 1;
      const std::string place = std::to_string(appended.partition) + ':' + std::to_string(appended.offset);
      if (appended.status.ok()) Say(at, "appended", {{"to", place}}, "as " + place);
      if (!appended.status.ok())
        Say(at, "not known to be appended", {{"why", appended.status.message}}, appended.status.message);
    }
    if (options_.json) {
      std::cout << Dump({{"executed", options_.execute},
                         {"appends", appends_ - failed},
                         {"refused", refused_},
                         {"failed", failed}});
    } else {
      std::cout << (options_.execute ? "appended " : "dry run, --execute appends: ") << appends_ - failed
                << " letters to topic " << config_.kafka().events_topic() << ", " << refused_ << " refused, "
                << failed << " failed\n"
                << "An event that is older than its partition's stream time - lateness by now is counted late; one "
                   "that was processed meanwhile\n"
                << "is a duplicate by its id. Neither is learned from twice.\n";
    }
    return failed > 0 ? kExitUnreachable : kExitOk;
  }

 private:
  void Say(const DeadLetter& letter, const char* what, Json details, const std::string& text) {
    if (options_.json) {
      Json json = {{"position", PositionText(letter)}, {"outcome", what}};
      json.update(details);
      std::cout << Dump(json);
    } else {
      std::cout << PositionText(letter) << "  " << what << ": " << text << '\n';
    }
  }

  const RequeueOptions& options_;
  const v1::Config& config_;
  const std::int32_t partitions_;
  const SystemClock clock_;
  std::unique_ptr<Requeuer> requeuer_;
  std::uint64_t appends_ = 0, refused_ = 0;
};

int Requeue(const RequeueOptions& options) {
  const auto question = Ask(options);
  if (!question) return FailUsage(question.error());
  if (question->filter.empty() != options.all) {
    return FailUsage(
        ErrorStatus(Code::kInvalidInput, "say which letters: their PARTITION:OFFSETs, a filter, or --all alone"));
  }
  const v1::Config& config = question->config;
  const auto admin = kafka::Admin::Open(ConnectionOf(config.kafka()), config.kafka().connect_timeout_ms());
  if (!admin) return Fail(admin.error());
  if (const Status reachable = (*admin)->CheckReachable(); !reachable.ok()) return Fail(reachable);
  const auto partitions = (*admin)->PartitionCount(config.kafka().events_topic());
  if (!partitions) return Fail(partitions.error());

  StopSignal stop;
  RequeueRun run(options, config, *partitions);
  if (const Status started = run.Start(); !started.ok()) return Fail(started);
  const auto counts = ReadLetters(options.Place(config), question->filter, stop.token(),
                                  [&](KeptLetter&& kept) { return run.Take(kept); });
  const int code = run.Finish();  // Also when the reading failed: what was appended is said.
  if (!counts) return FailToRead(options, counts.error());
  WarnOf(*counts);
  return stop.stopped() ? static_cast<int>(kExitInterrupted) : code;
}

}  // namespace

void RegisterDeadLetters(Program& program) {
  CLI::App* letters =
      program.AddSubcommand("deadletters", "Look at records that could not be used, and bring them back",
                            "fuseline deadletters list --reason event_time_ms");
  letters->require_subcommand(1);

  auto listed = std::make_shared<LetterOptions>();
  auto limit = std::make_shared<std::uint64_t>(100);
  CLI::App* list =
      program.AddSubcommand("list", "Each dead letter once, with its reason, and how many there are of each reason",
                            "fuseline deadletters list --partition 3 --since 2022-04-24T09:00Z", letters);
  listed->AddTo(*list);
  listed->AddFilterTo(*list);
  list->add_option("--limit", *limit, "letters to print at most, the newest; all are counted")
      ->capture_default_str()
      ->type_name("N");
  program.SetBody(list, [listed, limit] { return List(*listed, *limit); });

  auto shown = std::make_shared<LetterOptions>();
  auto bytes = std::make_shared<std::size_t>(1024);
  CLI::App* show = program.AddSubcommand(
      "show", "One dead letter: where it was, why it is here, what the decoder says of it today, its bytes",
      "fuseline deadletters show 3:991", letters);
  shown->AddTo(*show);
  show->add_option("position", shown->positions, "PARTITION:OFFSET, as list prints it")
      ->required()
      ->type_name("P:OFFSET");
  show->add_option("--source", shown->source, "of this topic or file, if several have that position")
      ->type_name("NAME");
  show->add_option("--bytes", *bytes, "bytes to print at most")->capture_default_str()->type_name("N");
  program.SetBody(show, [shown, bytes] { return Show(*shown, *bytes); });

  auto requeued = std::make_shared<RequeueOptions>();
  CLI::App* requeue =
      program.AddSubcommand("requeue",
                            "Append the original bytes to the events topic again, each letter once; without "
                            "--execute it only says what it would do",
                            "fuseline deadletters requeue --reason 'ahead of its record' --execute", letters);
  requeued->AddTo(*requeue);
  requeued->AddFilterTo(*requeue);
  requeue->add_option("positions", requeued->positions, "PARTITION:OFFSET of the letters")->type_name("P:OFFSET");
  requeue->add_flag("--all", requeued->all, "every letter");
  requeue->add_flag("--execute", requeued->execute, "do it");
  requeue->add_flag("--refused-too", requeued->refused_too,
                    "also what would be refused again, and become a dead letter again");
  program.SetBody(requeue, [requeued] { return Requeue(*requeued); });
}

}  // namespace fuseline
