#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/checkpoint.pb.h"

namespace fuseline {

// The learner's folder:
//   checkpoint              LearnerCheckpoint, then its SHA-256; replaced atomically, names the files below
//   checkpoint-v<N>         the same, kept for version N
//   acts                    SHA-256 of the rest, then an ActLog; replaced atomically
//   <name>-<digest>.bin     tensors, weights;  <buffer>-<first row>-<digest>.rows  segments (row_store.h)
// A file that no checkpoint names is garbage, left by a death or by a newer checkpoint.

// Writes `bytes` under a name made of `prefix` and their digest. Errors: kUnavailable.
Result<v1::FileRef> WriteBlob(const std::filesystem::path& folder, const std::string& prefix, const std::string& bytes);
// Errors: kCorrupt when the file is absent or differs from its digest.
Result<std::string> ReadBlob(const std::filesystem::path& folder, const v1::FileRef& file);

// The instant at which a checkpoint becomes durable. `keep_version` > 0: kept for that version too.
Status WriteCheckpoint(const std::filesystem::path& folder, const v1::LearnerCheckpoint& checkpoint, std::uint64_t keep_version);
// Errors: kNotFound when there is none; kCorrupt.
Result<v1::LearnerCheckpoint> ReadCheckpoint(const std::filesystem::path& folder);

// The versions whose checkpoints are kept, ascending.
std::vector<std::uint64_t> KeptCheckpoints(const std::filesystem::path& folder);
// Of these, the ones to drop: all but the newest `newest`, and those that versions from `floor` on, and the versions `also`, are
// derived from: the last kept before each. REQUIRES: kept is ascending.
std::vector<std::uint64_t> DroppedCheckpoints(const std::vector<std::uint64_t>& kept, std::size_t newest, std::uint64_t floor,
                                              const std::set<std::uint64_t>& also);
// Errors: kUnavailable.
Status DropCheckpoint(const std::filesystem::path& folder, std::uint64_t version);

Status WriteActs(const std::filesystem::path& folder, const v1::ActLog& acts);
// Empty if there are none. Errors: kCorrupt.
Result<v1::ActLog> ReadActs(const std::filesystem::path& folder);

// Removes files that no checkpoint in the folder names. Errors: kCorrupt for an unreadable checkpoint: nothing is removed then.
Status CollectGarbage(const std::filesystem::path& folder);

}  // namespace fuseline
