#pragma once

#include "pipeline_status.h"

namespace fuseline {

// A learner whose state folder is new, while Redis holds versions of its policy, was moved without its state: it begins from the newest
// of them, aloud. What it had taken since that version is read again, so the log must reach back to there. A Redis that is
// away says nothing: the learner then begins anew. Errors: those of Learner::BeginFrom; kCorrupt for a damaged version.
Status BeginFromPublished(const v1::Config& config, const StateFolders& folders, Instruments instruments);

}  // namespace fuseline
