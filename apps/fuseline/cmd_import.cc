#include <array>
#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>

#include <unistd.h>

#include "command.h"
#include "progress_line.h"
#include "scorer_data.h"

#include "fuseline/core/file.h"
#include "fuseline/datasets/event_writer.h"
#include "fuseline/datasets/kuairand.h"

namespace fuseline {
namespace {

constexpr std::array<const char*, kKuaiRandBinaryTasks> kTaskNames = {"click", "long_view", "like", "comment", "forward"};

struct ImportOptions {
  KuaiRandFiles files;
  KuaiRandOptions reading;
  std::filesystem::path out, config_out, scorer;
  bool dry_run = false;
  bool json = false;
};

// Shows the phase at hand on a terminal; elsewhere progress is noise.
ProgressFunction ShowProgress() {
  if (::isatty(STDERR_FILENO) == 0) return {};
  struct Shown {
    ProgressLine line;
    std::string phase;
    std::chrono::steady_clock::time_point begin;
  };
  auto shown = std::make_shared<Shown>();
  return [shown](const ImportProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    if (shown->phase != progress.phase) {
      shown->phase = progress.phase;
      shown->begin = now;
    }
    if (!shown->line.due()) return;
    const double elapsed_s = std::chrono::duration<double>(now - shown->begin).count();
    std::ostringstream text;
    text << "import: " << progress.phase << ' ' << progress.done;
    if (progress.total > 0) text << " of " << progress.total;
    if (elapsed_s > 0) text << ", " << RateText(static_cast<double>(progress.done) / elapsed_s) << "/s";
    if (progress.total > 0) {
      text << ", " << EtaText(static_cast<double>(progress.done), static_cast<double>(progress.total), elapsed_s) << " left";
    }
    shown->line.Show(text.str());
  };
}

void PrintJson(const KuaiRandSummary& summary) {
  std::cout << R"({"rows":)" << summary.rows << R"(,"bad_rows":)" << summary.bad_rows << R"(,"duplicate_rows":)"
            << summary.duplicate_rows << R"(,"rows_of_the_scorer":)" << summary.rows_of_the_scorer << R"(,"events":)" << summary.events << R"(,"duplicate_events":)"
            << summary.duplicate_events << R"(,"users":)" << summary.users << R"(,"items":)" << summary.items
            << R"(,"users_without_features":)" << summary.users_without_features << R"(,"items_without_features":)"
            << summary.items_without_features << R"(,"first_ms":)" << summary.first_ms << R"(,"last_ms":)"
            << summary.last_ms << R"(,"events_by_kind":{)";
  const char* separator = "";
  for (const auto& [kind, count] : summary.events_by_kind) {
    std::cout << std::exchange(separator, ",") << '"' << kind << "\":" << count;
  }
  std::cout << R"(},"auc_days":)" << summary.auc_days << R"(,"auc":{)";
  separator = "";
  for (std::size_t t = 0; t < summary.auc.size(); ++t) {
    std::cout << std::exchange(separator, ",") << '"' << kTaskNames[t] << "\":" << summary.auc[t];
  }
  std::cout << "}}\n";
}

void PrintRow(const std::string& name, const std::string& value) {
  std::cout << std::left << std::setw(24) << name << std::right << std::setw(16) << value << '\n';
}

void PrintTable(const KuaiRandSummary& summary) {
  PrintRow("rows", std::to_string(summary.rows));
  PrintRow("  bad, left out", std::to_string(summary.bad_rows));
  PrintRow("  duplicate", std::to_string(summary.duplicate_rows));
  if (summary.rows_of_the_scorer > 0) PrintRow("  learned by the scorer", std::to_string(summary.rows_of_the_scorer));
  PrintRow("users", std::to_string(summary.users));
  PrintRow("  without features", std::to_string(summary.users_without_features));
  PrintRow("items", std::to_string(summary.items));
  PrintRow("  without features", std::to_string(summary.items_without_features));
  PrintRow("first event (ms)", std::to_string(summary.first_ms));
  PrintRow("last event (ms)", std::to_string(summary.last_ms));
  PrintRow("events", std::to_string(summary.events));
  for (const auto& [kind, count] : summary.events_by_kind) PrintRow("  " + kind, std::to_string(count));
  PrintRow("  duplicate, of all", std::to_string(summary.duplicate_events));
  for (std::size_t t = 0; t < summary.auc.size(); ++t) {
    std::ostringstream value;
    value << std::fixed << std::setprecision(3) << summary.auc[t];
    PrintRow("AUC " + std::string(kTaskNames[t]) + ", last " + std::to_string(summary.auc_days) + " d",
             summary.auc[t] < 0 ? "one class" : value.str());
  }
}

// What is wrong with the output is known before the log is read.
Result<std::optional<EventWriter>> OpenOutput(const ImportOptions& options) {
  if (options.dry_run) return std::optional<EventWriter>();
  FUSELINE_ASSIGN_OR_FAIL(auto writer, EventWriter::Open(options.out));
  return std::optional<EventWriter>(std::move(writer));
}

int RunImportKuaiRand(ImportOptions options) {
  if (!options.scorer.empty()) {
    auto scorer = OpenKuaiRandScorer(options.scorer);
    if (!scorer) return scorer.error().code == Code::kCorrupt ? Fail(scorer.error()) : FailUsage(scorer.error());
    options.reading.scorer = *std::move(scorer);
  }
  auto writer = OpenOutput(options);
  if (!writer) return FailUsage(writer.error());
  const auto emit = [&](const v1::Event& event) { return *writer ? (*writer)->Write(event) : OkStatus(); };
  const auto summary = ImportKuaiRand(options.files, options.reading, emit, ShowProgress());
  if (!summary) return Fail(summary.error());
  if (*writer) {
    if (const Status status = (*writer)->Finish(); !status.ok()) return Fail(status);
  }
  if (!options.config_out.empty() && !options.dry_run) {
    if (const Status status = WriteFileAtomically(options.config_out, KuaiRandSettings()); !status.ok()) return Fail(status);
  }
  for (const auto& report : summary->bad_row_reports) std::cerr << "fuseline: row left out: " << report << '\n';
  options.json ? PrintJson(*summary) : PrintTable(*summary);
  return kExitOk;
}

}  // namespace

void RegisterImport(Program& program) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* import = program.AddSubcommand("import", "Turn a public log into events", "fuseline import kuairand --help");
  import->require_subcommand(1);
  CLI::App* kuairand = program.AddSubcommand(
      "kuairand", "KuaiRand's log of impressions, with task scores from the past only",
      "fuseline import kuairand --log log.csv.gz --users users.csv.gz --videos videos.csv.gz --out events.jsonl.zst",
      import);
  kuairand->add_option("--log", options->files.log, "impressions, CSV or CSV.gz")->required();
  kuairand->add_option("--users", options->files.users, "user features, CSV or CSV.gz")->required();
  kuairand->add_option("--videos", options->files.videos, "video features, CSV or CSV.gz")->required();
  auto* out = kuairand->add_option("--out", options->out, "events: .jsonl, .jsonl.gz, .jsonl.zst or .pb");
  kuairand->add_option("--config-out", options->config_out, "settings that fit these events, YAML");
  kuairand->add_option("--scorer", options->scorer, "folder of a scorer that train-scorer made: its scores, of rows later than it learned from")
      ->type_name("DIR");
  kuairand->add_flag("--skip-bad-rows", options->reading.skip_bad_rows, "leave bad rows out and report them");
  kuairand->add_flag("--json", options->json, "print the summary as one JSON line");
  auto* dry_run = kuairand->add_flag("--dry-run", options->dry_run, "read and count, write nothing");
  program.SetBody(kuairand, [options, out, dry_run] {
    if (out->count() == 0 && dry_run->count() == 0) {
      return FailUsage(ErrorStatus(Code::kInvalidInput, "--out is required without --dry-run"));
    }
    return RunImportKuaiRand(*options);
  });
}

}  // namespace fuseline
