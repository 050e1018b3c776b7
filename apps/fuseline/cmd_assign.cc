#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "command.h"

#include "fuseline/rollout/assignment.h"

namespace fuseline {
namespace {

struct AssignOptions {
  std::string salt;
  std::vector<double> weights;
  double coverage = 1;
  std::int64_t hash_version = 2;
  std::vector<std::string> users;
};

void Print(std::string_view user, double bucket, int arm) {
  nlohmann::ordered_json line;
  line["user"] = user;
  line["bucket"] = bucket;
  line["arm"] = arm;
  std::cout << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

int Assign(const AssignOptions& options) {
  const auto version = HashVersionOf(options.hash_version);
  if (!version) return FailUsage(version.error());
  const auto ranges = BucketRangesOf(options.weights, options.coverage);
  if (!ranges) return FailUsage(ranges.error());
  const auto assign = [&](std::string_view user) {
    const double bucket = BucketOf(user, options.salt, *version);
    Print(user, bucket, ArmOfBucket(bucket, *ranges));
  };
  for (const std::string& user : options.users) {
    if (user.empty()) return FailUsage(ErrorStatus(Code::kInvalidInput, "a user id is empty"));
  }
  for (const std::string& user : options.users) assign(user);
  if (!options.users.empty()) return kExitOk;
  for (std::string user; std::getline(std::cin, user);) {
    if (!user.empty()) assign(user);
  }
  return kExitOk;
}

}  // namespace

void RegisterAssign(Program& program) {
  auto options = std::make_shared<AssignOptions>();
  CLI::App* assign = program.AddSubcommand(
      "assign", "Which arm users would be in, by GrowthBook's rules: a JSON line each; arm -1: not in the experiment",
      "fuseline assign --salt checkout --weights 0.5,0.5 --coverage 0.1 u1 u2\n  cut -f1 users.tsv | fuseline assign --salt checkout --weights 0.5,0.5");
  assign->add_option("users", options->users, "user ids; none: one a line from standard input")->type_name("USER");
  assign->add_option("--salt", options->salt, "the experiment's salt (GrowthBook: seed)")->required();
  assign->add_option("--weights", options->weights, "a weight for each arm; they sum to 1")
      ->required()
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("W,W…");
  assign->add_option("--coverage", options->coverage, "share of each arm's range that is in the experiment")->capture_default_str();
  assign->add_option("--hash-version", options->hash_version, "GrowthBook's hash: 2, or 1 for experiments begun with it")->capture_default_str();
  program.SetBody(assign, [options] { return Assign(*options); });
}

}  // namespace fuseline
