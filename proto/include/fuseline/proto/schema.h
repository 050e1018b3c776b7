#pragma once

#include <string>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/policy.pb.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline {

// Five tasks (click, valid, watch, like, share) and the features that the simulator writes.
v1::FeatureSchema DefaultSchema();

// Unique names, known scopes, widths and buckets from 1 to 4096, 1 to 32 tasks with min < max, finite defaults.
Status ValidateSchema(const v1::FeatureSchema& schema);

// SHA-256 (32 bytes) of the canonical bytes: deterministic serialisation without unknown fields.
std::string SchemaDigest(const v1::FeatureSchema& schema);

// Deterministic bytes of any message of ours: the same message gives the same bytes in every build.
std::string CanonicalBytes(const google::protobuf::Message& message);

// Ranges and static action (normalised) of `settings` for the schema's k tasks; D = 2k.
// Errors: kInvalidInput when a static power or bias is outside its range, or their number is not k.
Result<v1::ActionRanges> ActionRangesOf(const v1::Policy& settings, const v1::FeatureSchema& schema);

}  // namespace fuseline
