#include <cstdio>
#include <iostream>
#include <memory>

#include "command.h"
#include "fuseline/core/clock.h"
#include "fuseline/core/file.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/proto/settings.h"
#include "fuseline/proto/world_file.h"
#include "fuseline/response_model/fit.h"
#include "fuseline/simulator/world.h"
#include "progress_line.h"

namespace fuseline {
namespace {

struct FitOptions {
  std::string data, log = "log_w1.csv.gz", users = "user_features_pure.csv.gz", videos = "video_features_basic_pure.csv.gz";
  std::string out;
  ResponseFitOptions fit;
};

int RunList() {
  for (const std::string& name : BuiltInWorlds()) {
    const auto file = ReadWorldFile(name + ".yaml", *BuiltInWorldText(name));
    if (!file) return Fail(file.error());
    std::printf("%-18s %s\n", name.c_str(), file->about().c_str());
  }
  return kExitOk;
}

int RunShow(const std::string& name) {
  const auto text = BuiltInWorldText(name);
  if (!text) return FailUsage(ErrorStatus(Code::kInvalidInput, text.error().message + "; `fuseline world list` names them"));
  std::cout << *text;
  return kExitOk;
}

ProgressFunction ShowFitting(ProgressLine& line, const Clock& clock) {
  return [&line, &clock, phase = std::string(), begin_us = std::int64_t{0}](const ImportProgress& progress) mutable {
    if (phase != progress.phase) {
      phase = progress.phase;
      begin_us = clock.monotonic_us();
    }
    if (!line.due()) return;
    const double elapsed_s = std::max(static_cast<double>(clock.monotonic_us() - begin_us) / 1e6, 1e-3);
    const auto done = static_cast<double>(progress.done), total = static_cast<double>(progress.total);
    line.Show(phase + "  " + std::to_string(progress.done) + " rows  " + RateText(done / elapsed_s) + " rows/s  ETA " +
              EtaText(done, total, elapsed_s));
  };
}

int RunFit(FitOptions options) {
  const std::filesystem::path folder = options.data;
  options.fit.files = {folder / options.log, folder / options.users, folder / options.videos};
  const SystemClock clock;
  ResponseFitReport report;
  const auto tensors = [&] {
    ProgressLine line;
    return FitResponseModel(options.fit, ShowFitting(line, clock), &report);
  }();
  if (!tensors) return Fail(tensors.error());
  if (const Status status = WriteFileAtomically(options.out, EncodeWeights(*tensors)); !status.ok()) return Fail(status);
  std::printf("%-24s %12zu\n%-24s %12zu\n", "rows to learn from", report.train_rows, "later rows to judge by", report.validation_rows);
  for (std::size_t t = 0; t < kResponseTasks; ++t) {
    std::printf("AUC %-20s ", kResponseTaskNames[t]);
    report.auc[t] < 0 ? std::printf("%12s\n", "one class")
                      : std::printf("%12.3f  (%llu positives)\n", report.auc[t], static_cast<unsigned long long>(report.positives[t]));
  }
  std::printf("%-24s %12.3f  (%.3f without a model)\n", "log watch, rms error", report.watch_error, report.watch_spread);
  std::printf("%-24s %12s\n", "written", options.out.c_str());
  return kExitOk;
}

}  // namespace

void RegisterWorld(Program& program) {
  CLI::App* world = program.AddSubcommand("world", "Simulated worlds: which there are, and the response model of three of them",
                                          "fuseline world list");
  world->require_subcommand(1);
  CLI::App* list = program.AddSubcommand("list", "The built-in worlds", "fuseline world list", world);
  program.SetBody(list, [] { return RunList(); });

  auto name = std::make_shared<std::string>();
  CLI::App* show = program.AddSubcommand("show", "The file of a built-in world, to copy and change", "fuseline world show synthetic", world);
  show->add_option("name", *name, "name of the world")->required();
  program.SetBody(show, [name] { return RunShow(*name); });

  auto options = std::make_shared<FitOptions>();
  CLI::App* fit = program.AddSubcommand("fit", "Fit the response model of the worlds xmtf, kuaisim and kuairand to KuaiRand's log",
                                        "fuseline world fit --data kuairand --out response_model.safetensors", world);
  fit->add_option("--data", options->data, "folder of KuaiRand's log and side tables")->required()->type_name("DIR");
  fit->add_option("--out", options->out, "the weights file")->required()->type_name("FILE");
  fit->add_option("--log", options->log, "the log in that folder")->capture_default_str();
  fit->add_option("--users", options->users, "the user features in that folder")->capture_default_str();
  fit->add_option("--videos", options->videos, "the video features in that folder")->capture_default_str();
  fit->add_option("--epochs", options->fit.epochs, "passes over the rows")->check(CLI::Range(1, 1000))->capture_default_str();
  fit->add_option("--seed", options->fit.seed, "seed of weights and order")->capture_default_str();
  fit->add_option("--users-max", options->fit.users_max, "users kept, those with the most rows")->check(CLI::PositiveNumber)->capture_default_str();
  fit->add_option("--items-max", options->fit.items_max, "videos kept, those with the most rows")->check(CLI::PositiveNumber)->capture_default_str();
  program.SetBody(fit, [options] { return RunFit(*options); });
}

}  // namespace fuseline
