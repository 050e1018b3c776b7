#include <cmath>
#include <iostream>
#include <memory>
#include <string>

#include "command.h"
#include "csv_evaluation.h"

namespace fuseline {
namespace {

int Print(const Result<std::string>& json) {
  if (!json) return json.error().code == Code::kNotFound ? FailUsage(json.error()) : Fail(json.error());
  std::cout << *json << '\n';
  return kExitOk;
}

}  // namespace

void RegisterEvaluate(Program& program) {
  CLI::App* evaluate = program.AddSubcommand("evaluate", "Judge policies and scores by what was logged",
                                             "fuseline evaluate ope decisions.csv --clip 10");
  evaluate->require_subcommand(1);
  constexpr const char* kFileHelp = "CSV with a header, columns in any order, plain or .gz; - is standard input";

  struct OpeOptions {
    std::string file;
    double clip = 10;
  };
  auto ope_options = std::make_shared<OpeOptions>();
  CLI::App* ope = program.AddSubcommand(
      "ope",
      "Estimate from logged decisions what another policy would earn: importance sampling and doubly robust, with 95 % intervals.\n"
      "Columns: reward,behaviour_density,target_density[,q_logged,v_target]. Exit 4 names the first bad line.",
      "fuseline evaluate ope decisions.csv --clip 10\n  zcat decisions.csv.gz | fuseline evaluate ope -", evaluate);
  ope->add_option("file", ope_options->file, kFileHelp)->required()->type_name("FILE");
  ope->add_option("--clip", ope_options->clip, "largest density ratio of clipped_ips")->capture_default_str();
  program.SetBody(ope, [options = ope_options] {
    if (!std::isfinite(options->clip) || options->clip <= 0)
      return FailUsage(ErrorStatus(Code::kInvalidInput, "--clip must be a finite number above zero"));
    return Print(OpeJson(options->file, options->clip));
  });

  auto gauc_file = std::make_shared<std::string>();
  CLI::App* gauc = program.AddSubcommand(
      "gauc",
      "How well a score orders what users liked: weighted AUC, pooled and by user, ties one half.\n"
      "Columns: user,label,score[,weight]; label 0 or 1. Users with one class are skipped. Exit 4 names the first bad line.",
      "fuseline evaluate gauc scores.csv", evaluate);
  gauc->add_option("file", *gauc_file, kFileHelp)->required()->type_name("FILE");
  RegisterEvaluatePolicy(program, evaluate);
  program.SetBody(gauc, [gauc_file] { return Print(GaucJson(*gauc_file)); });
}

}  // namespace fuseline
