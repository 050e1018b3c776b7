#include "setting_field.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include <google/protobuf/descriptor.h>

#include "text.h"

namespace fuseline {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::vector<SettingField> WalkSettings() {
  std::vector<SettingField> settings;
  const auto* config = v1::Config::descriptor();
  for (int s = 0; s < config->field_count(); ++s) {
    const auto* section = config->field(s);
    const auto* type = section->message_type();
    for (int f = 0; f < type->field_count(); ++f) {
      const auto* field = type->field(f);
      if (!field->options().HasExtension(v1::setting)) continue;  // The schema's fields.
      settings.push_back({section->name() + '.' + field->name(), section, field, &field->options().GetExtension(v1::setting)});
    }
  }
  return settings;
}

// Levenshtein's distance, one row at a time.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

std::string NumberText(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

Status CheckRange(const v1::Setting& options, double value, std::string_view text) {
  if (options.has_min() && value < options.min()) {
    return ErrorStatus(Code::kInvalidInput, "is below " + NumberText(options.min()) + ':', text);
  }
  if (options.has_max() && value > options.max()) {
    return ErrorStatus(Code::kInvalidInput, "is above " + NumberText(options.max()) + ':', text);
  }
  return OkStatus();
}

template <typename Number>
Result<Number> ParseNumber(std::string_view text, std::string_view wanted) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return Error(Code::kInvalidInput, "is out of range:", Shown(text));
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(static_cast<double>(value))) {
    return Error(Code::kInvalidInput, wanted, Shown(text));
  }
  return value;
}

template <typename Number>
using Setter = void (Reflection::*)(Message*, const FieldDescriptor*, Number) const;

template <typename Number>
Status PutNumber(const FieldDescriptor* field, std::string_view text, std::string_view wanted, Setter<Number> set,
                 Setter<Number> add, Message* message) {
  FUSELINE_ASSIGN_OR_RETURN(const Number value, ParseNumber<Number>(text, wanted));
  FUSELINE_RETURN_IF_ERROR(CheckRange(field->options().GetExtension(v1::setting), static_cast<double>(value), text));
  (message->GetReflection()->*(field->is_repeated() ? add : set))(message, field, value);
  return OkStatus();
}

// REQUIRES: a single field; there is no repeated bool, enumerator or string among the settings.
Status PutWord(const FieldDescriptor* field, std::string_view text, Message* message) {
  const Reflection& reflection = *message->GetReflection();
  const auto& options = field->options().GetExtension(v1::setting);
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
    if (text != "true" && text != "false") return ErrorStatus(Code::kInvalidInput, "is neither true nor false:", Shown(text));
    reflection.SetBool(message, field, text == "true");
    return OkStatus();
  }
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    const auto* value = field->enum_type()->FindValueByName(std::string(text));
    if (value == nullptr) return ErrorStatus(Code::kInvalidInput, "is no name of a " + field->enum_type()->name() + ':', Shown(text));
    reflection.SetEnum(message, field, value);
    return OkStatus();
  }
  if (!IsUtf8(text)) return ErrorStatus(Code::kInvalidInput, "is not UTF-8");
  if (!options.choices().empty() && std::find(options.choices().begin(), options.choices().end(), text) == options.choices().end()) {
    return ErrorStatus(Code::kInvalidInput, "is not " + DomainText(options) + ':', Shown(text));
  }
  reflection.SetString(message, field, std::string(text));
  return OkStatus();
}

std::string OneText(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection& r = *message.GetReflection();
  const bool one = index < 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL: return r.GetBool(message, field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM: return r.GetEnum(message, field)->name();
    case FieldDescriptor::CPPTYPE_INT64: return std::to_string(r.GetInt64(message, field));
    case FieldDescriptor::CPPTYPE_UINT64: return std::to_string(r.GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return std::to_string(one ? r.GetUInt32(message, field) : r.GetRepeatedUInt32(message, field, index));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return NumberText(one ? r.GetDouble(message, field) : r.GetRepeatedDouble(message, field, index));
    case FieldDescriptor::CPPTYPE_FLOAT: {
      char text[32];
      return {text, std::to_chars(text, text + sizeof text, r.GetFloat(message, field)).ptr};
    }
    default: return r.GetString(message, field);
  }
}

}  // namespace

