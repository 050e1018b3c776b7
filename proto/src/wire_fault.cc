#include "wire_fault.h"

#include <vector>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/unknown_field_set.h>
#include <google/protobuf/wire_format_lite.h>

#include "text.h"

namespace fuseline {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

std::string Named(const std::string& path, const FieldDescriptor* field, std::uint32_t tag) {
  const std::string name =
      field != nullptr ? field->name() : "field number " + std::to_string(WireFormatLite::GetTagFieldNumber(tag));
  return path.empty() ? name : path + '.' + name;
}

std::string FaultIn(std::string_view bytes, const Descriptor& type, int depth_left, const std::string& path) {
  CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
  while (static_cast<std::size_t>(in.CurrentPosition()) < bytes.size()) {
    const std::uint32_t tag = in.ReadTagNoLastTag();
    if (WireFormatLite::GetTagFieldNumber(tag) == 0) {
      return (path.empty() ? type.name() : path) + " holds bytes that are no field at byte " + std::to_string(in.CurrentPosition());
    }
    const auto* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&in, tag)) return Named(path, field, tag) + " is truncated or no value of protobuf";
      continue;
    }
    int size = 0;
    if (!in.ReadVarintSizeAsInt(&size) || size > static_cast<int>(bytes.size()) - in.CurrentPosition()) {
      return Named(path, field, tag) + " is truncated";
    }
    const auto inner = bytes.substr(static_cast<std::size_t>(in.CurrentPosition()), static_cast<std::size_t>(size));
    in.Skip(size);
    if (field == nullptr) continue;
    if (field->type() == FieldDescriptor::TYPE_STRING && !IsUtf8(inner)) return Named(path, field, tag) + " is not UTF-8";
    if (field->type() != FieldDescriptor::TYPE_MESSAGE) continue;
    if (depth_left == 0) return Named(path, field, tag) + " is nested too deep";
    if (auto fault = FaultIn(inner, *field->message_type(), depth_left - 1, Named(path, field, tag)); !fault.empty()) {
      return fault;
    }
  }
  return "";
}

}  // namespace

std::string WireFault(std::string_view bytes, const Descriptor& type, int max_depth) {
  auto fault = FaultIn(bytes, type, max_depth, "");
  return fault.empty() ? type.name() + " has a packed or nested field that is no protobuf" : fault;
}

std::string MistypedField(const Message& message) {
  const auto& unknown = message.GetReflection()->GetUnknownFields(message);
  for (int i = 0; i < unknown.field_count(); ++i) {
    if (const auto* field = message.GetDescriptor()->FindFieldByNumber(unknown.field(i).number())) return field->name();
  }
  return "";
}

}  // namespace fuseline
