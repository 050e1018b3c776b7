#include <algorithm>
#include <filesystem>

#include "built_in_worlds.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/world_file.h"
#include "fuseline/simulator/world.h"
#include "world_kinds.h"

namespace fuseline {
namespace {

std::string NamesOf(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Result<std::unique_ptr<World>> MakeFeed(const WorldSource& source) {
  const v1::Population& population = source.file.population();
  v1::Simulator settings;
  settings.set_users(population.users());
  settings.set_items(population.items());
  settings.set_candidates(population.candidates());
  settings.set_exposed(population.exposed());
  settings.set_feedback_missing(population.feedback_missing());
  return CreateFeedWorld(settings, source.rewards, source.seed, DefaultSchema());
}

bool NeedsResponseModel(const v1::World& world) { return world.kind() != "feed" && world.kind() != "synthetic"; }

Result<std::unique_ptr<World>> Make(const WorldSource& source) {
  if (source.file.kind() == "kuairand") return CreateLogWorld(source);
  if (NeedsResponseModel(source.file)) return CreateResponseWorld(source);
  return source.file.kind() == "feed" ? MakeFeed(source) : CreateSyntheticWorld(source);
}

// A world's file, read.
struct FoundWorld {
  std::string file, text;
  v1::World settings;
  std::filesystem::path weights;  // Beside the file.
};

Result<FoundWorld> FindWorld(const std::string& name_or_path) {
  FoundWorld found{.file = name_or_path + ".yaml"};
  std::filesystem::path folder;
  if (auto built_in = BuiltInWorldText(name_or_path)) {
    found.text = *std::move(built_in);
  } else {
    if (!std::filesystem::is_regular_file(name_or_path)) {
      return Error(Code::kInvalidInput, "no world and no file of one:", name_or_path, "there are", NamesOf(BuiltInWorlds()));
    }
    found.file = name_or_path;
    folder = std::filesystem::path(name_or_path).parent_path();
    FUSELINE_ASSIGN_OR_FAIL(found.text, ReadFile(name_or_path));
  }
  FUSELINE_ASSIGN_OR_FAIL(found.settings, ReadWorldFile(found.file, found.text));
  found.weights = folder / found.settings.weights();
  return found;
}

}  // namespace

WorldFacts FactsOf(const WorldSource& source, v1::FeatureSchema schema) {
  const v1::World& file = source.file;
  WorldFacts facts;
  facts.name = source.name;
  facts.seed = source.seed;
  facts.users = static_cast<std::size_t>(file.population().users());
  facts.items = static_cast<std::size_t>(file.population().items());
  facts.candidates = static_cast<std::size_t>(file.population().candidates());
  facts.exposed = static_cast<std::size_t>(file.population().exposed());
  facts.feedback_missing = file.population().feedback_missing();
  facts.schema = std::move(schema);
  facts.policy.set_power_min(file.policy().power_min());
  facts.policy.set_power_max(file.policy().power_max());
  facts.policy.set_bias_min(file.policy().bias_min());
  facts.policy.set_bias_max(file.policy().bias_max());
  *facts.policy.mutable_static_powers() = file.policy().static_powers();
  *facts.policy.mutable_static_biases() = file.policy().static_biases();
  if (file.policy().biases() == "fixed") facts.policy.set_biases("fixed");
  return facts;
}

std::vector<std::string> BuiltInWorlds() {
  std::vector<std::string> names;
  for (const BuiltInWorld& world : BuiltInWorldFiles()) names.emplace_back(world.name);
  return names;
}

Result<std::string> BuiltInWorldText(std::string_view name) {
  for (const BuiltInWorld& world : BuiltInWorldFiles()) {
    if (world.name == name) return std::string(world.text);
  }
  return Error(Code::kNotFound, "there is no built-in world", name);
}

Result<NeededModel> ResponseModelOf(const std::string& name_or_path) {
  FUSELINE_ASSIGN_OR_FAIL(const FoundWorld found, FindWorld(name_or_path));
  return NeededModel{NeedsResponseModel(found.settings), found.weights};
}

Result<std::unique_ptr<World>> OpenWorld(const std::string& name_or_path, std::uint64_t seed, const v1::Rewards& rewards,
                                         const std::filesystem::path& response_model) {
  FUSELINE_ASSIGN_OR_FAIL(const FoundWorld found, FindWorld(name_or_path));
  const auto& weights = response_model.empty() ? found.weights : response_model;
  auto world = Make({std::filesystem::path(name_or_path).stem().string(), found.settings, seed, rewards, weights});
  if (!world) return tl::unexpected(Status{world.error().code, found.file + ": " + world.error().message});
  return world;
}

Result<std::string> WorldSha256(const std::string& name_or_path) {
  FUSELINE_ASSIGN_OR_FAIL(const FoundWorld found, FindWorld(name_or_path));
  std::string digests = Sha256Of(found.text);
  if (NeedsResponseModel(found.settings)) {
    FUSELINE_ASSIGN_OR_FAIL(const std::string weights, ReadFile(found.weights));
    digests += Sha256Of(weights);
  }
  return Sha256Of(digests);
}

}  // namespace fuseline
