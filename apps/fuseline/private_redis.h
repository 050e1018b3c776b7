#pragma once

#include <filesystem>
#include <string>

#include "fuseline/core/child_process.h"
#include "fuseline/core/status.h"

namespace fuseline {

// A redis-server of this process alone, on a Unix socket in `folder`, keeping nothing on disk. It ends with its owner.
class PrivateRedis {
 public:
  // Returns once it answers. Errors: kNotFound if redis-server is not installed, kUnavailable if it does not answer in 10 s;
  // the message names its log.
  static Result<PrivateRedis> Start(const std::filesystem::path& folder);

  const std::string& address() const { return address_; }  // unix:PATH

 private:
  PrivateRedis(ChildProcess process, std::string address) : process_(std::move(process)), address_(std::move(address)) {}
  ChildProcess process_;
  std::string address_;
};

}  // namespace fuseline
