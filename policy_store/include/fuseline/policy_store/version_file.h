#pragma once

#include <string>
#include <string_view>

#include "fuseline/core/signature.h"
#include "fuseline/core/status.h"
#include "fuseline/policy_store/archive.h"

namespace fuseline {

// A version as one self-contained file, to carry it elsewhere or to keep it. The same version gives the same bytes.
std::string EncodeVersionFile(const ArchivedVersion& version);

// Everything is verified: the file's digest, the manifest, each part and the whole of the weights, that the weights are a weights file, and,
// where `trusted` has keys, that one of them signed the manifest. Hostile input is expected.
// Errors: kCorrupt, saying which of these failed.
Result<ArchivedVersion> DecodeVersionFile(std::string_view bytes, const PublicKeys& trusted);

}  // namespace fuseline
