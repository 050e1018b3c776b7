#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/event.pb.h"

namespace fuseline {

// Whether both say the same, whatever their versions.
bool SameRules(const v1::SessionRules& a, const v1::SessionRules& b);

// "version 3: gap_ms 1800000, …"
std::string RulesText(const v1::SessionRules& rules);

// The rules in force in each partition, as far as its records were looked at; version 0: none says anything.
struct RulesInForce {
  std::map<std::int32_t, v1::SessionRules> of_partition;
  std::map<std::int32_t, std::int64_t> read_to;  // Offsets up to which they are known.
};

// `known` and what the events topic says from there to its present end, read as the sessionizer reads it: what is void there is
// void here. A partition of which nothing is known begins where its group's committed offset says which rules were in force, or else at
// its first record. Errors: those of KafkaSource.
Result<RulesInForce> ReadRules(const v1::Config& config, const RulesInForce& known);

// What brings `wanted` into force everywhere under one version.
struct RulesPlan {
  std::uint64_t version = 0;
  std::vector<std::int32_t> lacking;  // Partitions that need a record of this version; empty: it is in force everywhere.
};
// A version that says something else is never used again; one that says the same, but not everywhere, is completed.
RulesPlan PlanRules(const RulesInForce& in_force, const v1::SessionRules& wanted);

// What became of the record of one partition.
struct RulesAppended {
  std::int64_t offset = -1;
  Status status;
};
// Appends `rules` to these partitions of the events topic, and waits until all in-sync replicas have them, or for
// kafka.connect_timeout_ms.
Result<std::map<std::int32_t, RulesAppended>> AppendRules(const v1::Config& config, const v1::SessionRules& rules,
                                                          const std::vector<std::int32_t>& partitions);

}  // namespace fuseline
