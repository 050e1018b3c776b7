#pragma once

// What tests say about Status and Result. In namespace fuseline, so that tests there need no
// using-declaration.
//   EXPECT_THAT(window.Add(event, now), IsOk());
//   EXPECT_THAT(DecodeEvent(bytes), HasCode(Code::kInvalidInput));
//   ASSERT_OK_AND_ASSIGN(const auto event, DecodeEvent(bytes));

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fuseline/core/status.h"

namespace fuseline {

namespace test {

inline Status StatusOf(const Status& status) { return status; }
template <typename T>
Status StatusOf(const Result<T>& result) {
  return result ? Status{} : result.error();
}

}  // namespace test

MATCHER(IsOk, negation ? "is an error" : "is OK") {
  const Status status = test::StatusOf(arg);
  if (!status.ok())
    *result_listener << "error " << static_cast<int>(status.code) << ": " << status.message;
  return status.ok();
}

// kOk is a code too.
MATCHER_P(HasCode, code,
          std::string(negation ? "has not" : "has") + " code " +
              std::to_string(static_cast<int>(code))) {
  const Status status = test::StatusOf(arg);
  *result_listener << "code " << static_cast<int>(status.code) << ": " << status.message;
  return status.code == code;
}

// The message contains `part`: for the key, file or line that it must name, not for its wording.
MATCHER_P(MessageNames, part, std::string(negation ? "does not name " : "names ") + part) {
  const Status status = test::StatusOf(arg);
  *result_listener << "message: " << status.message;
  return status.message.find(part) != std::string::npos;
}

}  // namespace fuseline

#define FUSELINE_TEST_CONCAT_INNER(a, b) a##b
#define FUSELINE_TEST_CONCAT(a, b) FUSELINE_TEST_CONCAT_INNER(a, b)

// Declares `declaration` from the value of a Result, or ends the test with its error.
#define ASSERT_OK_AND_ASSIGN(declaration, expression)                                          \
  FUSELINE_ASSERT_OK_AND_ASSIGN(FUSELINE_TEST_CONCAT(fuseline_result_, __LINE__), declaration, \
                                expression)
#define FUSELINE_ASSERT_OK_AND_ASSIGN(result, declaration, expression)              \
  auto result = (expression);                                                       \
  ASSERT_TRUE(result.has_value()) << #expression << ": " << result.error().message; \
  declaration = std::move(*result)
