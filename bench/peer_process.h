#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "fuseline/core/child_process.h"
#include "fuseline/core/status.h"
#include "fuseline/test_support/temp_dir.h"

namespace fuseline::bench {

// A foreign program that is measured beside ours (bench/peers): it says `ready`, then answers each line of its input
// with one line, and ends with its input. One process makes all passes, so that what it compiles while running is
// compiled. Thread-compatible.
class PeerProcess {
 public:
  // Runs bench/peers/`script` with these arguments. Errors: kNotFound if the peer was not built (`make bench-peers`).
  static Result<std::unique_ptr<PeerProcess>> Start(const std::string& script, const std::string& arguments = "");
  ~PeerProcess();

  Result<std::string> Ask(const std::string& command);  // The answer, without its end of line.

 private:
  PeerProcess() = default;
  Result<std::string> NextLine();

  test::TempDir folder_;  // Outlives the process.
  int commands_ = -1;
  std::size_t answers_read_ = 0;  // Bytes of its output.
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace fuseline::bench
