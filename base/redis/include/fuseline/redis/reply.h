#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fuseline {

// One answer of Redis, by value and binary safe. Status lines ("+OK") are strings.
struct RedisReply {
  enum class Kind { kNil, kString, kInteger, kArray, kError };
  Kind kind = Kind::kNil;
  std::string text;  // Of kString and kError.
  std::int64_t integer = 0;
  std::vector<RedisReply> elements;  // Of kArray.

  bool is_nil() const { return kind == Kind::kNil; }
  bool is_string() const { return kind == Kind::kString; }
  bool is_integer() const { return kind == Kind::kInteger; }
  bool is_array() const { return kind == Kind::kArray; }
};

// One entry of a stream: its id ("milliseconds-sequence") and its fields in the order in which they were added.
struct RedisStreamEntry {
  std::string id;
  std::vector<std::pair<std::string, std::string>> fields;
};

}  // namespace fuseline
