#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "algorithm.h"
#include "torch/compute.h"

namespace fuseline {

// How a step's body is carried out.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  // Carries out `body`, or repeats the operations of an earlier one of the same kind; all of it is done on return.
  // `body` returns whether the next of its kind does the same operations on the same memory.
  virtual void Run(std::uint64_t kind, const std::function<bool()>& body) = 0;
};
std::unique_ptr<StepRunner> MakePlainRunner();  // Carries out every body.
// The first of a kind as it is, the second captured as a CUDA graph, which is what the others replay. Null where the
// build or the machine has no CUDA.
std::unique_ptr<StepRunner> MakeCudaGraphRunner();

// An update over memory that stays, without a look at a value on the way: what a CUDA graph can repeat.
//
// An ordinary step asks of each loss whether it is finite, and writes beside what it changes. Here what is not finite
// lowers a flag on the device, and at the end all of the state is what it was if the flag is down. Batches come into
// buffers that stay, and what the step says of itself is read once, when it has ended. Thread-compatible.
class FixedStep {
 public:
  // `state`: everything that a step may change; counts: of the parts whose Adam needs one.
  FixedStep(std::unique_ptr<StepRunner> runner, std::vector<at::Tensor> state, std::size_t parts);

  struct Outcome {
    bool sound = true;  // Else the state is what it was.
    StepFigures figures;
    std::vector<std::size_t> moved;  // Parts.
  };
  // REQUIRES: `critics` and `actor` (which may be the same) of the shapes of the first run, but that `actor` may be
  // empty; `counts` of each part.
  Outcome Run(std::uint64_t kind, const TransitionBatch& critics, const TransitionBatch& actor,
              const std::vector<double>& counts, const std::function<void(StepFigures& figures)>& body);

  // What follows is for the body. A batch that was handed to Run, on the device.
  const DeviceBatch& Input(const TransitionBatch& batch) const { return &batch == critics_host_ ? critics_ : actor_; }
  at::Tensor Count(std::size_t part) const { return counts_.select(0, Size(part)); }
  void Moved(std::size_t part) { now_->outcome.moved.push_back(part); }
  void Require(const at::Tensor& sound) { sound_ = sound_.logical_and(sound); }  // One truth value.
  // `to` is in the figures that the body was given.
  void Tell(const at::Tensor& value, double* to) {
    now_->told.push_back({value.detach().to(at::kDouble).reshape({1}), to, nullptr});
  }
  void Tell(const at::Tensor& values, std::vector<float>* to) {
    now_->told.push_back({values.detach().to(at::kDouble).flatten(), nullptr, to});
  }
  void DoneOnce() { repeats_ = false; }  // The next body of this kind will do otherwise.

 private:
  struct Told {
    at::Tensor values;
    double* number;
    std::vector<float>* numbers;
  };
  struct Kind {
    Outcome outcome;
    std::vector<Told> told;
    at::Tensor said;  // Whether it was sound, then what was told, one after another.
  };

  const std::unique_ptr<StepRunner> runner_;
  const std::vector<at::Tensor> state_;
  std::vector<at::Tensor> before_;
  at::Tensor counts_, sound_;
  const TransitionBatch* critics_host_ = nullptr;
  DeviceBatch critics_, actor_;
  std::map<std::uint64_t, Kind> kinds_;
  Kind* now_ = nullptr;
  bool repeats_ = true;
};

}  // namespace fuseline
