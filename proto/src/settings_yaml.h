#pragma once

#include <map>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// Where each setting that is not a default came from: key → "fuseline.yaml:3", a variable, or a flag.
using SettingOrigins = std::map<std::string, std::string>;

// The known key that an unknown one may have meant; null: no guess is made.
using NearestName = std::string (*)(std::string_view);

// YAML → over `message`, whose fields carry the option `setting`; otherwise as below.
Status ReadYaml(const std::string& file, const std::string& text, NearestName nearest, google::protobuf::Message* message,
                SettingOrigins* origins);

// YAML → over `config`. `file` is the name that messages and origins carry.
// Errors: kInvalidInput "FILE:LINE: …" for YAML that does not parse, an unknown or repeated key, a wrong type or range.
Status ReadSettingsYaml(const std::string& file, const std::string& text, v1::Config* config, SettingOrigins* origins);

}  // namespace fuseline
