#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/scorer.pb.h"
#include "scorer/scorer_model.h"

namespace fuseline::bench {

// Impressions for one backbone and preset, in the order in which they are learned from.
struct ScorerWork {
  v1::Config config;  // Dropout 0,
  double dropout = 0;  // where the preset has this.
  v1::ScorerShape shape;
  std::size_t tasks = 0, train_end = 0;
  ScorerBatch rows;                             // [0, train_end) are learned from, those behind are looked at.
  std::vector<std::vector<std::size_t>> order;  // Of each epoch.

  std::size_t batch() const { return static_cast<std::size_t>(SizesOf(config.scorer()).batch); }
  std::size_t batches() const { return (train_end + batch() - 1) / batch(); }  // Of an epoch.
  std::size_t table_rows() const;
};

// Made up in the shape of KuaiRand's: its features, default tables, click and long view; users and items by
// zipf(1.0), labels that follow from both. table_rows > 0: so many rows, nearly all of them users'. One seed.
ScorerWork MadeUpWork(const std::string& backbone, const std::string& preset, std::size_t batches,
                      std::size_t table_rows = 0);

// KuaiRand's own log in `folder`, divided, counted and shuffled as `fuseline train-scorer` does it.
ScorerWork KuaiRandWork(const std::string& backbone, const std::string& preset, const std::filesystem::path& folder,
                        std::size_t epochs);

// A model and what it learns from. Thread-compatible.
class ScorerCase {
 public:
  ScorerCase(const ScorerWork& work, double dropout);  // `work` is borrowed.

  // Multiply-adds of one step's products, times two: forward, by weights and by inputs, of first layers by the
  // embeddings alone.
  double flops() const;

  ScorerStep Step();  // The next.
  double ValidationLoss() const;  // Mean over tasks.

  // RMTL's other two, on the batches that Step takes: a step of its critics, and of the model with the weights that
  // they say.
  double CriticStep();
  void WeightedStep();

  // What the PyTorch peer reads: sizes, first weights, impressions and their order.
  void Write(const std::filesystem::path& folder) const;

 private:
  const ScorerBatch& NextBatch();
  void LookAhead(const ScorerBatch& batch);

  const ScorerWork& work_;
  std::unique_ptr<ScorerModel> model_;
  std::unique_ptr<ScorerCritics> critics_;  // Null until asked for.
  CriticBatch transitions_;
  TensorMap first_weights_;
  std::vector<ScorerBatch> batches_;  // Of the epoch at hand.
  std::uint64_t step_ = 0;
};

}  // namespace fuseline::bench
