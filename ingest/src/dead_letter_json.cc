#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuseline/ingest/dead_letter.h"

namespace fuseline {
namespace {

// Length of the UTF-8 sequence that `text` starts with; 0 if it is none (overlong forms and surrogates included).
std::size_t Utf8Length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t length = byte(0) < 0x80 ? 1 : byte(0) < 0xC2 ? 0 : byte(0) < 0xE0 ? 2 : byte(0) < 0xF0 ? 3 : byte(0) < 0xF5 ? 4 : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (byte(0) == 0xE0 && byte(1) < 0xA0) return 0;
  if (byte(0) == 0xED && byte(1) > 0x9F) return 0;
  if (byte(0) == 0xF0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

// How much of the beginning goes into JSON as it is, most of what there is to say.
std::size_t PlainLength(std::string_view text) {
  const auto is_plain = [](char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; };
  return static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), is_plain) - text.begin());
}

// A reason may quote hostile bytes, so what is not UTF-8 becomes U+FFFD.
void AppendString(std::string_view text, std::string* json) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  json->push_back('"');
  while (!text.empty()) {
    const std::size_t length = Utf8Length(text);
    const char first = text.front();
    if (length == 0) {
      json->append("\\ufffd");
    } else if (first == '"' || first == '\\') {
      json->append({'\\', first});
    } else if (static_cast<unsigned char>(first) < 0x20) {
      json->append("\\u00").append({kDigits[static_cast<std::size_t>(first) >> 4], kDigits[static_cast<std::size_t>(first) & 15]});
    } else {
      json->append(text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
    const std::size_t plain = PlainLength(text);
    json->append(text.substr(0, plain));
    text.remove_prefix(plain);
  }
  json->push_back('"');
}

void AppendBase64(std::string_view bytes, std::string* json) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::size_t begin = json->size();
  json->resize(begin + (bytes.size() + 2) / 3 * 4, '=');
  char* out = json->data() + begin;
  const auto byte = [&](std::size_t i) -> std::uint32_t { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0; };
  for (std::size_t i = 0; i < bytes.size(); i += 3, out += 4) {
    const std::uint32_t group = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    out[0] = kAlphabet[group >> 18];
    out[1] = kAlphabet[group >> 12 & 63];
    if (i + 1 < bytes.size()) out[2] = kAlphabet[group >> 6 & 63];
    if (i + 2 < bytes.size()) out[3] = kAlphabet[group & 63];
  }
}

}  // namespace

std::string EncodeDeadLetterJson(const DeadLetter& letter) {
  std::string json = "{\"source\":";
  json.reserve(256 + letter.bytes.size() * 4 / 3);
  AppendString(letter.source, &json);
  json.append(",\"partition\":").append(std::to_string(letter.partition));
  json.append(",\"offset\":").append(std::to_string(letter.offset));
  if (letter.line > 0) json.append(",\"line\":").append(std::to_string(letter.line));
  json.append(letter.fate == RecordFate::kQuarantined ? ",\"fate\":\"quarantined\"" : ",\"fate\":\"malformed\"");
  json.append(",\"reason\":");
  AppendString(letter.reason, &json);
  json.append(",\"size_bytes\":").append(std::to_string(letter.size_bytes));
  json.append(",\"bytes\":\"");
  AppendBase64(letter.bytes, &json);
  return json.append("\"}");
}

}  // namespace fuseline
