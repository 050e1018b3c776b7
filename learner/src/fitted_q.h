#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// Requests with an action for each item, row-major: n lists of up to L items, absent ones masked. States are normalised.
struct ActedLists {
  std::vector<float> state, action, mask;  // [n, L, W], [n, L, D], [n, L]
};

// What a policy's value is fitted to.
struct EvaluationTransitions {
  std::size_t count = 0, items = 0, state_width = 0, action_width = 0;  // n, L, W, D
  ActedLists logged;                  // What was done.
  std::vector<float> judged_action;   // [n, L, D]: what the judged policy does there.
  std::vector<float> reward;          // [n]: of the list.
  ActedLists next;                    // Under the judged policy; all masked where the session ended.
};

struct FitOptions {
  double gamma = 0;                // 0: a model of the immediate reward.
  double conservative_weight = 0;  // Of E Q(s, pi(s)) - E Q(s, a), as BatchRL-MTF.
  std::string purpose;             // Of the draws, beside the run's seed.
};

// Fitted Q evaluation (Le, Voloshin, Yue, arXiv 1903.08738): the value of a list is the sum of its items' Q, as EnhancedRL has it.
// Thread-compatible; needs LibTorch. A function of settings, transitions and options alone.
class FittedQ {
 public:
  virtual ~FittedQ() = default;

  // Errors: kInvalidInput without a transition; kInternal for LibTorch's, or where the fit is not finite.
  // Cost: evaluation.fqe_steps updates of one network of the learner's hidden widths.
  static Result<std::unique_ptr<FittedQ>> Fit(const v1::Config& config, const EvaluationTransitions& transitions, const FitOptions& options);

  // [n], of lists of the shapes that it was fitted to. Errors: kInternal.
  virtual Result<std::vector<double>> Values(const ActedLists& lists) const = 0;
};

}  // namespace fuseline
