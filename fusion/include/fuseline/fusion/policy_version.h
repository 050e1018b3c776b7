#pragma once

#include <string>

#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// One immutable version as it travels from learner to archive, Redis and ranker: the manifest, the weights file
// (weights_file.h) whose SHA-256 is manifest.weights_sha256, and the manifest's signature.
struct PolicyVersion {
  v1::PolicyManifest manifest;
  std::string weights;
  std::string signature;  // Ed25519 over the manifest's canonical bytes, 64 bytes; empty: not signed.
};

}  // namespace fuseline
