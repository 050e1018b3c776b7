#pragma once

#include <cstdint>
#include <filesystem>

#include "fuseline/core/status.h"

namespace fuseline {

// The next epoch of a writer that has no Kafka to draw it from: one more than FOLDER/epoch holds (1 if there is none), durable
// before it is returned. Whoever calls it holds the lock of the folder.
// Errors: kCorrupt if the file holds no number; kUnavailable when the disk fails.
Result<std::uint64_t> NextEpoch(const std::filesystem::path& folder);

}  // namespace fuseline
