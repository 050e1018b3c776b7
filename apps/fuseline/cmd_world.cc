#include <cstdio>
#include <iostream>
#include <memory>

#include "command.h"
#include "fuseline/proto/world_file.h"
#include "fuseline/simulator/world.h"
#include "kuairand_folder.h"
#include "response_fitting.h"

namespace fuseline {
namespace {

struct FitOptions {
  KuaiRandFolder log;
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

int RunFit(FitOptions options) {
  options.fit.files = options.log.files();
  const auto fitted = FitResponseModelTo(options.out, options.fit);
  if (!fitted) return Fail(fitted.error());
  const ResponseFitReport& report = *fitted;
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
  options->log.AddTo(*fit, "folder of KuaiRand's log and side tables")->required();
  fit->add_option("--out", options->out, "the weights file")->required()->type_name("FILE");
  fit->add_option("--epochs", options->fit.epochs, "passes over the rows")->check(CLI::Range(1, 1000))->capture_default_str();
  fit->add_option("--seed", options->fit.seed, "seed of weights and order")->capture_default_str();
  fit->add_option("--users-max", options->fit.users_max, "users kept, those with the most rows")->check(CLI::PositiveNumber)->capture_default_str();
  fit->add_option("--items-max", options->fit.items_max, "videos kept, those with the most rows")->check(CLI::PositiveNumber)->capture_default_str();
  program.SetBody(fit, [options] { return RunFit(*options); });
}

}  // namespace fuseline
