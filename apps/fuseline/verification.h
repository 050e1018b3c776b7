#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "command.h"
#include "publication.h"
#include "stop_signal.h"

namespace fuseline {

struct VerificationOptions {
  std::uint64_t version = 0;
  std::string state;    // The folder of who made it; empty: only its archive is here, and it is
                        // derived from the beginning.
  std::string archive;  // STATE/policy, of a scorer's version STATE/scorer; or a copy of it.
  std::vector<std::string> files;  // Where its lineage names files: these, in that order.
};

// A version made again beside the one in the archive.
struct Verification {
  struct Difference {
    std::string what, then, here;
    std::size_t regime = 0;  // Which one, counted from 1; 0: there is one alone, or it is of none.
    std::uint64_t first_trajectory = 0;  // Of that regime.
    std::map<std::string, std::pair<std::string, std::string>> keys;  // Of settings: then, here.
  };
  std::uint64_t version = 0;
  std::uint64_t base = 0;  // The newest version when the checkpoint that it was derived from was kept,
  std::uint64_t base_trajectories = 0;  // and what had been taken; 0: from the beginning.
  std::size_t regimes = 1;              // That its lineage lists.
  std::vector<Difference> differences;  // Between its regimes and here: build, BLAS, threads,
                                        // device, settings, rewards; input.
  std::string archived_sha256, derived_sha256;  // Of the weights, in hex.
  std::vector<std::string> manifest;  // Fields of the manifest that differ besides; figures and
                                      // verdict of the gate among them.

  bool equal() const { return archived_sha256 == derived_sha256 && manifest.empty(); }
};

// Derives a version, of a policy or of the scorer that is learned beside it, again from its lineage, in a temporary folder: under its own settings, from the
// nearest full checkpoint before it that is kept, or from the beginning, from the same log up to
// the names that it had taken, with what acted on it from outside. What differs between any of its
// regimes and here is logged (replay.verification_differs) before a learner is opened. Changes
// nothing; may run beside `run`.
// Errors: kNotFound, kCorrupt  the version, its settings, its log, or the full checkpoint behind the
//                              last change of settings are gone;
//         kInvalidInput        the lineage names files, or a topic, that were not given;
//         kUnavailable.
Result<Verification> VerifyVersion(const VerificationOptions& options, const v1::Config& config,
                                   StopSignal& stop, Instruments instruments);

std::string VerificationText(const Verification& verification);
std::string VerificationJson(const Verification& verification);

}  // namespace fuseline
