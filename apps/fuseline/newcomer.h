#pragma once

#include "pipeline_status.h"

namespace fuseline {

// A learner whose state folder is new, while Redis holds versions of its policy, was moved without its state: it begins from the newest
// of them, aloud. What it had taken since that version is read again, so the log must reach back to there. Its scorer, where it
// is new and no archive holds one, begins behind those in Redis, whether the learner is new or not. A Redis that is away says nothing: both
// then begin anew. Errors: those of Learner::BeginFrom; kCorrupt for a damaged version.
Status BeginFromPublished(const v1::Config& config, const StateFolders& folders, Instruments instruments);

}  // namespace fuseline
