#include "error_reply.h"

#include <algorithm>
#include <array>

namespace fuseline {
namespace {

constexpr std::array<std::string_view, 9> kPassing = {"LOADING", "READONLY", "MASTERDOWN",  "BUSY", "OOM",
                                                      "MISCONF", "TRYAGAIN", "CLUSTERDOWN", "ASK"};
constexpr std::array<std::string_view, 3> kCredentials = {"NOAUTH", "WRONGPASS", "NOPERM"};

std::string_view WordOf(std::string_view text) { return text.substr(0, text.find(' ')); }

bool Holds(const auto& words, std::string_view word) { return std::find(words.begin(), words.end(), word) != words.end(); }

}  // namespace

Status StatusOfErrorReply(std::string_view text) {
  const std::string_view word = WordOf(text);
  if (word == "REFUSED") return ErrorStatus(Code::kConflict, "redis script refused:", text.substr(std::min(text.size(), word.size() + 1)));
  if (word == "ABSENT") return ErrorStatus(Code::kNotFound, "redis lacks:", text.substr(std::min(text.size(), word.size() + 1)));
  if (Holds(kPassing, word)) return ErrorStatus(Code::kUnavailable, "redis answered:", text);
  if (Holds(kCredentials, word)) {
    return ErrorStatus(Code::kInvalidInput, "redis refuses the credentials (redis.user, redis.password):", text);
  }
  return ErrorStatus(Code::kInternal, "redis answered:", text);
}

bool AsksForAnotherServer(std::string_view text) {
  const std::string_view word = WordOf(text);
  return word == "READONLY" || word == "MASTERDOWN";
}

}  // namespace fuseline
