#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "fuseline/core/status.h"

namespace fuseline {

// The plain bytes of a file, whatever its compression: by its name, .gz, .zst or none; "-" is standard input.
// Files of several gzip members or zstd frames are read through. One owner thread.
class ByteStream {
 public:
  // Errors: kNotFound if it cannot be opened, kInvalidInput for a folder.
  static Result<std::unique_ptr<ByteStream>> Open(const std::string& path);
  virtual ~ByteStream() = default;

  // Up to `size` bytes; 0 at the end. REQUIRES: size > 0.
  // Errors: kCorrupt if the compressed stream is damaged or cut short, kUnavailable if the disk fails.
  virtual Result<std::size_t> Read(char* into, std::size_t size) = 0;

  virtual std::int64_t bytes_read() const = 0;  // Of the file as it lies on disk.
};

}  // namespace fuseline
