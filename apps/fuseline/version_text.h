#pragma once

#include <map>
#include <string>
#include <vector>

#include "fuseline/policy_store/audit_trail.h"
#include "fuseline/policy_store/version_difference.h"
#include "fuseline/v1/config.pb.h"
#include "version_desk.h"

namespace fuseline {

// "section.key" → value, of settings as YAML prints them.
std::map<std::string, std::string> SettingLines(const v1::Config& config);

// What `fuseline versions` prints: for people, ending in a newline, or as one line of JSON without it.
std::string VersionsText(const std::vector<VersionDesk::Row>& rows, const v1::AliasState& aliases);
std::string VersionsJson(const std::vector<VersionDesk::Row>& rows, const v1::AliasState& aliases);
std::string VersionText(const ArchivedVersion& version, const v1::AliasState& aliases);
std::string VersionJson(const ArchivedVersion& version, const v1::AliasState& aliases);
std::string DifferenceText(const PolicyVersion& first, const PolicyVersion& second, const VersionDifference& difference);
std::string DifferenceJson(const PolicyVersion& first, const PolicyVersion& second, const VersionDifference& difference);
std::string MoveText(const VersionDesk::Moved& moved);
std::string MoveJson(const VersionDesk::Moved& moved);
std::string ChangeText(const AuditEntry& entry);

}  // namespace fuseline
