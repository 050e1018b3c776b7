#include "scorer_case.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "fuseline/core/file.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/fusion/weights_file.h"
#include "measure.h"

namespace fuseline::bench {
namespace {

// These rows of `all`.
ScorerBatch Take(const ScorerBatch& all, std::span<const std::size_t> which) {
  ScorerBatch batch;
  batch.size = which.size();
  const auto take = [&](const auto& from, auto& into) {
    const std::size_t width = from.size() / all.size;
    for (const std::size_t row : which) {
      const auto begin = from.begin() + static_cast<std::ptrdiff_t>(row * width);
      into.insert(into.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
    }
  };
  take(all.ids, batch.ids);
  take(all.dense, batch.dense);
  take(all.labels, batch.labels);
  take(all.weights, batch.weights);
  return batch;
}

template <typename Values>
Tensor Table(const Values& values, std::size_t rows) {
  return {{static_cast<std::uint32_t>(rows), static_cast<std::uint32_t>(values.size() / rows)},
          {values.begin(), values.end()}};
}

}  // namespace

ScorerCase::ScorerCase(const ScorerWork& work, double dropout) : work_(work) {
  v1::Config config = work.config;
  config.mutable_scorer()->set_dropout(dropout);
  model_ = Must(CreateScorerModel(config, work.shape, work.tasks));
  first_weights_ = model_->Weights();
}

const ScorerBatch& ScorerCase::NextBatch() {
  const std::size_t batches = work_.batches(), epoch = step_ / batches;
  const bool is_another = batches_.empty() || (work_.order.size() > 1 && step_ % batches == 0);
  if (is_another) {
    batches_.clear();
    const std::span<const std::size_t> order = work_.order[epoch % work_.order.size()];
    for (std::size_t at = 0; at < order.size(); at += work_.batch())
      batches_.push_back(Take(work_.rows, order.subspan(at, std::min(work_.batch(), order.size() - at))));
  }
  return batches_[step_++ % batches];
}

ScorerStep ScorerCase::Step() {
  const ScorerBatch& batch = NextBatch();
  return Must(model_->Step(batch, step_));
}

void ScorerCase::LookAhead(const ScorerBatch& batch) {
  if (!critics_) critics_ = Must(CreateScorerCritics(work_.config, work_.shape, work_.tasks));
  const ScorerBatch& next = batches_[step_ % batches_.size()];
  transitions_ = {.at = batch,
                  .next = next,
                  .action = Must(model_->Predict(batch)),
                  .next_action = Must(model_->Predict(next)),
                  .reward = {},
                  .terminated = std::vector<float>(batch.size, 0)};
  for (std::size_t i = 0; i < batch.labels.size(); ++i) {
    const float p = transitions_.action[i], label = batch.labels[i];
    transitions_.reward.push_back(label * std::log(p) + (1 - label) * std::log(1 - p));
  }
}

double ScorerCase::CriticStep() {
  if (transitions_.at.size == 0) LookAhead(NextBatch());  // The same again and again: it costs what any does.
  return Must(critics_->Step(transitions_));
}

void ScorerCase::WeightedStep() {
  ScorerBatch batch = NextBatch();
  batch.weights = Must(critics_->Values(batch, Must(model_->Predict(batch))));
  for (float& q : batch.weights) q = 1 - static_cast<float>(work_.config.scorer().lambda()) * q;
  Must(model_->Step(batch, step_));
}

double ScorerCase::ValidationLoss() const {
  constexpr std::size_t kRows = 1'024;
  double sum = 0;
  std::vector<std::size_t> which;
  for (std::size_t begin = work_.train_end; begin < work_.rows.size; begin += which.size()) {
    which.resize(std::min(kRows, work_.rows.size - begin));
    std::iota(which.begin(), which.end(), begin);
    const ScorerBatch batch = Take(work_.rows, which);
    const std::vector<float> scores = Must(model_->Predict(batch));
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const double p = scores[i], label = batch.labels[i];
      sum -= label * std::log(std::max(p, 1e-7)) + (1 - label) * std::log(std::max(1 - p, 1e-7));
    }
  }
  return sum / static_cast<double>((work_.rows.size - work_.train_end) * work_.tasks);
}

double ScorerCase::flops() const {
  const std::size_t embedded = static_cast<std::size_t>(work_.shape.buckets_size()) * work_.shape.embedding_width();
  const std::size_t input = embedded + ScorerNumbers(work_.shape, work_.tasks);
  double sum = 0;
  for (const auto& [name, tensor] : first_weights_) {
    if (!name.ends_with(".weight")) continue;
    const std::size_t members = tensor.shape[0], out = tensor.shape[1], in = tensor.shape[2];
    sum += static_cast<double>(members * out * (2 * in + (in == input ? embedded : in)));
  }
  return 2 * static_cast<double>(work_.batch()) * sum;
}

void ScorerCase::Write(const std::filesystem::path& folder) const {
  const v1::Scorer& settings = work_.config.scorer();
  const ScorerSizes sizes = SizesOf(settings);
  const nlohmann::json description{{"backbone", settings.backbone()},
                                   {"tasks", work_.tasks},
                                   {"fields", work_.shape.buckets_size()},
                                   {"numbers", ScorerNumbers(work_.shape, work_.tasks)},
                                   {"table_rows", work_.table_rows()},
                                   {"embedding_width", sizes.embedding_width},
                                   {"bottom", sizes.bottom},
                                   {"tower", sizes.tower},
                                   {"experts", sizes.experts},
                                   {"task_experts", sizes.task_experts},
                                   {"batch", work_.batch()},
                                   {"train_end", work_.train_end},
                                   {"rate", settings.rate()},
                                   {"embedding_rate", settings.embedding_rate()},
                                   {"embedding_decay", sizes.embedding_decay},
                                   {"dropout", work_.dropout}};
  TensorMap first = first_weights_;  // Embeddings begin at 0, and no row of them was moved.
  std::erase_if(first, [](const auto& one) { return one.first.starts_with("embedding"); });
  std::vector<float> order;
  for (const auto& epoch : work_.order) order.insert(order.end(), epoch.begin(), epoch.end());
  const TensorMap rows{{"ids", Table(work_.rows.ids, work_.rows.size)},  // Exact below 2^24.
                       {"dense", Table(work_.rows.dense, work_.rows.size)},
                       {"labels", Table(work_.rows.labels, work_.rows.size)},
                       {"order", Table(order, work_.order.size())}};
  Must(WriteFileAtomically(folder / "case.json", description.dump(1)));
  Must(WriteFileAtomically(folder / "first.safetensors", EncodeWeights(first)));
  Must(WriteFileAtomically(folder / "rows.safetensors", EncodeWeights(rows)));
}

}  // namespace fuseline::bench