const std::vector<SettingField>& AllSettings() {
  static const auto settings = WalkSettings();
  return settings;
}

const SettingField* FindSetting(std::string_view key) {
  const auto& all = AllSettings();
  const auto found = std::find_if(all.begin(), all.end(), [&](const SettingField& s) { return s.key == key; });
  return found == all.end() ? nullptr : &*found;
}

std::string NearestKey(std::string_view key) {
  std::string nearest;
  std::size_t least = std::max<std::size_t>(2, key.size() / 3) + 1;
  const auto consider = [&](std::string_view candidate) {
    if (const auto distance = EditDistance(key, candidate); distance < least) {
      least = distance;
      nearest = candidate;
    }
  };
  const auto leaf = key.substr(key.rfind('.') + 1);
  for (const auto& setting : AllSettings()) {
    consider(setting.key);
    if (setting.field->name() == leaf && nearest.empty()) nearest = setting.key;  // Right name, wrong section.
  }
  const auto* config = v1::Config::descriptor();
  for (int i = 0; i < config->field_count(); ++i) consider(config->field(i)->name());
  return nearest;
}

std::string DomainText(const v1::Setting& options) {
  std::string text = options.unit();
  const auto append = [&](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  if (options.has_min() && options.has_max()) append(NumberText(options.min()) + " to " + NumberText(options.max()));
  if (!options.choices().empty()) {
    std::string names;
    for (const auto& choice : options.choices()) names += (names.empty() ? "" : ", ") + choice;
    append((options.choices_size() > 1 ? "one of " : "") + names);
  }
  return text;
}

Status PutSettingText(const FieldDescriptor* field, std::string_view text, Message* message) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return PutNumber<std::int64_t>(field, text, "is no whole number:", &Reflection::SetInt64, &Reflection::AddInt64, message);
    case FieldDescriptor::CPPTYPE_UINT64:
      return PutNumber<std::uint64_t>(field, text, "is no whole number from 0:", &Reflection::SetUInt64, &Reflection::AddUInt64, message);
    case FieldDescriptor::CPPTYPE_UINT32:
      return PutNumber<std::uint32_t>(field, text, "is no whole number from 0:", &Reflection::SetUInt32, &Reflection::AddUInt32, message);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return PutNumber<double>(field, text, "is no number:", &Reflection::SetDouble, &Reflection::AddDouble, message);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return PutNumber<float>(field, text, "is no number:", &Reflection::SetFloat, &Reflection::AddFloat, message);
    default: return PutWord(field, text, message);
  }
}

std::vector<std::string> SettingTexts(const Message& message, const FieldDescriptor* field) {
  if (!field->is_repeated()) return {OneText(message, field, -1)};
  std::vector<std::string> texts;
  const int size = message.GetReflection()->FieldSize(message, field);
  for (int i = 0; i < size; ++i) texts.push_back(OneText(message, field, i));
  return texts;
}

Status AssignSetting(const SettingField& setting, std::string_view text, v1::Config* config) {
  Message* section = config->GetReflection()->MutableMessage(config, setting.section);
  if (!setting.field->is_repeated()) return PutSettingText(setting.field, text, section);
  section->GetReflection()->ClearField(section, setting.field);
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    FUSELINE_RETURN_IF_ERROR(PutSettingText(setting.field, text.substr(0, comma), section));
    if (comma + 1 == text.size()) return ErrorStatus(Code::kInvalidInput, "ends with a comma:", Shown(text));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return OkStatus();
}

}  // namespace fuseline
