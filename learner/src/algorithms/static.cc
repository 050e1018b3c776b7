// The hand-set weights, whatever comes: what every other policy must beat.

#include "algorithms/constant_actor.h"

namespace fuseline {
namespace {

class Static final : public ConstantActor {
 public:
  Static(const v1::Config& config, const Problem& problem) : ConstantActor(config, problem) {}

 private:
  void Move(const TransitionBatch&, const std::vector<double>&, StepFigures&) override {}
};

constexpr AlgorithmTraits kTraits{.per_request = true, .boxed = true};
FUSELINE_ALGORITHM("static", kTraits, MakeConstant<Static>);

}  // namespace
}  // namespace fuseline
