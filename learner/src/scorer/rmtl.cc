#include "scorer/rmtl.h"

#include <algorithm>
#include <cmath>

namespace fuseline {

float RmtlReward(float p, float outcome) {
  constexpr float kMin = 1e-7F;
  return outcome * std::log(std::max(p, kMin)) + (1 - outcome) * std::log(std::max(1 - p, kMin));
}

Status WeighLosses(const v1::Scorer& settings, const ScorerModel& model, const ScorerCritics& critics, ScorerBatch& batch) {
  const bool direct = settings.weights() == "direct";
  if (!direct && settings.weights() != "linear") return OkStatus();
  FUSELINE_ASSIGN_OR_RETURN(const auto action, model.Predict(batch));
  FUSELINE_ASSIGN_OR_RETURN(batch.weights, critics.Values(batch, action));
  const auto lambda = static_cast<float>(settings.lambda());
  for (float& q : batch.weights) q = direct ? -q : 1 - lambda * q;
  return OkStatus();
}

}  // namespace fuseline
