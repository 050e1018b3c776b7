#pragma once

#include <functional>
#include <string>

#include "fuseline/core/child_process.h"
#include "fuseline/core/status.h"

namespace fuseline::test {

// What starting a server for a test takes, beside core's ChildProcess.

// A loopback TCP port that nothing listens on at the moment of the call. Somebody else may take it
// before it is used, so whoever starts a server on it is ready to try another one.
int FreePort();

// Asks `ready` every few milliseconds until it says yes, `process` has ended or `patience_ms` have
// passed. Errors: kUnavailable, with the last lines of `output_path`.
Status WaitUntilReady(ChildProcess& process, const std::string& output_path, int patience_ms,
                      const std::function<bool()>& ready);

// The last `lines_max` lines of a file, for messages; empty if there is none.
std::string TailOfFile(const std::string& path, int lines_max);

}  // namespace fuseline::test
