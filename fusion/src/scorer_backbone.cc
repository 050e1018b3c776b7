#include "scorer_backbone.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace fuseline {
namespace {

using Widths = std::vector<std::uint32_t>;

// What all backbones are made with.
struct Making {
  const v1::ScorerForm& form;
  const std::uint32_t inputs;
  const InputSplit& split;
  const TensorMap& tensors;
  const DenseKernel& kernel;
  SpacePlan& plan;

  std::size_t tasks() const { return static_cast<std::size_t>(form.tasks_size()); }
  Widths bottom() const { return {form.shape().bottom().begin(), form.shape().bottom().end()}; }
  Widths tower() const { return {form.shape().tower().begin(), form.shape().tower().end()}; }

  Result<MemberNet> OfInput(const std::string& name, std::size_t members, Widths hidden, Activation last) const {
    hidden.insert(hidden.begin(), inputs);
    return MemberNet::Create(name, members, hidden, last, &split, tensors, kernel, plan);
  }
  Result<MemberNet> Behind(const std::string& name, std::size_t members, const Widths& widths, Activation last) const {
    return MemberNet::Create(name, members, widths, last, nullptr, tensors, kernel, plan);
  }
};

Widths Joined(Widths first, const Widths& then, const Widths& last = {}) {
  first.insert(first.end(), then.begin(), then.end());
  first.insert(first.end(), last.begin(), last.end());
  return first;
}

// Experts mixed by softmax of `gates` [rows, count]; expert_of(i) [rows, width]. Into out [rows, width].
template <typename ExpertOf>
void Mix(std::size_t count, const ExpertOf& expert_of, BlockView gates, std::size_t width, std::size_t rows, float* out) {
  for (std::size_t row = 0; row < rows; ++row, out += width) {
    const float* const gate = gates.values + row * gates.stride;
    const float highest = *std::max_element(gate, gate + count);
    std::fill_n(out, width, 0.0F);
    float sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const float weight = std::exp(gate[i] - highest);
      const BlockView expert = expert_of(i);
      const float* const values = expert.values + row * expert.stride;
      for (std::size_t column = 0; column < width; ++column) out[column] += weight * values[column];
      sum += weight;
    }
    for (std::size_t column = 0; column < width; ++column) out[column] /= sum;
  }
}

// One tower a task.
class Towers {
 public:
  static Result<Towers> Create(const Making& making) {
    Towers towers;
    for (std::size_t k = 0; k < making.tasks(); ++k) {
      const Widths widths = Joined({making.bottom().back()}, making.tower(), {1});
      FUSELINE_ASSIGN_OR_FAIL(MemberNet net, making.Behind("tower_" + std::to_string(k), 1, widths, Activation::kNone));
      towers.nets_.push_back(std::move(net));
    }
    return towers;
  }
  std::size_t tensor_count() const { return nets_.size() * nets_[0].tensor_count(); }
  void Forward(std::size_t task, BlockView in, const Space& space) const { nets_[task].Forward(in, space); }
  BlockView Logit(std::size_t task, const Space& space) const { return nets_[task].Output(0, space); }
  std::size_t size() const { return nets_.size(); }

 private:
  std::vector<MemberNet> nets_;
};

class SingleTask final : public ScorerBackbone {
 public:
  static Result<std::unique_ptr<const ScorerBackbone>> Create(const Making& making) {
    auto made = std::make_unique<SingleTask>();
    for (std::size_t k = 0; k < making.tasks(); ++k) {
      const Widths widths = Joined(making.bottom(), making.tower(), {1});
      FUSELINE_ASSIGN_OR_FAIL(MemberNet net, making.OfInput("task_" + std::to_string(k), 1, widths, Activation::kNone));
      made->nets_.push_back(std::move(net));
    }
    return made;
  }
  std::size_t sets() const override { return nets_.size(); }
  std::size_t tensor_count() const override { return nets_.size() * nets_[0].tensor_count(); }
  void TakeShared(std::size_t set, const float* shared, const Space& space) const override { nets_[set].TakeShared(shared, space); }
  void Forward(std::size_t set, BlockView own, const Space& space) const override { nets_[set].Forward(own, space); }
  BlockView Logit(std::size_t task, const Space& space) const override { return nets_[task].Output(0, space); }

