#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>

#include <map>

#include "torch/scorer/backbone.h"

namespace fuseline {
namespace {

using Parts = std::vector<at::Tensor>;
using Widths = std::vector<std::int64_t>;

Widths Joined(std::int64_t first, const Widths& middle, const Widths& last = {}) {
  Widths widths{first};
  widths.insert(widths.end(), middle.begin(), middle.end());
  widths.insert(widths.end(), last.begin(), last.end());
  return widths;
}

at::Tensor Row(const BackboneInput& input) { return at::cat({input.embedded.flatten(1), input.dense}, 1); }

// logits [n, K]
LogScores FromLogits(const at::Tensor& logits) { return {at::log_sigmoid(logits), at::log_sigmoid(-logits)}; }

// One tower a task.
class Towers {
 public:
  Towers(NetworkSet& networks, std::int64_t tasks, std::int64_t in, const Widths& hidden) {
    for (std::int64_t k = 0; k < tasks; ++k) numbers_.push_back(networks.Add("tower_" + std::to_string(k), 1, Joined(in, hidden, {1})));
  }
  // of(k) [n, in] → logits [n, K]
  template <typename Of>
  at::Tensor Forward(const NetworkSet& networks, const Parts& parts, Of&& of) const {
    std::vector<at::Tensor> logits;
    for (std::size_t k = 0; k < numbers_.size(); ++k) logits.push_back(networks.Forward(parts, numbers_[k], of(k)).view({-1}));
    return at::stack(logits, 1);
  }

 private:
  std::vector<std::size_t> numbers_;
};

// experts [X, n, H] mixed by softmax of gates [n, X] → [n, H]
at::Tensor Mixed(const at::Tensor& experts, const at::Tensor& gates) {
  return at::bmm(at::softmax(gates, -1).unsqueeze(1), experts.transpose(0, 1)).squeeze(1);
}

// Embeddings and networks of its own for each task: nothing is shared.
class SingleTask final : public Backbone {
 public:
  SingleTask(const BackboneShape& shape, const DenseKernels* kernels)
      : Backbone(kernels), width_(shape.sizes.embedding_width), sets_(shape.tasks) {
    const Widths top = Joined(shape.input(), shape.sizes.bottom, shape.sizes.tower);
    for (std::int64_t k = 0; k < sets_; ++k) networks_.Add("task_" + std::to_string(k), 1, Joined(top[0], {top.begin() + 1, top.end()}, {1}));
  }
  std::int64_t embedding_sets() const override { return sets_; }
  LogScores Forward(const Parts& parts, const BackboneInput& input, const Dropout& dropout) const override {
    std::vector<at::Tensor> logits;
    for (std::int64_t k = 0; k < sets_; ++k) {
      const at::Tensor x = Row({input.embedded.narrow(2, k * width_, width_), input.dense});
      logits.push_back(networks_.Forward(parts, static_cast<std::size_t>(k), dropout(x)).view({-1}));
    }
    return FromLogits(at::stack(logits, 1));
  }

 private:
  std::int64_t width_, sets_;
};

class SharedBottom final : public Backbone {
 public:
  SharedBottom(const BackboneShape& shape, const DenseKernels* kernels)
      : Backbone(kernels),
        bottom_(networks_.Add("bottom", 1, Joined(shape.input(), shape.sizes.bottom))),
        towers_(networks_, shape.tasks, shape.sizes.bottom.back(), shape.sizes.tower) {}
  LogScores Forward(const Parts& parts, const BackboneInput& input, const Dropout& dropout) const override {
    const at::Tensor shared = dropout(networks_.Forward(parts, bottom_, dropout(Row(input)))[0].relu());
    return FromLogits(towers_.Forward(networks_, parts, [&](std::size_t) { return shared; }));
  }

 private:
  std::size_t bottom_;
  Towers towers_;
};

// The first task's probability, and of each other task its probability given the first: what is learned and served
// of it is their product, over all impressions.
class Esmm final : public Backbone {
 public:
  Esmm(const BackboneShape& shape, const DenseKernels* kernels) : Backbone(kernels), tasks_(shape.tasks) {
    Widths widths = Joined(shape.input(), shape.sizes.bottom, shape.sizes.tower);
    widths.push_back(1);
    networks_.Add("task", tasks_, widths);
  }
  LogScores Forward(const Parts& parts, const BackboneInput& input, const Dropout& dropout) const override {
    const at::Tensor logits = networks_.Forward(parts, 0, dropout(Row(input))).squeeze(2).t();
    const LogScores own = FromLogits(logits);
    if (tasks_ == 1) return own;
    const at::Tensor first = own.hit.narrow(1, 0, 1), others = own.hit.narrow(1, 1, tasks_ - 1);
    // 1 - p q = (1 - p) + p (1 - q)
    const at::Tensor miss = at::logaddexp(own.miss.narrow(1, 0, 1), first + own.miss.narrow(1, 1, tasks_ - 1));
    return {at::cat({first, first + others}, 1), at::cat({own.miss.narrow(1, 0, 1), miss}, 1)};
  }

