#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "algorithm.h"
#include "fuseline/fusion/normaliser.h"
#include "replay_buffer.h"
#include "transition_builder.h"

namespace fuseline::bench {

// EnhancedRL with its default settings, one preset and batch size, on sessions of the default schema (50 state columns,
// 10 actions, 5 items a request, 4 requests a session): from their serialised bytes to updates. One seed, so every run
// sees the same.
class LearnerCase {
 public:
  LearnerCase(const std::string& preset, std::int64_t batch, std::int64_t threads,
              const std::string& precision = "float32");

  const std::string& name() const { return name_; }
  Algorithm& algorithm() { return *algorithm_; }

  // Multiply-adds of one step's matrix products, times two. Counted is what the mathematics needs, for each pair of a
  // state and an item: critics 1 forward pass for the target, 1 forward, 1 by weights and 1 by inputs for their own
  // update, 1 forward and 1 by inputs (down to the action's columns) for the actor's; actor 1 for the target, and
  // forward, by weights and by inputs. No first layer's gradient by states.
  double flops() const;
  // The layers that one member passes, as [rows, in, out].
  struct Shape {
    std::int64_t rows, in, out;
  };
  std::vector<Shape> shapes() const;

  StepFigures Step();  // The next update, by the batches in turn.

  // Sessions' bytes → transitions in the buffer, so many; and the two batches of one update.
  void Ingest(std::size_t transitions);
  void Sample();

  // What the PyTorch peer reads: settings, the algorithm as it stands, its batches. And the losses that ours has from
  // there: critics' and actor's of each step in turn. REQUIRES: at least one step was made.
  void Write(const std::filesystem::path& folder, std::int64_t threads) const;
  std::vector<double> Losses(std::size_t steps);

 private:
  struct Batches {
    TransitionBatch critics, actor;
  };

  std::string name_;
  v1::Config config_;
  TransitionBuilder builder_;
  Normaliser normaliser_;
  RewardSpec rewards_;
  ReplayBuffer replay_;
  std::vector<std::string> sessions_;  // Serialised trajectories.
  std::size_t next_session_ = 0;
  std::unique_ptr<Algorithm> algorithm_;
  std::vector<Batches> batches_;
  TransitionBatch critics_, actor_;
  std::uint64_t step_ = 0, sampled_ = 0;
};

}  // namespace fuseline::bench
