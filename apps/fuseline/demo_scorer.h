#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/scorer_network.h"
#include "fuseline/simulator/rank_service.h"

namespace fuseline {

// Where a demo's task scores come from: the world ("none"), or a scorer that the loop learns and the ranker serves,
// with RMTL's weights of the losses ("rmtl") or without ("plain").
struct DemoScorerOptions {
  std::string name = "none";

  bool learns() const { return name != "none"; }
  // As --set has them, sized for a demo's minutes. All tasks of the world are learned.
  std::vector<std::string> Settings() const;
};

// What a scorer's progressive validation said of one task between two versions: each impression scored before it was
// learned from.
struct ScorerWindow {
  std::string task;
  double auc = -1, log_loss = 0;                         // Of the plain model; -1: a class is missing.
  std::optional<double> weighted_auc, weighted_log_loss; // Of the one whose losses RMTL weighs, once it is there.
};

// A scorer in a demo, told at its end.
struct DemoScorerFigures {
  std::string backbone, weights, phase;
  std::uint64_t made = 0, accepted = 0, in_use = 0;  // Versions; in_use: at the ranker, 0: none.
  std::uint64_t requests = 0, unscored = 0;          // Of these: before the ranker had a scorer.
  std::uint64_t first_version = 0, last_version = 0;  // That the archive has; 0: none.
  std::vector<ScorerWindow> first, last;              // Windows that ended with these versions.
};

// Fills first and last from an archive. Errors: of the archive.
Status ReadScorerWindows(const std::filesystem::path& archive, DemoScorerFigures* figures);

// A version of an archive, to score with. Errors: of the archive; as ScorerNetwork::Create.
Result<ScorerNetwork> OpenScorer(const std::filesystem::path& archive, std::uint64_t version);

// A ranker inside the process whose task scores are a scorer's. Borrows both.
class ScoredRankService final : public RankService {
 public:
  ScoredRankService(const ScorerNetwork& scorer, std::size_t task_count, RankService& inner)
      : scorer_(scorer), task_count_(task_count), inner_(inner) {}
  Status Rank(const RankingRequest& request, v1::Exposure* exposure) override;

 private:
  const ScorerNetwork& scorer_;
  std::size_t task_count_;
  RankService& inner_;
  ScorerWorkspace workspace_;
  std::vector<float> scores_;
  std::vector<CandidateView> candidates_;
};

// Lines of the closing table.
std::string DemoScorerText(const DemoScorerFigures& figures);

}  // namespace fuseline
