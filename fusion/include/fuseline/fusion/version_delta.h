#pragma once

#include "fuseline/core/status.h"
#include "fuseline/fusion/policy_version.h"
#include "fuseline/v1/policy.pb.h"

namespace fuseline {

// A version as what changed since another: it stands in Redis beside the version's parts, for rankers that hold the
// other's weights.
//
// An update moves a weight by little, so two weights files of one network, read as little-endian 32-bit words, differ
// by small numbers. d = next - base mod 2^32 of each word is folded, z = 2 d for d >= 0, else -2 d - 1, and written in
// Rice's code, in blocks of 128 words:
//   block = k (5 bits), then of each z: z >> k ones, a zero, and the low k bits of z; or, from 20 ones on, 20 ones and z in 32 bits.
// k is the writer's choice. Bits fill bytes from the lowest on; words and bytes that are not full end in zeros.
// Where: between publisher and ranker. Pure.

// Errors: kInvalidInput if the weights differ in size, as those of another network do: there is no delta then.
// REQUIRES: both manifests are sealed. Cost: bench/BENCHMARKS.md, as of the other.
Result<v1::VersionDelta> MakeDelta(const PolicyVersion& base, const PolicyVersion& next);

// The version of `manifest`, bit for bit, or an error: verified against the manifest's digests as the parts are
// (AssembleVersion). Errors: kConflict if the delta was made from another base, or for other weights than the
// manifest's; kCorrupt if it is damaged, or in a coding that is not known here. Hostile input is expected; it never
// makes more bytes than the base has.
Result<PolicyVersion> ApplyDelta(const v1::VersionDelta& delta, const PolicyVersion& base, const v1::PolicyManifest& manifest);

}  // namespace fuseline
