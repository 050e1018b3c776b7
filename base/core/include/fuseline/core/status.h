#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace fuseline {

// What the caller does next; what went wrong is the message. A new code needs a caller that acts on it differently.
enum class Code {
  kOk,
  kInvalidInput,  // This record or argument is bad: count it, dead-letter it, go on.
  kNotFound,      // Absent, often normal: branch.
  kUnavailable,   // A neighbour is slow or down: stop reading upstream, back off with jitter, retry.
  kConflict,      // Someone moved the version: reload, decide again, once.
  kCorrupt,       // Stored bytes contradict themselves: set aside, alarm; rebuild a cache, otherwise stop the room.
  kInternal,      // Our bug: stop the process.
};

std::string_view CodeName(Code code);

// Why something could not be done.
struct [[nodiscard]] Status {
  Code code = Code::kOk;
  std::string message;
  bool ok() const { return code == Code::kOk; }
};

inline Status OkStatus() { return {}; }

// Either a T or the Status saying why there is none.
template <typename T>
using Result = tl::expected<T, Status>;

// The message of an error: static text first, values last, separated by blanks.
template <typename... Values>
Status ErrorStatus(Code code, std::string_view text, const Values&... values) {
  std::ostringstream message;
  message << text;
  ((message << ' ' << values), ...);
  return {code, std::move(message).str()};
}

// The same, for a function that returns Result.
template <typename... Values>
tl::unexpected<Status> Error(Code code, std::string_view text, const Values&... values) {
  return tl::unexpected<Status>(ErrorStatus(code, text, values...));
}

}  // namespace fuseline

#define FUSELINE_CONCAT_INNER(a, b) a##b
#define FUSELINE_CONCAT(a, b) FUSELINE_CONCAT_INNER(a, b)

// In a function that returns Status: hands on a Status that is not ok.
#define FUSELINE_RETURN_IF_ERROR(expression)                          \
  do {                                                                \
    if (::fuseline::Status fuseline_status = (expression); !fuseline_status.ok()) return fuseline_status; \
  } while (false)

// In a function that returns Result: hands on a Status that is not ok.
#define FUSELINE_FAIL_IF_ERROR(expression)                            \
  do {                                                                \
    if (::fuseline::Status fuseline_status = (expression); !fuseline_status.ok()) \
      return ::tl::unexpected<::fuseline::Status>(std::move(fuseline_status));    \
  } while (false)

// In a function that returns Result: `declaration` gets the value, or the error is handed on.
#define FUSELINE_ASSIGN_OR_FAIL(declaration, expression) \
  FUSELINE_ASSIGN_OR_FAIL_INNER(FUSELINE_CONCAT(fuseline_result_, __LINE__), declaration, expression)
#define FUSELINE_ASSIGN_OR_FAIL_INNER(result, declaration, expression)            \
  auto result = (expression);                                                     \
  if (!result) return ::tl::unexpected<::fuseline::Status>(std::move(result).error()); \
  declaration = *std::move(result)

// In a function that returns Status: the same.
#define FUSELINE_ASSIGN_OR_RETURN(declaration, expression) \
  FUSELINE_ASSIGN_OR_RETURN_INNER(FUSELINE_CONCAT(fuseline_result_, __LINE__), declaration, expression)
#define FUSELINE_ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                            \
  if (!result) return std::move(result).error();                         \
  declaration = *std::move(result)
