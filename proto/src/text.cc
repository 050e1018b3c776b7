#include "text.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace fuseline {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<std::int8_t, 256> MakeDigits() {
  std::array<std::int8_t, 256> digits{};
  digits.fill(-1);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    digits[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::int8_t>(i);
  }
  return digits;
}
constexpr auto kDigits = MakeDigits();

}  // namespace

bool IsUtf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (text.size() - i >= sizeof(std::uint64_t)) {  // Ids are mostly ASCII.
      std::uint64_t eight = 0;
      std::memcpy(&eight, text.data() + i, sizeof(eight));
      if ((eight & 0x8080'8080'8080'8080) == 0) {
        i += sizeof(eight);
        continue;
      }
    }
    const auto first = static_cast<unsigned char>(text[i++]);
    if (first < 0x80) continue;
    if (first < 0xc2 || first > 0xf4) return false;  // A continuation, an overlong form, or beyond U+10FFFF.
    const int more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    // The second byte's range excludes overlong forms, surrogates and what is beyond U+10FFFF.
    unsigned char low = 0x80, high = 0xbf;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
    for (int k = 0; k < more; ++k) {
      if (i == text.size()) return false;
      const auto byte = static_cast<unsigned char>(text[i++]);
      if (byte < low || byte > high) return false;
      low = 0x80;
      high = 0xbf;
    }
  }
  return true;
}

std::string Shown(std::string_view text) {
  std::string shown(text.substr(0, 64));
  for (char& c : shown) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  if (text.size() > 64) shown += "...";
  return shown;
}

std::string ToBase64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      word = word << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text.push_back(i + k <= bytes.size() ? kAlphabet[word >> (18 - 6 * k) & 63] : '=');
    }
  }
  return text;
}

Result<std::string> FromBase64(std::string_view text) {
  const auto wrong = [] { return Error(Code::kInvalidInput, "not base64 with padding"); };
  if (text.size() % 4 != 0) return wrong();
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const int padding = !last || text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
    std::uint32_t word = 0;
    for (int k = 0; k < 4; ++k) {
      const int digit = k < 4 - padding ? kDigits[static_cast<unsigned char>(text[i + static_cast<std::size_t>(k)])] : 0;
      if (digit < 0) return wrong();
      word = word << 6 | static_cast<std::uint32_t>(digit);
    }
    if ((padding == 1 && (word & 0xff) != 0) || (padding == 2 && (word & 0xffff) != 0)) return wrong();
    for (int k = 0; k < 3 - padding; ++k) bytes.push_back(static_cast<char>(word >> (16 - 8 * k) & 0xff));
  }
  return bytes;
}

}  // namespace fuseline
