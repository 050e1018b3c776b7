#include "demo_scorer.h"

#include <array>
#include <cstdio>
#include <iomanip>
#include <sstream>

#include "fuseline/fusion/weights_file.h"
#include "fuseline/policy_store/archive.h"

namespace fuseline {
namespace {

std::vector<ScorerWindow> WindowsOf(const v1::PolicyManifest& manifest) {
  const auto metric = [&](const std::string& name) -> std::optional<double> {
    const auto found = manifest.metrics().find(name);
    return found == manifest.metrics().end() ? std::nullopt : std::optional(found->second);
  };
  std::vector<ScorerWindow> windows;
  for (const std::string& task : manifest.scorer().tasks()) {
    windows.push_back({.task = task,
                       .auc = metric("plain.auc." + task).value_or(-1),
                       .log_loss = metric("plain.log_loss." + task).value_or(0),
                       .weighted_auc = metric("weighted.auc." + task),
                       .weighted_log_loss = metric("weighted.log_loss." + task)});
  }
  return windows;
}

std::string Number(const std::optional<double>& value, double none) {
  if (!value || *value == none) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", *value);
  return text;
}

}  // namespace

std::vector<std::string> DemoScorerOptions::Settings() const {
  if (!learns()) return {};
  // Ids are few; versions come every 13,000 impressions or so, and RMTL's phases within the first minute.
  return {"scorer.learn=true",
          "scorer.tasks=",
          "scorer.weights=" + std::string(name == "rmtl" ? "linear" : "none"),
          "scorer.user_buckets=8192",
          "scorer.item_buckets=8192",
          "scorer.version_every_steps=50",
          "learner.version_every_steps=400",
          "policy_store.keep_versions=1000",  // The table looks at the first.
          "ranker.scorer=live"};
}

Result<ScorerNetwork> OpenScorer(const std::filesystem::path& archive, std::uint64_t version) {
  DiskFileSystem files;
  FUSELINE_ASSIGN_OR_FAIL(const ArchivedVersion found, Archive::OpenReadOnly(archive, files).Get(version));
  FUSELINE_ASSIGN_OR_FAIL(const TensorMap tensors, DecodeWeights(found.version.weights));
  return ScorerNetwork::Create(found.version.manifest, tensors);
}

Status ReadScorerWindows(const std::filesystem::path& archive, DemoScorerFigures* figures) {
  DiskFileSystem files;
  const Archive versions = Archive::OpenReadOnly(archive, files);
  FUSELINE_ASSIGN_OR_RETURN(const auto numbers, versions.List());
  if (numbers.empty()) return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion first, versions.Get(numbers.front()));
  FUSELINE_ASSIGN_OR_RETURN(const ArchivedVersion last, versions.Get(numbers.back()));
  figures->first_version = numbers.front();
  figures->last_version = numbers.back();
  figures->first = WindowsOf(first.version.manifest);
  figures->last = WindowsOf(last.version.manifest);
  return OkStatus();
}

Status ScoredRankService::Rank(const RankingRequest& request, v1::Exposure* exposure) {
  scores_.resize(request.candidates.size() * task_count_);
  FUSELINE_RETURN_IF_ERROR(scorer_.Score(request.user, request.context, request.user_id, request.candidates,
                                         request.item_ids, workspace_, scores_));
  candidates_.assign(request.candidates.begin(), request.candidates.end());
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    candidates_[i].task_scores = std::span(scores_).subspan(i * task_count_, task_count_);
  }
  RankingRequest scored = request;
  scored.candidates = candidates_;
  return inner_.Rank(scored, exposure);
}

std::string DemoScorerText(const DemoScorerFigures& figures) {
  std::ostringstream out;
  out << "scorer        " << figures.backbone << ", weights of the losses: " << figures.weights << "; versions made "
      << figures.made << ", accepted " << figures.accepted << ", in use at the end: " << figures.in_use
      << "; phase at the end: " << figures.phase << '\n';
  out << "              " << figures.unscored << " of " << figures.requests
      << " requests came before its first version: every task at its minimum, candidates shown as they come\n";
  if (figures.first_version == 0) return out.str();
  const auto add_row = [&out](const std::array<std::string, 7>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      out << (i == 0 ? "  " : " ") << std::setw(12) << (i == 0 ? std::left : std::right) << cells[i];
    }
    out << '\n';
  };
  out << "  scored before learned from, in the windows that ended with versions " << figures.first_version << " and "
      << figures.last_version << "; weighted: the model whose losses RMTL's critics weigh\n";
  add_row({"task", "AUC, first", "log loss", "AUC, last", "log loss", "weighted", "log loss"});
  for (std::size_t k = 0; k < figures.last.size() && k < figures.first.size(); ++k) {
    const ScorerWindow &begin = figures.first[k], &end = figures.last[k];
    add_row({end.task, Number(begin.auc, -1), Number(begin.log_loss, 0), Number(end.auc, -1), Number(end.log_loss, 0),
             Number(end.weighted_auc, -1), Number(end.weighted_log_loss, 0)});
  }
  return out.str();
}

}  // namespace fuseline
