#include <algorithm>

#include "fuseline/core/check.h"
#include "fuseline/learner/scorer.h"
#include "scorer/scorer_model.h"

namespace fuseline {
namespace {

// What enters itself before main, as algorithms do; nothing changes it afterwards.
ScorerParts& Parts() {
  static ScorerParts parts;
  return parts;
}

}  // namespace

ScorerRegistrar::ScorerRegistrar(const ScorerParts& parts) {
  ScorerParts& known = Parts();
  FUSELINE_CHECK(known.model == nullptr || parts.model == nullptr);
  FUSELINE_CHECK(known.critics == nullptr || parts.critics == nullptr);
  if (parts.model != nullptr) known.model = parts.model;
  if (parts.critics != nullptr) known.critics = parts.critics;
  if (parts.backbones != nullptr) known.backbones = parts.backbones;
}

std::vector<std::string> ScorerBackbones() {
  return Parts().backbones == nullptr ? std::vector<std::string>() : Parts().backbones();
}

Status CheckScorerBackbone(const std::string& name) {
  const auto known = ScorerBackbones();
  if (std::ranges::find(known, name) != known.end()) return OkStatus();
  std::string names;
  for (const std::string& one : known) names += (names.empty() ? "" : ", ") + one;
  if (names.empty()) return ErrorStatus(Code::kInvalidInput, "a scorer needs a build with LibTorch");
  return ErrorStatus(Code::kInvalidInput, "scorer.backbone is none of " + names + ':', name);
}

Result<std::unique_ptr<ScorerModel>> CreateScorerModel(const v1::Config& config, const v1::ScorerShape& shape, std::size_t tasks) {
  FUSELINE_FAIL_IF_ERROR(CheckScorerBackbone(config.scorer().backbone()));
  return Parts().model(config, shape, tasks);
}

Result<std::unique_ptr<ScorerCritics>> CreateScorerCritics(const v1::Config& config, const v1::ScorerShape& shape, std::size_t tasks) {
  if (Parts().critics == nullptr) return Error(Code::kInvalidInput, "a scorer's critics need a build with LibTorch");
  return Parts().critics(config, shape, tasks);
}

ScorerSizes SizesOf(const v1::Scorer& settings) {
  const bool paper = settings.preset() == "paper";
  ScorerSizes sizes = paper ? ScorerSizes{128, 8, 8, 2048, {512, 256}, {128, 64}, {512, 256, 128, 64}, 0, 0.2}
                            : ScorerSizes{16, 4, 2, 256, {64, 32}, {16}, {64, 32, 16}, 0, 0.2};
  const auto take = [](const auto& widths, std::vector<std::int64_t>& into) {
    if (!widths.empty()) into.assign(widths.begin(), widths.end());
  };
  take(settings.bottom(), sizes.bottom);
  take(settings.tower(), sizes.tower);
  take(settings.critic_hidden(), sizes.critic_hidden);
  if (settings.embedding_width() > 0) sizes.embedding_width = settings.embedding_width();
  if (settings.experts() > 0) sizes.experts = settings.experts();
  if (settings.task_experts() > 0) sizes.task_experts = settings.task_experts();
  if (settings.batch() > 0) sizes.batch = settings.batch();
  if (settings.embedding_decay() >= 0) sizes.embedding_decay = settings.embedding_decay();
  if (settings.dropout() >= 0) sizes.dropout = settings.dropout();
  return sizes;
}

}  // namespace fuseline
