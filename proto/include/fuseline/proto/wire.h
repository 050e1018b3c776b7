#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace fuseline::wire {

// The protobuf encoding by hand, for the paths where a message object per record costs more than all the rest.

static_assert(std::endian::native == std::endian::little, "fixed-width fields are read and written as they lie in memory");

enum class Type : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

constexpr std::uint32_t Tag(std::uint32_t field, Type type) { return field << 3 | static_cast<std::uint32_t>(type); }

// Reads a varint of 64 bits from [at, end). Returns what is behind it; null if it is none, or not whole.
inline const char* ParseVarint(const char* at, const char* end, std::uint64_t* value) {
  if (at != end && static_cast<unsigned char>(*at) < 0x80) {  // Nearly all are one byte long.
    *value = static_cast<unsigned char>(*at);
    return at + 1;
  }
  *value = 0;
  for (int shift = 0; shift < 70 && at != end; shift += 7) {
    const auto byte = static_cast<unsigned char>(*at++);
    if (shift == 63 && byte > 1) return nullptr;
    *value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return at;
  }
  return nullptr;
}

// Walks over the fields of one serialised message, in the order in which they lie. Reads hostile bytes; allocates nothing.
//
// It gives up on what no producer writes today: groups, wire types that do not exist, numbers longer than they can be.
// What it gives, a protobuf parser reads the same way.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  // Moves on to the next field. False at the end, or where the reader gives up: then ok() is false.
  // In line, so that a walk keeps in registers where it is: a call for each field costs three times as much.
  [[gnu::always_inline]] inline bool Next() {
    if (at_ == end_) return false;
    if (!Short(&tag_) || field() == 0) return Fail();
    switch (static_cast<Type>(tag_ & 7)) {
      case Type::kVarint: return Long(&number_) || Fail();
      case Type::kFixed64: return Fixed(sizeof(std::uint64_t)) || Fail();
      case Type::kFixed32: return Fixed(sizeof(std::uint32_t)) || Fail();
      case Type::kBytes: return Bytes() || Fail();
    }
    return Fail();
  }
  bool ok() const { return ok_; }

  // Of the field that Next moved to.
  std::uint32_t tag() const { return tag_; }
  std::uint32_t field() const { return tag_ >> 3; }
  std::uint64_t number() const { return number_; }     // Of any type but kBytes; fixed ones by their bits.
  std::string_view bytes() const { return bytes_; }    // Of kBytes.

 private:
  bool Fail() {
    ok_ = false;
    return false;
  }
  // A varint of 32 bits, in at most 5 bytes.
  bool Short(std::uint32_t* value) {
    std::uint64_t wide = 0;
    const char* const start = at_;
    if (!Long(&wide) || at_ - start > 5 || wide > 0xFFFF'FFFF) return false;
    *value = static_cast<std::uint32_t>(wide);
    return true;
  }
  bool Long(std::uint64_t* value) {
    const char* const behind = ParseVarint(at_, end_, value);
    if (behind == nullptr) return false;
    at_ = behind;
    return true;
  }
  bool Fixed(std::size_t size) {
    if (static_cast<std::size_t>(end_ - at_) < size) return false;
    number_ = 0;
    std::memcpy(&number_, at_, size);
    at_ += size;
    return true;
  }
  bool Bytes() {
    std::uint32_t size = 0;
    if (!Short(&size) || size > static_cast<std::size_t>(end_ - at_)) return false;
    bytes_ = {at_, size};
    at_ += size;
    return true;
  }

  const char* at_;
  const char* end_;
  std::uint32_t tag_ = 0;
  std::uint64_t number_ = 0;
  std::string_view bytes_;
  bool ok_ = true;
};

inline void AppendVarint(std::uint64_t value, std::string* bytes) {
  for (; value >= 0x80; value >>= 7) bytes->push_back(static_cast<char>(value | 0x80));
  bytes->push_back(static_cast<char>(value));
}

inline void AppendNumber(std::uint32_t field, std::uint64_t value, std::string* bytes) {
  AppendVarint(Tag(field, Type::kVarint), bytes);
  AppendVarint(value, bytes);
}

inline void AppendBytes(std::uint32_t field, std::string_view value, std::string* bytes) {
  AppendVarint(Tag(field, Type::kBytes), bytes);
  AppendVarint(value.size(), bytes);
  bytes->append(value);
}

}  // namespace fuseline::wire
