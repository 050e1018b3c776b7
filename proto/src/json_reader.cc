#include "json_message.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <nlohmann/json.hpp>

#include "text.h"

namespace fuseline {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// One scalar, put where the current key says.
class Slot {
 public:
  Slot(Message* message, const FieldDescriptor* field)
      : message_(message), field_(field), reflection_(message->GetReflection()) {}

  void Put(bool v) { Choose(v, &Reflection::SetBool, &Reflection::AddBool); }
  void Put(std::int32_t v) { Choose(v, &Reflection::SetInt32, &Reflection::AddInt32); }
  void Put(std::uint32_t v) { Choose(v, &Reflection::SetUInt32, &Reflection::AddUInt32); }
  void Put(std::int64_t v) { Choose(v, &Reflection::SetInt64, &Reflection::AddInt64); }
  void Put(std::uint64_t v) { Choose(v, &Reflection::SetUInt64, &Reflection::AddUInt64); }
  void Put(float v) { Choose(v, &Reflection::SetFloat, &Reflection::AddFloat); }
  void Put(double v) { Choose(v, &Reflection::SetDouble, &Reflection::AddDouble); }
  void Put(std::string v) {
    if (field_->is_repeated()) {
      reflection_->AddString(message_, field_, std::move(v));
    } else {
      reflection_->SetString(message_, field_, std::move(v));
    }
  }
  void PutEnum(const google::protobuf::EnumValueDescriptor* v) { Choose(v, &Reflection::SetEnum, &Reflection::AddEnum); }

 private:
  template <typename T>
  using Setter = void (Reflection::*)(Message*, const FieldDescriptor*, T) const;
  template <typename T>
  void Choose(T value, Setter<T> set, Setter<T> add) {
    (reflection_->*(field_->is_repeated() ? add : set))(message_, field_, value);
  }

  Message* message_;
  const FieldDescriptor* field_;
  const Reflection* reflection_;
};

// Receives the parser's events (nlohmann's SAX interface: its names, false stops it).
class Reader {
 public:
  Reader(Message* root, int max_depth, std::string_view json) : root_(root), max_depth_(max_depth), json_(json) {}

  const Status& status() const { return status_; }

  bool null() { return Refuse("is null"); }
  bool boolean(bool value) {
    if (!ExpectsScalar()) return false;
    if (field()->cpp_type() != FieldDescriptor::CPPTYPE_BOOL) return WrongType();
    slot().Put(value);
    return true;
  }
  bool number_integer(std::int64_t value) { return ExpectsScalar() && Integer(value); }
  bool number_unsigned(std::uint64_t value) { return ExpectsScalar() && Integer(value); }
  bool number_float(double value, const std::string& text);
  bool string(std::string& value);
  bool binary(nlohmann::json::binary_t&) { return WrongType(); }
  bool start_object(std::size_t);
  bool key(std::string& name);
  bool end_object() {
    frames_.pop_back();
    return true;
  }
  bool start_array(std::size_t) {
    if (frames_.empty()) return Refuse("is not an object");
    if (!field()->is_repeated() || frames_.back().in_array) return WrongType();
    frames_.back().in_array = true;
    return true;
  }
  bool end_array() {
    frames_.back().in_array = false;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error);

 private:
  struct Frame {
    Message* message;
    const FieldDescriptor* field = nullptr;  // Of the last key.
    bool in_array = false;
    std::uint64_t seen = 0;  // One bit per field.
  };

  const FieldDescriptor* field() const { return frames_.back().field; }
  Slot slot() const { return {frames_.back().message, field()}; }

  bool ExpectsScalar() {
    if (frames_.empty()) return Refuse("is not an object");
    if (field()->is_repeated() && !frames_.back().in_array) return WrongType();
    return true;
  }
  template <typename Given>
  bool Integer(Given value);
  template <typename Wanted, typename Given>
  bool Ranged(Given value) {
    if (!std::in_range<Wanted>(value)) return Refuse("is out of range:", value);
    slot().Put(static_cast<Wanted>(value));
    return true;
  }
  template <typename Wanted>
  bool Quoted(const std::string& text) {
    Wanted value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return Refuse("is no integer in range:", Shown(text));
    slot().Put(value);
    return true;
  }

  bool WrongType() { return Refuse("has the wrong type; expected", Expected()); }
  std::string Expected() const;
  std::string Path() const;
  template <typename... Values>
  bool Refuse(std::string_view what, const Values&... values) {
    status_ = ErrorStatus(Code::kInvalidInput, Path(), what, values...);
    return false;
  }

  Message* root_;
  int max_depth_;
  std::string_view json_;
  std::vector<Frame> frames_;
  Status status_;
};

template <typename Given>
bool Reader::Integer(Given value) {
  switch (field()->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: return Ranged<std::int32_t>(value);
    case FieldDescriptor::CPPTYPE_UINT32: return Ranged<std::uint32_t>(value);
    case FieldDescriptor::CPPTYPE_INT64: return Ranged<std::int64_t>(value);
    case FieldDescriptor::CPPTYPE_UINT64: return Ranged<std::uint64_t>(value);
    case FieldDescriptor::CPPTYPE_FLOAT: slot().Put(static_cast<float>(value)); return true;
    case FieldDescriptor::CPPTYPE_DOUBLE: slot().Put(static_cast<double>(value)); return true;
    default: return WrongType();
  }
}

bool Reader::number_float(double value, const std::string& text) {
  if (!ExpectsScalar()) return false;
  if (field()->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    slot().Put(value);
    return true;
  }
  if (field()->cpp_type() != FieldDescriptor::CPPTYPE_FLOAT) return WrongType();
  // From the text, not from `value`: rounding to double and then to float may miss the nearest float.
  float nearest = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), nearest);
  if (error == std::errc::result_out_of_range) {
    if (std::fabs(value) > 1) return Refuse("is out of range:", text);
    nearest = 0;  // Too small for a float is not an error.
  }
  slot().Put(nearest);
  return true;
}

