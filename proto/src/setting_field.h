#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// One setting: where it stands in Config, and its options. The whole list is a walk over config.proto.
struct SettingField {
  std::string key;  // "section.key".
  const google::protobuf::FieldDescriptor* section;
  const google::protobuf::FieldDescriptor* field;
  const v1::Setting* options;
};
const std::vector<SettingField>& AllSettings();
const SettingField* FindSetting(std::string_view key);  // Null: there is none.

// The known key, or section, that `key` may have meant; empty when none is near.
std::string NearestKey(std::string_view key);

// "ms, 1000 to 86400000", "one of a, b", or empty: what a value may be.
std::string DomainText(const v1::Setting& options);

// `text` → the field of `message` (appended to a repeated one), parsed by its type and checked against its
// options. Errors: kInvalidInput; the message reads on from the setting's name: "is below 1000: 5".
Status PutSettingText(const google::protobuf::FieldDescriptor* field, std::string_view text, google::protobuf::Message* message);

// The field's values as text that PutSettingText reads back; one, or those of a repeated field.
std::vector<std::string> SettingTexts(const google::protobuf::Message& message, const google::protobuf::FieldDescriptor* field);

// Replaces the setting's value by `text`, as a flag or a variable gives it: lists comma separated, empty for none.
Status AssignSetting(const SettingField& setting, std::string_view text, v1::Config* config);

}  // namespace fuseline
