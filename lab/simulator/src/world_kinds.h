#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "fuseline/simulator/world.h"
#include "fuseline/v1/world.pb.h"

namespace fuseline {

// What OpenWorld hands to the kinds.
struct WorldSource {
  std::string name;
  v1::World file;
  std::uint64_t seed = 0;
  v1::Rewards rewards;
  std::filesystem::path weights;  // The file's `weights`, resolved.
};

// The facts that a world file states.
WorldFacts FactsOf(const WorldSource& source, v1::FeatureSchema schema);

// The world with a known optimum. Errors: kInvalidInput as CheckFacts, for a list without one value per task, best powers or
// biases outside policy's ranges, or a negative weight among the rewards that are earned here (the optimum would be another).
Result<std::unique_ptr<World>> CreateSyntheticWorld(const WorldSource& source);

// Whole sessions on a response model (response_model.h), which is also the scorer: kinds xmtf and kuaisim.
// Errors: kNotFound without the weights file, naming the command that makes it; as ResponseModel::Create; as CheckFacts; kInvalidInput for
// more users or items than the model holds.
Result<std::unique_ptr<World>> CreateResponseWorld(const WorldSource& source);

// Whole sessions on a response model, of the log's own users and items, with its features and tasks: kind kuairand. Errors: the same;
// kInvalidInput for a file without the log's part.
Result<std::unique_ptr<World>> CreateLogWorld(const WorldSource& source);

}  // namespace fuseline
