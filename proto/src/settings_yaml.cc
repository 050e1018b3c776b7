#include "settings_yaml.h"

#include <set>

#include <google/protobuf/descriptor.h>
#include <yaml-cpp/yaml.h>

#include "setting_field.h"
#include "text.h"

namespace fuseline {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A walk over the document and the messages at once; the messages say what may stand where.
class YamlReader {
 public:
  YamlReader(const std::string& file, NearestName nearest, SettingOrigins* origins)
      : file_(file), nearest_(nearest), origins_(origins) {}

  // `path`: of `message`, empty for the root.
  Status ReadMap(const YAML::Node& node, const std::string& path, Message* message) {
    if (!node.IsMap()) return At(node, path.empty() ? "the settings" : path, "must be a map of keys");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) return At(entry.first, path, "has a key that is no name");
      const std::string name = entry.first.Scalar();
      const std::string key = path.empty() ? name : path + '.' + name;
      const auto* field = message->GetDescriptor()->FindFieldByName(name);
      if (field == nullptr) return Unknown(entry.first, key);
      if (!seen.insert(name).second) return At(entry.first, key, "stands twice");
      FUSELINE_RETURN_IF_ERROR(ReadValue(entry.first, entry.second, key, field, message));
    }
    return OkStatus();
  }

 private:
  Status ReadValue(const YAML::Node& key_node, const YAML::Node& value, const std::string& key,
                   const FieldDescriptor* field, Message* message) {
    const bool is_map = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (value.IsNull()) return is_map ? OkStatus() : At(key_node, key, "has no value");
    (*origins_)[key] = Place(key_node);
    if (field->is_repeated()) return ReadList(value, key, field, message);
    if (is_map) return ReadMap(value, key, message->GetReflection()->MutableMessage(message, field));
    return ReadScalar(value, key, field, message);
  }

  Status ReadList(const YAML::Node& list, const std::string& key, const FieldDescriptor* field, Message* message) {
    if (!list.IsSequence()) return At(list, key, "must be a list");
    message->GetReflection()->ClearField(message, field);
    std::size_t index = 0;
    for (const auto& value : list) {
      const std::string element = key + '[' + std::to_string(index++) + ']';
      FUSELINE_RETURN_IF_ERROR(field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE
                                   ? ReadMap(value, element, message->GetReflection()->AddMessage(message, field))
                                   : ReadScalar(value, element, field, message));
    }
    return OkStatus();
  }

  Status ReadScalar(const YAML::Node& value, const std::string& key, const FieldDescriptor* field, Message* message) {
    if (!value.IsScalar()) return At(value, key, "must be one value, not a list or map");
    const auto status = PutSettingText(field, value.Scalar(), message);
    return status.ok() ? status : At(value, key, status.message);
  }

  Status Unknown(const YAML::Node& node, const std::string& key) const {
    const auto nearest = nearest_ == nullptr ? std::string() : nearest_(key);
    return ErrorStatus(Code::kInvalidInput, Place(node) + ": unknown setting " + Shown(key) +
                                                (nearest.empty() ? "" : "; did you mean " + nearest + '?'));
  }
  Status At(const YAML::Node& node, const std::string& key, const std::string& what) const {
    return ErrorStatus(Code::kInvalidInput, Place(node) + ':', key, what);
  }
  std::string Place(const YAML::Node& node) const { return file_ + ':' + std::to_string(node.Mark().line + 1); }

  const std::string& file_;
  NearestName nearest_;
  SettingOrigins* origins_;
};

}  // namespace

Status ReadYaml(const std::string& file, const std::string& text, NearestName nearest, Message* message, SettingOrigins* origins) {
  if (!IsUtf8(text)) return ErrorStatus(Code::kInvalidInput, file + ": is not UTF-8");
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return OkStatus();
    return YamlReader(file, nearest, origins).ReadMap(root, "", message);
  } catch (const YAML::Exception& error) {
    return ErrorStatus(Code::kInvalidInput, file + ':' + std::to_string(error.mark.line + 1) + ": is not YAML:", error.msg);
  }
}

Status ReadSettingsYaml(const std::string& file, const std::string& text, v1::Config* config, SettingOrigins* origins) {
  return ReadYaml(file, text, &NearestKey, config, origins);
}

}  // namespace fuseline
