#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/v1/scorer.pb.h"
#include "scorer_data.h"

namespace fuseline {

// Figures by task, on the test days.
using TaskTable = std::map<std::string, TaskFigures>;

// What one training of one scorer came to. `frozen`: by the weights that training ended with; `progressive`: each
// impression is scored, then learned from as soon as its outcome is known.
struct ScorerResult {
  std::string backbone, weights;
  std::uint64_t seed = 0;
  std::string settings_sha256, input_sha256, weights_sha256, build;  // Hex.
  std::uint64_t steps = 0;             // To the weights that were kept.
  double validation_loss = 0;
  double impressions_per_s = 0;        // Of the training; informs.
  TaskTable frozen, progressive;
};
std::string ResultJson(const ScorerResult& result);
Result<ScorerResult> ReadResultJson(const std::string& file, const std::string& text);  // Errors: kCorrupt.

// A scorer's folder, made by one training:
//   manifest.pb           PolicyManifest, canonical bytes      weights.safetensors  its weights
//   result.json           ScorerResult                         checkpoint           ScorerCheckpoint, then its SHA-256; while it trains
using ScorerProgressFunction = std::function<void(const ScorerTraining&, std::string_view doing)>;

// Trains, or goes on where a checkpoint in `folder` stands, judges, and writes the folder. A folder that holds the
// result of the same settings, impressions and build is left as it is.
// Errors: kConflict for a folder of other settings or rows; kUnavailable when stopped (a checkpoint holds all) or
// the disk fails.
Result<ScorerResult> RunScorer(const v1::Config& config, const ScorerFields& fields, const ScorerData& data,
                               const std::string& input, const std::filesystem::path& folder,
                               const ScorerProgressFunction& progress, const std::stop_token& stop);

// A version from such a folder. Errors: kNotFound; kCorrupt.
Result<PolicyVersion> ReadScorer(const std::filesystem::path& folder);

TaskTable TableOf(const std::vector<std::string>& tasks, const std::vector<TaskFigures>& figures);

}  // namespace fuseline