 private:
  std::int64_t tasks_;
};

class Mmoe final : public Backbone {
 public:
  Mmoe(const BackboneShape& shape, const DenseKernels* kernels)
      : Backbone(kernels),
        experts_(networks_.Add("experts", shape.sizes.experts, Joined(shape.input(), shape.sizes.bottom))),
        gates_(networks_.Add("gates", shape.tasks, {shape.input(), shape.sizes.experts})),
        towers_(networks_, shape.tasks, shape.sizes.bottom.back(), shape.sizes.tower) {}
  LogScores Forward(const Parts& parts, const BackboneInput& input, const Dropout& dropout) const override {
    const at::Tensor x = dropout(Row(input));
    const at::Tensor experts = networks_.Forward(parts, experts_, x).relu(), gates = networks_.Forward(parts, gates_, x);
    return FromLogits(towers_.Forward(networks_, parts, [&](std::size_t k) {
      return dropout(Mixed(experts, gates[static_cast<std::int64_t>(k)]));
    }));
  }

 private:
  std::size_t experts_, gates_;
  Towers towers_;
};

// Progressive layered extraction: in each level every task has experts of its own beside shared ones, and a gate
// over both; the shared stream's gate, in all levels but the last, is over all experts.
class Ple final : public Backbone {
 public:
  Ple(const BackboneShape& shape, const DenseKernels* kernels)
      : Backbone(kernels), tasks_(shape.tasks), levels_(AddLevels(shape)),
        towers_(networks_, shape.tasks, shape.sizes.bottom.back(), shape.sizes.tower) {}
  LogScores Forward(const Parts& parts, const BackboneInput& input, const Dropout& dropout) const override {
    at::Tensor shared = dropout(Row(input));
    std::vector<at::Tensor> own(static_cast<std::size_t>(tasks_), shared);
    for (const Level& level : levels_) {
      std::vector<at::Tensor> experts, next;
      for (std::size_t k = 0; k < own.size(); ++k) experts.push_back(networks_.Forward(parts, level.own[k], own[k]).relu());
      experts.push_back(networks_.Forward(parts, level.shared, shared).relu());
      for (std::size_t k = 0; k < own.size(); ++k) {
        next.push_back(Mixed(at::cat({experts[k], experts.back()}), networks_.Forward(parts, level.gates[k], own[k])[0]));
      }
      if (&level != &levels_.back()) shared = Mixed(at::cat(experts), networks_.Forward(parts, level.shared_gate, shared)[0]);
      own = std::move(next);
    }
    return FromLogits(towers_.Forward(networks_, parts, [&](std::size_t k) { return dropout(own[k]); }));
  }

 private:
  struct Level {
    std::vector<std::size_t> own, gates;
    std::size_t shared = 0, shared_gate = 0;
  };
  std::vector<Level> AddLevels(const BackboneShape& shape) {
    std::vector<Level> levels;
    const auto& sizes = shape.sizes;
    std::int64_t in = shape.input();
    for (std::size_t l = 0; l < sizes.bottom.size(); ++l) {
      const std::string name = "level_" + std::to_string(l);
      Level level;
      for (std::int64_t k = 0; k < tasks_; ++k) {
        const std::string task = name + ".task_" + std::to_string(k);
        level.own.push_back(networks_.Add(task + ".experts", sizes.task_experts, {in, sizes.bottom[l]}));
        level.gates.push_back(networks_.Add(task + ".gate", 1, {in, sizes.task_experts + sizes.experts}));
      }
      level.shared = networks_.Add(name + ".experts", sizes.experts, {in, sizes.bottom[l]});
      if (l + 1 < sizes.bottom.size()) {
        level.shared_gate = networks_.Add(name + ".gate", 1, {in, tasks_ * sizes.task_experts + sizes.experts});
      }
      levels.push_back(std::move(level));
      in = sizes.bottom[l];
    }
    return levels;
  }

  std::int64_t tasks_;
  std::vector<Level> levels_;
  Towers towers_;
};

template <typename Kind>
std::unique_ptr<Backbone> Make(const BackboneShape& shape, const DenseKernels* kernels) {
  return std::make_unique<Kind>(shape, kernels);
}

using Maker = std::unique_ptr<Backbone> (*)(const BackboneShape&, const DenseKernels*);
const std::map<std::string, Maker> kBackbones = {
    {"esmm", Make<Esmm>}, {"mmoe", Make<Mmoe>}, {"ple", Make<Ple>}, {"shared_bottom", Make<SharedBottom>}, {"single_task", Make<SingleTask>}};

at::Tensor Losses(const LogScores& scores, const at::Tensor& labels) { return -(labels * scores.hit + (1 - labels) * scores.miss); }

}  // namespace

std::vector<std::string> BackboneNames() {
  std::vector<std::string> names;
  for (const auto& [name, maker] : kBackbones) names.push_back(name);
  return names;
}

std::unique_ptr<Backbone> MakeBackbone(const std::string& name, const BackboneShape& shape, const DenseKernels* kernels) {
  return kBackbones.at(name)(shape, kernels);
}

at::Tensor WeightedLoss(const LogScores& scores, const at::Tensor& labels, const at::Tensor& weights) {
  return (weights * Losses(scores, labels)).mean(0).sum();
}

at::Tensor TaskLosses(const LogScores& scores, const at::Tensor& labels) { return Losses(scores, labels).mean(0); }

}  // namespace fuseline
