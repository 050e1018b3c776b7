#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "fuseline/proto/event_codec.h"
#include "fuseline/serving_bridge/event_log.h"

namespace fuseline {
namespace {

class FileSink final : public EventLogSink {
 public:
  FileSink(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  ~FileSink() override { ::close(descriptor_); }

  Result<std::size_t> Write(std::span<const v1::Event> events) override {
    FUSELINE_FAIL_IF_ERROR(Drain());
    for (const v1::Event& event : events) {
      rest_ += EncodeEventJson(event);
      rest_ += '\n';
    }
    (void)Drain();  // What is left over stays ours, and fails the next call if it still cannot be written.
    return events.size();
  }

  Status Flush() override {
    FUSELINE_RETURN_IF_ERROR(Drain());
    if (::fsync(descriptor_) == 0 || errno == EINVAL) return OkStatus();  // EINVAL: a pipe or terminal.
    return Failed("cannot sync");
  }

 private:
  Status Drain() {
    while (!rest_.empty()) {
      const ssize_t written = ::write(descriptor_, rest_.data(), rest_.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Failed("cannot write");
      rest_.erase(0, static_cast<std::size_t>(written));
    }
    return OkStatus();
  }

  Status Failed(std::string_view doing) const {
    return ErrorStatus(Code::kUnavailable, doing, path_, std::strerror(errno));
  }

  const int descriptor_;
  const std::string path_;
  std::string rest_;  // Taken, and not yet in the file.
};

}  // namespace

Result<std::unique_ptr<EventLogSink>> OpenFileSink(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor < 0) return Error(Code::kUnavailable, "cannot open", path.string(), std::strerror(errno));
  return std::make_unique<FileSink>(descriptor, path.string());
}

}  // namespace fuseline
