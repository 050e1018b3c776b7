#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "event_text.h"

#include "fuseline/core/check.h"
#include "fuseline/ingest/file_source.h"

namespace fuseline {
namespace {

struct EventsCheckOptions {
  SettingsOptions settings;
  std::vector<std::string> files;
  std::int64_t errors_shown = 10;
};

// Prints the first records that are refused, and keeps none.
class RefusalPrinter final : public DeadLetterSink {
 public:
  explicit RefusalPrinter(std::int64_t most) : most_(most) {}

  Status Write(DeadLetter&& letter) override {
    if (++written_ <= most_) std::cerr << letter.source << ':' << letter.line << ": " << letter.reason << '\n';
    return OkStatus();
  }
  Status Flush(std::int64_t) override { return OkStatus(); }
  std::int64_t hidden() const { return written_ > most_ ? written_ - most_ : 0; }

 private:
  const std::int64_t most_;
  std::int64_t written_ = 0;
};

struct EventCounts {
  std::int64_t records = 0, exposures = 0, feedback = 0, control = 0, malformed = 0;
  std::map<std::int32_t, std::int64_t> of_kind;
  v1::Feedback parsed;

  void Add(const Record& record) {
    ++records;
    if (record.fate != RecordFate::kEvent) {
      ++malformed;
      return;
    }
    switch (record.event.kind) {
      case EventView::Kind::kExposure: ++exposures; break;
      case EventView::Kind::kFeedback: AddFeedback(record.event.body); break;
      case EventView::Kind::kControl: ++control; break;
    }
  }

  void AddFeedback(std::string_view body) {
    FUSELINE_CHECK(parsed.ParseFromArray(body.data(), static_cast<int>(body.size())));
    ++feedback;
    ++of_kind[parsed.kind()];
  }

  void Print() const {
    std::cout << "records " << records << "\nexposure " << exposures << "\nfeedback " << feedback << '\n';
    for (const auto& [kind, count] : of_kind) {
      std::cout << "  " << KindText(kind) << ' ' << count << '\n';
    }
    std::cout << "control " << control << "\nmalformed " << malformed << '\n';
  }
};

int CheckEvents(const EventsCheckOptions& options) {
  const auto config = options.settings.Load();
  if (!config) return FailUsage(config.error());
  RefusalPrinter refusals(options.errors_shown);
  const auto source = FileSource::Open(FileSourceOptionsOf(config->ingest(), options.files), &refusals);
  if (!source) return FailUsage(source.error());

  EventCounts counts;
  while (!(*source)->finished()) {
    const auto batch = (*source)->Next(/*timeout_ms=*/0);
    if (!batch) return Fail(batch.error());
    if (!*batch) continue;
    for (const auto& record : (*batch)->records) counts.Add(record);
  }
  if (refusals.hidden() > 0) std::cerr << "and " << refusals.hidden() << " more; --errors shows more of them\n";
  counts.Print();
  return counts.malformed == 0 ? kExitOk : kExitInvalidData;
}

}  // namespace

void RegisterEvents(Program& program) {
  CLI::App* events = program.AddSubcommand("events", "Look at files of events", "fuseline events check events.jsonl.gz");
  events->require_subcommand(1);

  auto options = std::make_shared<EventsCheckOptions>();
  CLI::App* check = program.AddSubcommand(
      "check", "Read events as the pipeline would, count them, and say which are malformed and why; exit 4 if any is",
      "fuseline events check events.jsonl.gz more.pb\n  ./my_producer --dry-run | fuseline events check -", events);
  check->add_option("files", options->files, "JSON lines or length-delimited .pb, plain, .gz or .zst; - is standard input")
      ->required()
      ->type_name("FILE");
  check->add_option("--errors", options->errors_shown, "malformed records to print at most")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  options->settings.AddTo(*check);
  program.SetBody(check, [options] { return CheckEvents(*options); });
}

}  // namespace fuseline
