#pragma once

#include <exception>
#include <string_view>
#include <utility>

#include "fuseline/core/status.h"

namespace fuseline {

// The one place where LibTorch's exceptions become statuses. `body` returns Result<T>.
template <typename Body>
auto CatchTorch(std::string_view doing, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const std::exception& error) {
    return Error(Code::kInternal, doing, error.what());
  }
}

}  // namespace fuseline