 private:
  std::vector<MemberNet> nets_;
};

class SharedBottom final : public ScorerBackbone {
 public:
  SharedBottom(MemberNet bottom, Towers towers) : bottom_(std::move(bottom)), towers_(std::move(towers)) {}
  static Result<std::unique_ptr<const ScorerBackbone>> Create(const Making& making) {
    FUSELINE_ASSIGN_OR_FAIL(MemberNet bottom, making.OfInput("bottom", 1, making.bottom(), Activation::kRelu));
    FUSELINE_ASSIGN_OR_FAIL(Towers towers, Towers::Create(making));
    return std::make_unique<SharedBottom>(std::move(bottom), std::move(towers));
  }
  std::size_t tensor_count() const override { return bottom_.tensor_count() + towers_.tensor_count(); }
  void TakeShared(std::size_t, const float* shared, const Space& space) const override { bottom_.TakeShared(shared, space); }
  void Forward(std::size_t, BlockView own, const Space& space) const override {
    bottom_.Forward(own, space);
    for (std::size_t k = 0; k < towers_.size(); ++k) towers_.Forward(k, bottom_.Output(0, space), space);
  }
  BlockView Logit(std::size_t task, const Space& space) const override { return towers_.Logit(task, space); }

 private:
  MemberNet bottom_;
  Towers towers_;
};

// Logits of the first task, and of each other task given the first: whoever serves multiplies.
class Esmm final : public ScorerBackbone {
 public:
  explicit Esmm(MemberNet tasks) : tasks_(std::move(tasks)) {}
  static Result<std::unique_ptr<const ScorerBackbone>> Create(const Making& making) {
    const Widths widths = Joined(making.bottom(), making.tower(), {1});
    FUSELINE_ASSIGN_OR_FAIL(MemberNet tasks, making.OfInput("task", making.tasks(), widths, Activation::kNone));
    return std::make_unique<Esmm>(std::move(tasks));
  }
  std::size_t tensor_count() const override { return tasks_.tensor_count(); }
  void TakeShared(std::size_t, const float* shared, const Space& space) const override { tasks_.TakeShared(shared, space); }
  void Forward(std::size_t, BlockView own, const Space& space) const override { tasks_.Forward(own, space); }
  BlockView Logit(std::size_t task, const Space& space) const override { return tasks_.Output(task, space); }

 private:
  MemberNet tasks_;
};

class Mmoe final : public ScorerBackbone {
 public:
  Mmoe(MemberNet experts, MemberNet gates, Towers towers, const Making& making)
      : experts_(std::move(experts)), gates_(std::move(gates)), towers_(std::move(towers)), count_(making.form.shape().experts()),
        width_(making.bottom().back()), reserved_(making.plan.ReserveRow(width_)) {}
  static Result<std::unique_ptr<const ScorerBackbone>> Create(const Making& making) {
    const std::uint32_t count = making.form.shape().experts();
    FUSELINE_ASSIGN_OR_FAIL(MemberNet experts, making.OfInput("experts", count, making.bottom(), Activation::kRelu));
    FUSELINE_ASSIGN_OR_FAIL(MemberNet gates, making.OfInput("gates", making.tasks(), {count}, Activation::kNone));
    FUSELINE_ASSIGN_OR_FAIL(Towers towers, Towers::Create(making));
    return std::make_unique<Mmoe>(std::move(experts), std::move(gates), std::move(towers), making);
  }
  std::size_t tensor_count() const override { return experts_.tensor_count() + gates_.tensor_count() + towers_.tensor_count(); }
  void TakeShared(std::size_t, const float* shared, const Space& space) const override {
    experts_.TakeShared(shared, space);
    gates_.TakeShared(shared, space);
  }
  void Forward(std::size_t, BlockView own, const Space& space) const override {
    experts_.Forward(own, space);
    gates_.Forward(own, space);
    const auto expert_of = [&](std::size_t i) { return experts_.Output(i, space); };
    float* const mixed = space.Row(reserved_);
    for (std::size_t k = 0; k < towers_.size(); ++k) {
      Mix(count_, expert_of, gates_.Output(k, space), width_, space.rows, mixed);
      towers_.Forward(k, {mixed, width_}, space);
    }
  }
  BlockView Logit(std::size_t task, const Space& space) const override { return towers_.Logit(task, space); }

