#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "command.h"
#include "publication.h"
#include "stop_signal.h"

namespace fuseline {

struct VerificationOptions {
  std::uint64_t version = 0;
  std::string state;    // The folder of who made it; empty: only its archive is here, and it is
                        // derived from the beginning.
  std::string archive;  // STATE/policy, or a copy of it.
  std::vector<std::string> files;  // Where its lineage names files: these, in that order.
};

// A version made again beside the one in the archive.
struct Verification {
  struct Difference {
    std::string what, then, here;
  };
  std::uint64_t version = 0;
  std::uint64_t base = 0;  // The kept checkpoint that it was derived from; 0: from the beginning.
  std::vector<Difference> differences;  // Between its lineage and here: build, BLAS, threads,
                                        // device, settings, rewards, input.
  std::string archived_sha256, derived_sha256;  // Of the weights, in hex.
  std::vector<std::string> manifest;  // Fields of the manifest that differ besides; figures and
                                      // verdict of the gate among them.

  bool equal() const { return archived_sha256 == derived_sha256 && manifest.empty(); }
};

// Derives a version again from its lineage, in a temporary folder: under its own settings, from the
// nearest full checkpoint before it that is kept, or from the beginning, from the same log up to
// the names that it had taken, with what acted on it from outside. What differs between then and
// here is logged (replay.verification_differs) before anything is compared. Changes nothing; may
// run beside `run`. Errors: kNotFound, kCorrupt  the version, its settings, or its log are gone;
//         kInvalidInput        the lineage names files, or a topic, that were not given;
//         kUnavailable.
Result<Verification> VerifyVersion(const VerificationOptions& options, const v1::Config& config,
                                   StopSignal& stop, Instruments instruments);

std::string VerificationText(const Verification& verification);
std::string VerificationJson(const Verification& verification);

}  // namespace fuseline
