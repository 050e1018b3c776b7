#pragma once

#include <string>

#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// One immutable version as it travels from learner to archive, Redis and ranker: the manifest, and the weights file
// (weights_file.h) whose SHA-256 is manifest.weights_sha256.
struct PolicyVersion {
  v1::PolicyManifest manifest;
  std::string weights;
};

}  // namespace fuseline
