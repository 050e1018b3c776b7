#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/checkpoint.pb.h"

namespace fuseline {

// The learner's folder:
//   checkpoint              LearnerCheckpoint, then its SHA-256; replaced atomically, names the files below
//   checkpoint-v<N>         the same, kept as it was when version N was made
//   checkpoint-v<N>-s<M>    the same, kept at update step M behind version N, where a regime began
//   acts                    SHA-256 of the rest, then an ActLog; replaced atomically
//   <name>-<digest>.bin     tensors, weights;  <buffer>-<first row>-<digest>.rows  segments (row_store.h)
// A file that no checkpoint names is garbage, left by a death or by a newer checkpoint.

// Writes `bytes` under a name made of `prefix` and their digest. Errors: kUnavailable.
Result<v1::FileRef> WriteBlob(const std::filesystem::path& folder, const std::string& prefix, const std::string& bytes);
// Errors: kCorrupt when the file is absent or differs from its digest.
Result<std::string> ReadBlob(const std::filesystem::path& folder, const v1::FileRef& file);

// The instant at which a checkpoint becomes durable.
Status WriteCheckpoint(const std::filesystem::path& folder, const v1::LearnerCheckpoint& checkpoint);
// Errors: kNotFound when there is none; kCorrupt.
Result<v1::LearnerCheckpoint> ReadCheckpoint(const std::filesystem::path& folder);

// A checkpoint that is kept, in the order of the learner's history.
struct KeptCheckpoint {
  std::uint64_t version = 0;  // The newest version that had been made.
  std::uint64_t steps = 0;    // Update steps until then; 0: that version had just been made.
  auto operator<=>(const KeptCheckpoint&) const = default;
};
// Errors: kUnavailable.
Status KeepCheckpoint(const std::filesystem::path& folder, const v1::LearnerCheckpoint& checkpoint, const KeptCheckpoint& as);
std::vector<KeptCheckpoint> KeptCheckpoints(const std::filesystem::path& folder);  // Ascending.
// Of these, the ones to drop: all but the newest `newest`, and those that versions from `floor` on, and the versions `also`, are
// derived from: the last kept before each. REQUIRES: kept is ascending.
std::vector<KeptCheckpoint> DroppedCheckpoints(const std::vector<KeptCheckpoint>& kept, std::size_t newest, std::uint64_t floor,
                                               const std::set<std::uint64_t>& also);
// Errors: kUnavailable.
Status DropCheckpoint(const std::filesystem::path& folder, const KeptCheckpoint& kept);

Status WriteActs(const std::filesystem::path& folder, const v1::ActLog& acts);
// Empty if there are none. Errors: kCorrupt.
Result<v1::ActLog> ReadActs(const std::filesystem::path& folder);

// Removes files that no checkpoint in the folder names. Errors: kCorrupt for an unreadable checkpoint: nothing is removed then.
Status CollectGarbage(const std::filesystem::path& folder);

}  // namespace fuseline
