#pragma once

#include "fuseline/core/status.h"
#include "scorer/scorer_model.h"

namespace fuseline {

// What RMTL (arXiv 2302.03328) adds to a training, in a batch or in the stream.

// Of a prediction p of a task that came out as `outcome`, both in [0, 1]: minus its cross-entropy, of which no prediction is taken for
// nearer to 0 or 1 than 1e-7.
float RmtlReward(float p, float outcome);

// Multiplies the losses of `batch` by what the critics say of the model's prediction at hand: 1 - lambda Q (linear), -Q (direct); constant
// and none leave them. No gradient passes through. Errors: those of the model and the critics.
Status WeighLosses(const v1::Scorer& settings, const ScorerModel& model, const ScorerCritics& critics, ScorerBatch& batch);

}  // namespace fuseline