 private:
  MemberNet experts_, gates_;
  Towers towers_;
  std::size_t count_, width_, reserved_;
};

// Levels of shared and of own experts: each task mixes its own and the shared; the shared stream, in all levels but the last, mixes all.
class Ple final : public ScorerBackbone {
 public:
  static Result<std::unique_ptr<const ScorerBackbone>> Create(const Making& making) {
    auto made = std::make_unique<Ple>();
    for (std::size_t l = 0; l < making.bottom().size(); ++l) FUSELINE_FAIL_IF_ERROR(made->AddLevel(making, l));
    FUSELINE_ASSIGN_OR_FAIL(made->towers_, Towers::Create(making));
    made->own_count_ = making.form.shape().task_experts();
    made->shared_count_ = making.form.shape().experts();
    return made;
  }
  std::size_t tensor_count() const override {
    return 2 * (levels_.size() * (2 * towers_.size() + 2) - 1) + towers_.tensor_count();  // The last level has no shared gate.
  }
  void TakeShared(std::size_t, const float* shared, const Space& space) const override {
    const Level& level = levels_.front();
    for (const MemberNet& net : level.own) net.TakeShared(shared, space);
    for (const MemberNet& net : level.gates) net.TakeShared(shared, space);
    for (const MemberNet& net : level.shared) net.TakeShared(shared, space);
    for (const MemberNet& net : level.shared_gate) net.TakeShared(shared, space);
  }
  void Forward(std::size_t, BlockView own, const Space& space) const override {
    for (std::size_t l = 0; l < levels_.size(); ++l) {
      const auto of_task = [&](std::size_t k) { return l == 0 ? own : MixedOf(l - 1, k, space); };
      RunLevel(levels_[l], of_task, space);
    }
    for (std::size_t k = 0; k < towers_.size(); ++k) towers_.Forward(k, MixedOf(levels_.size() - 1, k, space), space);
  }
  BlockView Logit(std::size_t task, const Space& space) const override { return towers_.Logit(task, space); }

 private:
  struct Level {
    std::vector<MemberNet> own, gates;        // Of each task.
    std::vector<MemberNet> shared;            // One,
    std::vector<MemberNet> shared_gate;       // and one, or none in the last level.
    std::size_t width = 0, reserved = 0;      // Of what comes out: each task's mix, then the shared stream's.
  };

  Status AddLevel(const Making& making, std::size_t l) {
    const std::size_t tasks = making.tasks();
    const std::uint32_t own = making.form.shape().task_experts(), shared = making.form.shape().experts();
    const std::string name = "level_" + std::to_string(l);
    Level level;
    level.width = making.bottom()[l];
    level.reserved = making.plan.ReserveRow((tasks + 1) * level.width);
    const auto add = [&](const std::string& what, std::uint32_t members, std::uint32_t width, Activation last,
                         std::vector<MemberNet>& to) -> Status {
      auto net = l == 0 ? making.OfInput(name + what, members, {width}, last)
                        : making.Behind(name + what, members, {making.bottom()[l - 1], width}, last);
      if (!net) return std::move(net).error();
      to.push_back(*std::move(net));
      return OkStatus();
    };
    const auto width = static_cast<std::uint32_t>(level.width);
    for (std::size_t k = 0; k < tasks; ++k) {
      const std::string task = ".task_" + std::to_string(k);
      FUSELINE_RETURN_IF_ERROR(add(task + ".experts", own, width, Activation::kRelu, level.own));
      FUSELINE_RETURN_IF_ERROR(add(task + ".gate", 1, own + shared, Activation::kNone, level.gates));
    }
    FUSELINE_RETURN_IF_ERROR(add(".experts", shared, width, Activation::kRelu, level.shared));
    if (l + 1 < making.bottom().size()) {
      const auto all = static_cast<std::uint32_t>(tasks * own + shared);
      FUSELINE_RETURN_IF_ERROR(add(".gate", 1, all, Activation::kNone, level.shared_gate));
    }
    levels_.push_back(std::move(level));
    return OkStatus();
  }

