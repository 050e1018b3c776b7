#include "letter_text.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "fuseline/core/digest.h"
#include "time_text.h"

namespace fuseline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kBytesPerLine = 16;

const char* FateText(const DeadLetter& letter) {
  return letter.fate == RecordFate::kQuarantined ? "quarantined" : "malformed";
}

std::string KeptText(const KeptLetter& kept) { return kept.kept_ms < 0 ? "-" : TimeText(kept.kept_ms); }

// What the decoder of today makes of the bytes, and how far it came.
struct Decoding {
  Status status;
  std::string event;  // JSON, or what was read before it stopped.
};

Decoding Decode(const std::string& bytes, const EventLimits& limits) {
  Decoding decoding;
  v1::Event event;
  decoding.status = DecodeEvent(bytes, limits, &event);
  if (decoding.status.ok()) {
    decoding.event = EncodeEventJson(event);
  } else if (!bytes.starts_with('{')) {
    event.Clear();
    (void)event.ParsePartialFromString(bytes);  // Keeps what stands before the fault.
    decoding.event = event.ShortDebugString();
  }
  return decoding;
}

Json ToJson(const KeptLetter& kept) {
  const DeadLetter& letter = kept.letter;
  Json json = {{"position", PositionText(letter)}, {"source", letter.source},
               {"partition", letter.partition},    {"offset", letter.offset},
               {"fate", FateText(letter)},         {"reason", letter.reason},
               {"size_bytes", letter.size_bytes},  {"kept_bytes", letter.bytes.size()}};
  if (letter.line > 0) json["line"] = letter.line;
  if (kept.kept_ms >= 0) json["kept_ms"] = kept.kept_ms;
  return json;
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string PositionText(const DeadLetter& letter) {
  return std::to_string(letter.partition) + ':' + std::to_string(letter.offset);
}

std::string LetterRow(const KeptLetter& kept) {
  const DeadLetter& letter = kept.letter;
  char columns[192];
  std::snprintf(columns, sizeof columns, "%-14s %-11s %8lld  %-24s  %s  ", PositionText(letter).c_str(),
                FateText(letter), static_cast<long long>(letter.size_bytes), KeptText(kept).c_str(),
                letter.source.substr(0, 64).c_str());
  return columns + letter.reason;
}

std::string LetterJson(const KeptLetter& kept) { return Dump(ToJson(kept)); }

std::string LetterPage(const KeptLetter& kept, const EventLimits& limits, std::size_t bytes_max) {
  const DeadLetter& letter = kept.letter;
  const Decoding decoding = Decode(letter.bytes, limits);
  std::string page = "letter    " + PositionText(letter) + " of " + letter.source;
  if (letter.line > 0) page += ", line " + std::to_string(letter.line);
  page += std::string("\nfate      ") + FateText(letter) + "\nreason    " + letter.reason + "\nkept      " +
          KeptText(kept) + "\nsize      " + std::to_string(letter.size_bytes) + " bytes" +
          (kept.is_cut() ? ", of which " + std::to_string(letter.bytes.size()) + " were kept" : "") + "\ndecodes   " +
          (decoding.status.ok() ? "now yes: the settings or the program have changed, or only its time was wrong"
                                : "no: " + decoding.status.message) +
          '\n';
  if (!decoding.event.empty()) page += (decoding.status.ok() ? "event     " : "as far as ") + decoding.event + '\n';
  page += HexDump(std::string_view(letter.bytes).substr(0, bytes_max));
  if (letter.bytes.size() > bytes_max)
    page += "and " + std::to_string(letter.bytes.size() - bytes_max) + " bytes more; --bytes shows them\n";
  return page;
}

std::string LetterPageJson(const KeptLetter& kept, const EventLimits& limits) {
  const Decoding decoding = Decode(kept.letter.bytes, limits);
  Json json = ToJson(kept);
  json["decodes"] = decoding.status.ok();
  if (!decoding.status.ok()) json["decode_error"] = decoding.status.message;
  if (!decoding.event.empty())
    json["event"] = decoding.status.ok() ? Json::parse(decoding.event) : Json(decoding.event);
  json["bytes_hex"] = ToHex(kept.letter.bytes);
  return Dump(json);
}

std::string HexDump(std::string_view bytes) {
  std::string dump;
  for (std::size_t at = 0; at < bytes.size(); at += kBytesPerLine) {
    const std::string_view line = bytes.substr(at, kBytesPerLine);
    char text[24];
    std::snprintf(text, sizeof text, "%08zx ", at);
    dump += text;
    std::string printable;
    for (std::size_t i = 0; i < kBytesPerLine; ++i) {
      std::snprintf(text, sizeof text, " %02x", i < line.size() ? static_cast<unsigned char>(line[i]) : 0U);
      dump += i < line.size() ? text : "   ";
      if (i < line.size()) printable += std::isprint(static_cast<unsigned char>(line[i])) != 0 ? line[i] : '.';
    }
    dump += "  |" + printable + "|\n";
  }
  return dump;
}

}  // namespace fuseline
