#include "json_message.h"

#include <charconv>
#include <cmath>
#include <type_traits>
#include <vector>

#include <google/protobuf/descriptor.h>

#include "text.h"

namespace fuseline {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void AppendQuoted(std::string_view text, std::string* out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out->push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      *out += "\\u00";
      out->push_back(kHex[c >> 4]);
      out->push_back(kHex[c & 15]);
    } else {
      out->push_back(c);
    }
  }
  out->push_back('"');
}

template <typename Number>
void AppendNumber(Number value, std::string* out) {
  if constexpr (std::is_floating_point_v<Number>) {
    if (!std::isfinite(value)) {
      *out += "null";
      return;
    }
  }
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);  // Shortest that reads back.
  out->append(text, end);
  if constexpr (std::is_floating_point_v<Number>) {
    if (value == 0 && std::signbit(value)) *out += ".0";  // "-0" would be read as the integer 0.
  }
}

void AppendMessage(const Message& message, std::string* out);

// `index` of a repeated field, -1 of a single one.
void AppendValue(const Message& message, const FieldDescriptor* field, int index, std::string* out) {
  const Reflection& r = *message.GetReflection();
  const bool one = index < 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      *out += (one ? r.GetBool(message, field) : r.GetRepeatedBool(message, field, index)) ? "true" : "false";
      return;
    case FieldDescriptor::CPPTYPE_INT32:
      return AppendNumber(one ? r.GetInt32(message, field) : r.GetRepeatedInt32(message, field, index), out);
    case FieldDescriptor::CPPTYPE_UINT32:
      return AppendNumber(one ? r.GetUInt32(message, field) : r.GetRepeatedUInt32(message, field, index), out);
    case FieldDescriptor::CPPTYPE_INT64:
      return AppendNumber(one ? r.GetInt64(message, field) : r.GetRepeatedInt64(message, field, index), out);
    case FieldDescriptor::CPPTYPE_UINT64:
      return AppendNumber(one ? r.GetUInt64(message, field) : r.GetRepeatedUInt64(message, field, index), out);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return AppendNumber(one ? r.GetFloat(message, field) : r.GetRepeatedFloat(message, field, index), out);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return AppendNumber(one ? r.GetDouble(message, field) : r.GetRepeatedDouble(message, field, index), out);
    case FieldDescriptor::CPPTYPE_ENUM:
      return AppendQuoted((one ? r.GetEnum(message, field) : r.GetRepeatedEnum(message, field, index))->name(), out);
    case FieldDescriptor::CPPTYPE_STRING: {
      std::string scratch;
      const auto& text = one ? r.GetStringReference(message, field, &scratch)
                             : r.GetRepeatedStringReference(message, field, index, &scratch);
      return AppendQuoted(field->type() == FieldDescriptor::TYPE_BYTES ? ToBase64(text) : text, out);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return AppendMessage(one ? r.GetMessage(message, field) : r.GetRepeatedMessage(message, field, index), out);
  }
}

bool HasNoName(const Message& message, const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM && !field->is_repeated() &&
         field->enum_type()->FindValueByNumber(message.GetReflection()->GetEnumValue(message, field)) == nullptr;
}

void AppendMessage(const Message& message, std::string* out) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  out->push_back('{');
  bool is_first = true;
  for (const auto* field : fields) {
    if (HasNoName(message, field)) continue;
    if (!is_first) out->push_back(',');
    is_first = false;
    AppendQuoted(field->name(), out);
    out->push_back(':');
    if (!field->is_repeated()) {
      AppendValue(message, field, -1, out);
      continue;
    }
    out->push_back('[');
    const int size = message.GetReflection()->FieldSize(message, field);
    for (int i = 0; i < size; ++i) {
      if (i > 0) out->push_back(',');
      AppendValue(message, field, i, out);
    }
    out->push_back(']');
  }
  out->push_back('}');
}

}  // namespace

std::string WriteJsonMessage(const Message& message) {
  std::string json;
  AppendMessage(message, &json);
  return json;
}

}  // namespace fuseline