  // of_task(k): what task k's stream brings; k = tasks is the shared stream's.
  template <typename OfTask>
  void RunLevel(const Level& level, const OfTask& of_task, const Space& space) const {
    const std::size_t tasks = towers_.size();
    for (std::size_t k = 0; k < tasks; ++k) {
      level.own[k].Forward(of_task(k), space);
      level.gates[k].Forward(of_task(k), space);
    }
    level.shared[0].Forward(of_task(tasks), space);
    for (const MemberNet& gate : level.shared_gate) gate.Forward(of_task(tasks), space);
    const auto shared_of = [&](std::size_t i) { return level.shared[0].Output(i, space); };
    for (std::size_t k = 0; k < tasks; ++k) {
      const auto expert_of = [&](std::size_t i) { return i < own_count_ ? level.own[k].Output(i, space) : shared_of(i - own_count_); };
      Mix(own_count_ + shared_count_, expert_of, level.gates[k].Output(0, space), level.width, space.rows, MixedAt(level, k, space));
    }
    for (const MemberNet& gate : level.shared_gate) {
      const std::size_t of_tasks = tasks * own_count_;
      const auto expert_of = [&](std::size_t i) {
        return i < of_tasks ? level.own[i / own_count_].Output(i % own_count_, space) : shared_of(i - of_tasks);
      };
      Mix(of_tasks + shared_count_, expert_of, gate.Output(0, space), level.width, space.rows, MixedAt(level, tasks, space));
    }
  }

  static float* MixedAt(const Level& level, std::size_t k, const Space& space) { return space.Row(level.reserved + k * level.width); }
  BlockView MixedOf(std::size_t l, std::size_t k, const Space& space) const { return {MixedAt(levels_[l], k, space), levels_[l].width}; }

  std::vector<Level> levels_;
  Towers towers_;
  std::size_t own_count_ = 0, shared_count_ = 0;
};

struct Kind {
  const char* name;
  Result<std::unique_ptr<const ScorerBackbone>> (*create)(const Making&);
};
constexpr Kind kKinds[] = {{"single_task", SingleTask::Create}, {"shared_bottom", SharedBottom::Create}, {"esmm", Esmm::Create},
                           {"mmoe", Mmoe::Create}, {"ple", Ple::Create}};

}  // namespace

Result<std::size_t> EmbeddingSetsOf(const v1::ScorerForm& form) {
  for (const Kind& kind : kKinds) {
    if (form.backbone() == kind.name) return kind.create == SingleTask::Create ? static_cast<std::size_t>(form.tasks_size()) : 1;
  }
  return Error(Code::kInvalidInput, "scorer has a backbone that is not known:", form.backbone());
}

Result<std::unique_ptr<const ScorerBackbone>> MakeScorerBackbone(const v1::ScorerForm& form, std::uint32_t inputs, const InputSplit& split,
                                                                 const TensorMap& tensors, const DenseKernel& kernel, SpacePlan& plan) {
  for (const Kind& kind : kKinds) {
    if (form.backbone() == kind.name) return kind.create({form, inputs, split, tensors, kernel, plan});
  }
  return Error(Code::kInvalidInput, "scorer has a backbone that is not known:", form.backbone());
}

}  // namespace fuseline
