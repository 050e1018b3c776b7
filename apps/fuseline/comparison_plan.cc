#include "comparison_plan.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"
#include "fuseline/proto/schema.h"
#include "fuseline/proto/settings.h"
#include "fuseline/simulator/world.h"

namespace fuseline {
namespace {

constexpr std::uint64_t kMostSeeds = 1'000;
constexpr std::uint64_t kMostCounted = 50;  // A larger number alone is a seed that somebody meant, not a count.

std::optional<std::uint64_t> ParseNumber(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::vector<std::string> SplitAt(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

// The YAML of a world: what it is, to the byte.
}  // namespace

Result<RunName> ParseRunName(const std::string& text) {
  const auto colon = text.rfind(':');
  const auto seed = colon == std::string::npos ? std::nullopt : ParseNumber(std::string_view(text).substr(colon + 1));
  if (!seed || colon == 0) return Error(Code::kInvalidInput, "--run wants ALGORITHM:SEED, not", text);
  return RunName{text.substr(0, colon), *seed};
}

Result<std::vector<std::uint64_t>> ParseSeeds(const std::string& text) {
  std::set<std::uint64_t> seeds;
  const auto parts = SplitAt(text, ',');
  for (const std::string& part : parts) {
    const auto ends = SplitAt(part, '-');
    const auto last = ParseNumber(ends.back());
    const bool counts = parts.size() == 1 && ends.size() == 1;
    if (counts && last && *last > kMostCounted) {
      return Error(Code::kInvalidInput, "--seeds", text, "would be all of 1 to that; for this seed alone say", text + "-" + text);
    }
    const auto first = ends.size() == 2 ? ParseNumber(ends.front()) : counts ? 1 : last;
    if (!first || !last || ends.size() > 2 || *first > *last || *last - *first >= kMostSeeds || *last == 0) {
      return Error(Code::kInvalidInput, "--seeds wants a number up to 50 (5: 1 to 5), a range (101-105) or a list (1,4,7), not", text);
    }
    for (std::uint64_t seed = *first; seed <= *last; ++seed) {
      if (!seeds.insert(seed).second) return Error(Code::kInvalidInput, "--seeds names a seed twice:", seed);
    }
  }
  return std::vector(seeds.begin(), seeds.end());
}

Result<std::string> ComparisonPlan::SettingsDigestOfRuns() const {
  FUSELINE_ASSIGN_OR_FAIL(const std::string world_sha256, WorldSha256(world));
  v1::Config neutral = ConfigOf({"", 0});
  neutral.clear_fuseline();
  const std::string sizes = std::to_string(sessions) + " " + std::to_string(points);
  return ToHex(Sha256Of(world_sha256 + "\n" + SettingsDigest(neutral) + "\n" + CanonicalBytes(config.ranker()) + "\n" + sizes + "\n" +
                        build));
}

std::vector<RunName> ComparisonPlan::Runs() const {
  std::vector<RunName> runs;
  for (const std::uint64_t seed : seeds) {
    for (const std::string& algorithm : algorithms) runs.push_back({algorithm, seed});
  }
  return runs;
}

std::filesystem::path ComparisonPlan::FileOf(const RunName& run) const {
  return folder / "runs" / (run.algorithm + "-" + std::to_string(run.seed) + ".json");
}

std::filesystem::path ComparisonPlan::WorkOf(const RunName& run) const {
  return folder / "work" / (run.algorithm + "-" + std::to_string(run.seed));
}

v1::Config ComparisonPlan::ConfigOf(const RunName& run) const {
  v1::Config run_config = config;
  run_config.mutable_learner()->set_algorithm(run.algorithm);
  run_config.mutable_fuseline()->set_seed(run.seed);
  run_config.mutable_fuseline()->set_state_dir(WorkOf(run).string());
  return run_config;
}

Result<std::optional<RunRecord>> ComparisonPlan::Finished(const RunName& run, const std::string& digest) const {
  const auto file = FileOf(run);
  const auto bytes = ReadFile(file);
  if (!bytes && bytes.error().code == Code::kNotFound) return std::nullopt;
  if (!bytes) return tl::unexpected(bytes.error());
  auto record = ParseRunRecord(*bytes);
  if (!record) return Error(record.error().code, record.error().message, "in", file.string());
  if (record->settings_digest != digest || record->algorithm != run.algorithm || record->seed != run.seed) {
    return Error(Code::kConflict, "run", file.string(), "was made from other settings, another world or another build;",
                 "take another folder with --out, or delete it");
  }
  return *std::move(record);
}

}  // namespace fuseline
