#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "command.h"
#include "fuseline/core/file.h"
#include "fuseline/core/http.h"
#include "operator_pages.h"
#include "status_json.h"
#include "stored_status.h"

namespace fuseline {
namespace {

constexpr int kAnswerPatienceMs = 2'000;

struct StatusOptions {
  SettingsOptions settings;
  bool json = false;
};

// Of a process that runs: from itself. Errors: kNotFound if none says where to ask, kUnavailable if it does not answer.
Result<std::string> AskRunning(const std::filesystem::path& state) {
  FUSELINE_ASSIGN_OR_FAIL(const std::string address, ReadFile(state / kHttpAddressFile));
  return HttpGet(address, "/status", kAnswerPatienceMs);
}

// The lock says whether a process runs: an address that a dead one left may be another's by now.
Result<std::string> StatusOf(const std::filesystem::path& state) {
  const auto stored = ReadStoredStatus(state);
  if (stored) return StatusJson(*stored, Freshness::Report(), /*running=*/false);
  if (stored.error().code != Code::kConflict) return tl::unexpected(stored.error());
  auto asked = AskRunning(state);
  return asked ? std::move(asked) : tl::unexpected(stored.error());
}

int Run(const StatusOptions& options) {
  const auto config = options.settings.Load();
  if (!config) return FailUsage(config.error());
  auto json = StatusOf(config->fuseline().state_dir());
  if (!json) return Fail(json.error());
  if (options.json) {
    std::cout << *json << '\n';
    return kExitOk;
  }
  const auto text = StatusText(*json);
  if (!text) return Fail(text.error());
  std::cout << *text;
  return kExitOk;
}

}  // namespace

void RegisterStatus(Program& program) {
  auto options = std::make_shared<StatusOptions>();
  CLI::App* status = program.AddSubcommand(
      "status", "Where it stands: next_offset, learned_through, live_version; from the running process, else from its state",
      "fuseline status --config fuseline.yaml --json");
  options->settings.AddTo(*status);
  options->settings.AddStateTo(*status);
  status->add_flag("--json", options->json, "all of it, as one line of JSON");
  program.SetBody(status, [options] { return Run(*options); });
}

}  // namespace fuseline
