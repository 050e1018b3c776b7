#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algorithm.h"
#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/scorer.pb.h"

namespace fuseline {

// One batch of impressions on the host: ids with rare ones already replaced, dense values normalised.
struct ScorerBatch {
  std::size_t size = 0;
  std::vector<std::uint32_t> ids;  // [n, F]
  std::vector<float> dense;        // [n, W]
  std::vector<float> labels;       // [n, K]
  std::vector<float> weights;      // [n, K]; every loss multiplies by it.
};

struct ScorerStep {
  std::vector<double> loss;  // Of each task, before the step: mean binary cross-entropy, unweighted.
  bool undone = false;       // Something was not finite: everything is as before.
};

// The port behind which a backbone hides its networks, embeddings and optimisers, and LibTorch. Thread-compatible.
// A function of its parameters, the batches and the step number alone.
class ScorerModel {
 public:
  virtual ~ScorerModel() = default;

  // One step of Adam down  sum_k mean_n weights[n, k] BCE[n, k].
  virtual Result<ScorerStep> Step(const ScorerBatch& batch, std::uint64_t step) = 0;
  virtual Result<std::vector<float>> Predict(const ScorerBatch& batch) const = 0;  // Probabilities [n, K].

  // The weights of a version, by name; Load begins with them, as if no step had been taken. Errors: kCorrupt.
  virtual TensorMap Weights() const = 0;
  virtual Status Load(const TensorMap& weights) = 0;

  // Everything that a restart needs, exactly. Errors of Restore: kCorrupt.
  virtual TensorMap Save() const = 0;
  virtual Status Restore(const TensorMap& tensors) = 0;

  virtual const ComputeFacts& facts() const = 0;
};

// Steps within sessions: impression, prediction as the action, its reward, and the session's next impression.
struct CriticBatch {
  ScorerBatch at, next;
  std::vector<float> action, next_action;  // [n, K]: predictions of the frozen backbone.
  std::vector<float> reward;               // [n, K]: minus the binary cross-entropy of that same prediction.
  std::vector<float> terminated;           // [n]; 1: no next impression, and `next` is not looked at.
};

// RMTL's critics, one a task: Q_k(s, a_k) <= 0, what the task's losses of the rest of the session sum up to, negated.
class ScorerCritics {
 public:
  virtual ~ScorerCritics() = default;
  virtual Result<double> Step(const CriticBatch& batch) = 0;  // Mean |TD error| before the step; NaN: undone.
  // Q of actions [n, K] → [n, K].
  virtual Result<std::vector<float>> Values(const ScorerBatch& batch, const std::vector<float>& action) const = 0;
  virtual TensorMap Save() const = 0;
  virtual Status Restore(const TensorMap& tensors) = 0;
};

// Sizes with presets resolved.
struct ScorerSizes {
  std::int64_t embedding_width = 0, experts = 0, task_experts = 0, batch = 0;
  std::vector<std::int64_t> bottom, tower, critic_hidden;
  double embedding_decay = 0, dropout = 0;
};
ScorerSizes SizesOf(const v1::Scorer& settings);

// Errors: kInvalidInput for a backbone that is not among ScorerBackbones() (which it lists), or where there is no
// LibTorch.
Result<std::unique_ptr<ScorerModel>> CreateScorerModel(const v1::Config& config, const v1::ScorerShape& shape, std::size_t tasks);
Result<std::unique_ptr<ScorerCritics>> CreateScorerCritics(const v1::Config& config, const v1::ScorerShape& shape, std::size_t tasks);

// The parts that need LibTorch enter themselves; the rest of the room does not name them.
struct ScorerParts {
  Result<std::unique_ptr<ScorerModel>> (*model)(const v1::Config&, const v1::ScorerShape&, std::size_t tasks) = nullptr;
  Result<std::unique_ptr<ScorerCritics>> (*critics)(const v1::Config&, const v1::ScorerShape&, std::size_t tasks) = nullptr;
  std::vector<std::string> (*backbones)() = nullptr;
};
class ScorerRegistrar {
 public:
  explicit ScorerRegistrar(const ScorerParts& parts);
};

}  // namespace fuseline
