#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/comparison/run_record.h"
#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// One run of a comparison.
struct RunName {
  std::string algorithm;
  std::uint64_t seed = 0;

  std::string text() const { return algorithm + ":" + std::to_string(seed); }
};

// "enhanced_rl:3". Errors: kInvalidInput.
Result<RunName> ParseRunName(const std::string& text);

// "5": 1 to 5; "101-103"; "1,4,7". Errors: kInvalidInput, also for a seed named twice or more than 1,000.
Result<std::vector<std::uint64_t>> ParseSeeds(const std::string& text);

// What a comparison is: which runs, with which settings, into which folder.
//
//   FOLDER/runs/ALGORITHM-SEED.json   one finished run each, put there whole
//   FOLDER/work/ALGORITHM-SEED/       of the runs under way
//   FOLDER/comparison.md, runs.csv, curves.csv, curves.svg, gap_closed.svg
struct ComparisonPlan {
  std::string world;                    // Name or path.
  std::vector<std::string> algorithms;  // As asked for.
  std::vector<std::uint64_t> seeds;
  std::uint64_t sessions = 0, points = 0;
  std::filesystem::path folder;
  std::string build;                    // Of this program: runs of two builds are not mixed.
  v1::Config config;                    // Of every run; algorithm, seed and the world's schema are put in per run.

  // Hex SHA-256 of all that shapes a run but its algorithm and seed: the world's text, settings, sessions, points, build.
  // Errors: as the world's.
  Result<std::string> SettingsDigestOfRuns() const;

  std::vector<RunName> Runs() const;  // Seed by seed, so that an interrupted comparison compares.
  std::filesystem::path FileOf(const RunName& run) const;
  std::filesystem::path WorkOf(const RunName& run) const;

  // The settings of one run, without the world's.
  v1::Config ConfigOf(const RunName& run) const;

  // The finished run, if its file is there. Errors: kConflict if it was made from other settings; kCorrupt if it cannot be read.
  // Both name the file.
  Result<std::optional<RunRecord>> Finished(const RunName& run, const std::string& digest) const;
};

}  // namespace fuseline
