#include "demo_world.h"

#include <cstdio>

#include "fuseline/proto/settings.h"
#include "response_fitting.h"

namespace fuseline {
namespace {

Status FitInto(const std::filesystem::path& file, const DemoWorldOptions& options) {
  const std::string log = options.log.files().log.string();
  std::fprintf(stderr, "demo: fitting what the users of %s do to %s\n", options.name.c_str(), log.c_str());
  FUSELINE_ASSIGN_OR_RETURN(const ResponseFitReport report, FitResponseModelTo(file, {.files = options.log.files()}));
  std::fprintf(stderr, "demo: fitted to %zu rows; on %zu later ones AUC of click %.3f, long view %.3f\n",
               report.train_rows, report.validation_rows, report.auc[0], report.auc[kResponseTasks - 1]);
  return OkStatus();
}

// A scorer of no tasks that --set names learns all that the world has.
void NameAllTasks(const v1::FeatureSchema& schema, v1::Config* config) {
  if (!config->scorer().learn() || !config->scorer().tasks().empty()) return;
  std::string names;
  for (const auto& task : schema.tasks()) names += (names.empty() ? "" : ",") + task.name();
  config->mutable_scorer()->set_tasks(names);
}

}  // namespace

void DemoWorldOptions::AddTo(CLI::App& subcommand) {
  subcommand
      .add_option("--world", name, "a world of `fuseline world list`, or a YAML file of one; without: feed, sized by simulator.*")
      ->type_name("NAME_OR_FILE");
  CLI::Option* model =
      subcommand.add_option("--response-model", response_model, "for worlds that need one: a file of `fuseline world fit`");
  model->type_name("FILE");
  log.AddTo(subcommand, "or else the folder of KuaiRand's log, to fit one to first")->excludes(model);
}

Status CheckDemoWorld(const DemoWorldOptions& options) {
  NeededModel model;
  if (!options.name.empty()) {
    FUSELINE_ASSIGN_OR_RETURN(model, ResponseModelOf(options.name));
  }
  const bool named = !options.response_model.empty() || !options.log.data.empty();
  if (!model.needed) {
    if (!named) return OkStatus();
    return ErrorStatus(Code::kInvalidInput,
                       "--data and --response-model are for worlds that need a response model, as --world kuairand");
  }
  if (!options.log.data.empty()) {
    const KuaiRandFiles files = options.log.files();
    for (const auto& file : {files.log, files.users, files.videos}) {
      if (!std::filesystem::exists(file)) return ErrorStatus(Code::kNotFound, "--data has no file", file.string());
    }
    return OkStatus();
  }
  const std::filesystem::path file =
      options.response_model.empty() ? model.file : std::filesystem::path(options.response_model);
  if (std::filesystem::exists(file)) return OkStatus();
  return ErrorStatus(Code::kNotFound, "the world " + options.name + " needs a response model, and there is no " +
                                          file.string() + "; --data FOLDER fits one to KuaiRand's log, " +
                                          "--response-model FILE takes one of `fuseline world fit`");
}

Result<std::unique_ptr<World>> OpenDemoWorld(const DemoWorldOptions& options, const std::filesystem::path& folder,
                                             v1::Config* config) {
  if (options.name.empty()) {
    NameAllTasks(SchemaOf(*config), config);
    return CreateFeedWorld(config->simulator(), config->rewards(), config->fuseline().seed(), SchemaOf(*config));
  }
  std::filesystem::path model = options.response_model;
  if (!options.log.data.empty()) {
    model = folder / "response_model.safetensors";
    FUSELINE_FAIL_IF_ERROR(FitInto(model, options));
  }
  FUSELINE_ASSIGN_OR_FAIL(auto world, OpenWorld(options.name, config->fuseline().seed(), config->rewards(), model));
  *config = SettingsFor(*world, std::move(*config));
  NameAllTasks(world->schema(), config);
  return world;
}

}  // namespace fuseline