bool Reader::string(std::string& value) {
  if (!ExpectsScalar()) return false;
  switch (field()->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64: return Quoted<std::int64_t>(value);
    case FieldDescriptor::CPPTYPE_UINT64: return Quoted<std::uint64_t>(value);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* enumerator = field()->enum_type()->FindValueByName(value);
      if (enumerator == nullptr) return Refuse("has an unknown enumerator:", Shown(value));
      slot().PutEnum(enumerator);
      return true;
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      if (field()->type() != FieldDescriptor::TYPE_BYTES) {
        slot().Put(std::move(value));
        return true;
      }
      auto bytes = FromBase64(value);
      if (!bytes) return Refuse("is", bytes.error().message);
      slot().Put(*std::move(bytes));
      return true;
    }
    default: return WrongType();
  }
}

bool Reader::start_object(std::size_t) {
  if (frames_.empty()) {
    frames_.push_back({root_});
    return true;
  }
  if (field()->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return WrongType();
  if (!ExpectsScalar()) return false;
  if (frames_.size() >= static_cast<std::size_t>(max_depth_)) return Refuse("is nested deeper than", max_depth_);
  Message* parent = frames_.back().message;
  const Reflection* reflection = parent->GetReflection();
  frames_.push_back({field()->is_repeated() ? reflection->AddMessage(parent, field())
                                            : reflection->MutableMessage(parent, field())});
  return true;
}

bool Reader::key(std::string& name) {
  Frame& frame = frames_.back();
  frame.field = nullptr;
  const Descriptor* type = frame.message->GetDescriptor();
  const FieldDescriptor* found = type->FindFieldByName(name);
  if (found == nullptr) return Refuse("has an unknown key:", Shown(name));
  const std::uint64_t bit = std::uint64_t{1} << found->index();
  if ((frame.seen & bit) != 0) return Refuse("has the same key twice:", name);
  frame.seen |= bit;
  if (const auto* choice = found->real_containing_oneof(); choice != nullptr) {
    for (int i = 0; i < choice->field_count(); ++i) {
      if (choice->field(i) != found && (frame.seen >> choice->field(i)->index() & 1) != 0) {
        return Refuse("has two keys of which only one may stand:", choice->field(i)->name(), name);
      }
    }
  }
  frame.field = found;
  return true;
}

bool Reader::parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) {
  constexpr int kNumberOverflow = 406;  // Documented id of the library's out_of_range for "1e999".
  if (error.id == kNumberOverflow) return Refuse("is out of range");
  if (!IsUtf8(json_)) return Refuse("is not UTF-8, found at or before byte", position);
  if (position > json_.size()) return Refuse("ends too early: truncated JSON");
  return Refuse("is not valid JSON at byte", position);
}

std::string Reader::Expected() const {
  if (field()->is_repeated() && !frames_.back().in_array) return "an array";
  switch (field()->cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE: return "an object";
    case FieldDescriptor::CPPTYPE_STRING: return "a string";
    case FieldDescriptor::CPPTYPE_ENUM: return "the name of an enumerator";
    case FieldDescriptor::CPPTYPE_BOOL: return "true or false";
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE: return "a number";
    default: return "an integer";
  }
}

std::string Reader::Path() const {
  std::string path;
  for (const auto& frame : frames_) {
    if (frame.field == nullptr) break;
    if (!path.empty()) path += '.';
    path += frame.field->name();
    if (!frame.in_array) continue;
    const int size = frame.message->GetReflection()->FieldSize(*frame.message, frame.field);
    // An object in an array has been added when its fields are read; a scalar not yet.
    const bool is_inside = &frame != &frames_.back();
    path += '[' + std::to_string(is_inside ? size - 1 : size) + ']';
  }
  return path.empty() ? root_->GetDescriptor()->name() : path;
}

}  // namespace

Status ReadJsonMessage(std::string_view json, int max_depth, Message* message) {
  message->Clear();
  // The parser takes a NUL byte for the end of its input, and what is behind it would pass unread.
  if (const auto at = json.find('\0'); at != std::string_view::npos) {
    return ErrorStatus(Code::kInvalidInput, message->GetDescriptor()->name(), "has a NUL byte at", at);
  }
  Reader reader(message, max_depth, json);
  const bool is_read = nlohmann::json::sax_parse(json.data(), json.data() + json.size(), &reader,
                                                 nlohmann::json::input_format_t::json, /*strict=*/true);
  if (!is_read && reader.status().ok()) return ErrorStatus(Code::kInvalidInput, "not valid JSON");
  return reader.status();
}

}  // namespace fuseline
