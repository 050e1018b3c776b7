#include "fuseline/proto/settings.h"

#include <google/protobuf/descriptor.h>

#include "setting_field.h"

namespace fuseline {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A YAML double-quoted scalar.
std::string Quoted(const std::string& text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += {'\\', 'x', kHex[c >> 4], kHex[c & 15]};
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string YamlValue(const Message& message, const FieldDescriptor* field) {
  const bool is_text = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  std::string joined;
  for (const auto& text : SettingTexts(message, field)) {
    if (!joined.empty()) joined += ", ";
    joined += is_text ? Quoted(text) : text;
  }
  return field->is_repeated() ? '[' + joined + ']' : joined;
}

std::string FlowMap(const Message& message) {
  std::string map = "{";
  const auto* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const auto* field = type->field(i);
    const bool is_map = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (is_map && !message.GetReflection()->HasField(message, field)) continue;
    if (map.size() > 1) map += ", ";
    map += field->name() + ": " +
           (is_map ? FlowMap(message.GetReflection()->GetMessage(message, field)) : YamlValue(message, field));
  }
  return map + '}';
}

template <typename Messages>
void AppendList(const char* name, const Messages& messages, std::string* out) {
  *out += std::string("  ") + name + ":\n";
  for (const auto& message : messages) *out += "    - " + FlowMap(message) + '\n';
}

std::string HelpText(const v1::Setting& options) {
  const auto domain = DomainText(options);
  return options.help() + (domain.empty() ? "" : " (" + domain + ')');
}

}  // namespace

std::string PrintSettings(const v1::Config& config, bool with_help) {
  std::string out;
  const FieldDescriptor* section = nullptr;
  for (const auto& setting : AllSettings()) {
    if (setting.section != section) {
      if (with_help && section != nullptr) out += '\n';
      section = setting.section;
      out += section->name() + ":\n";
    }
    if (with_help) out += "  # " + HelpText(*setting.options) + '\n';
    const auto& message = config.GetReflection()->GetMessage(config, section);
    out += setting.options->secret() ? "  # " + setting.field->name() + ": \"***\"\n"
                                     : "  " + setting.field->name() + ": " + YamlValue(message, setting.field) + '\n';
  }
  if (config.has_schema()) {
    if (with_help) out += "\n# what the numbers in an event mean; absent: five tasks and the simulator's features\n";
    out += "schema:\n";
    AppendList("features", config.schema().features(), &out);
    AppendList("tasks", config.schema().tasks(), &out);
  }
  return out;
}

std::string SettingsHelp() {
  std::string out;
  for (const auto& setting : AllSettings()) {
    out += setting.key + '=' + setting.options->default_();
    const auto domain = DomainText(*setting.options);
    if (!domain.empty()) out += " (" + domain + ')';
    out += ": " + setting.options->help() + '\n';
  }
  return out;
}

}  // namespace fuseline
