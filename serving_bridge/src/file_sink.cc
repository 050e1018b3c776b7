#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuseline/core/stage.h"
#include "fuseline/proto/event_codec.h"
#include "fuseline/serving_bridge/event_log.h"

namespace fuseline {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr auto kSyncEvery = std::chrono::seconds(1);
constexpr std::int64_t kLookMs = 2;  // Between two looks of Flush.

// Offsets below count bytes since the sink was opened.
class FileSink final : public EventLogSink {
 public:
  FileSink(int descriptor, bool is_fifo, bool ends_in_half_a_line, std::string path, Log& log)
      : descriptor_(descriptor),
        is_fifo_(is_fifo),
        path_(std::move(path)),
        log_(log),
        rest_(ends_in_half_a_line ? "\n" : "") {}
  ~FileSink() override { ::close(descriptor_); }

  // An event is taken once its first byte is in the file: what does not fit stays with the caller.
  Result<std::size_t> Write(std::span<const v1::Event> events) override {
    FUSELINE_FAIL_IF_ERROR(WriteRest());
    const std::uint64_t begin = in_file_;
    std::deque<std::uint64_t> ends;
    for (const v1::Event& event : events) {
      rest_ += EncodeEventJson(event);
      rest_ += '\n';
      ends.push_back(begin + rest_.size());
    }
    Status status = WriteRest();
    std::size_t taken = 0;
    while (taken < ends.size() && (taken == 0 ? begin : ends[taken - 1]) < in_file_) ends_.push_back(ends[taken++]);
    rest_.resize(taken == 0 ? 0 : ends[taken - 1] - in_file_);  // The end of a line that is half in the file.
    if (taken == 0) return tl::unexpected(std::move(status));
    return taken;
  }

  Settled Settle() override {
    (void)WriteRest();  // What is left over stays ours, and fails the next Write if it still cannot be written.
    if (is_fifo_ || SteadyClock::now() >= next_sync_) (void)Sync();
    return settled_;
  }

  Status Flush(std::int64_t patience_ms) override {
    const auto deadline = SteadyClock::now() + std::chrono::milliseconds(patience_ms);
    for (;;) {
      Status status = WriteRest();
      const Status synced = Sync();
      if (status.ok()) status = synced;
      if (ends_.empty()) return status;
      if (SteadyClock::now() >= deadline) {
        return status.ok() ? ErrorStatus(Code::kUnavailable, "nobody has read to the end of", path_) : status;
      }
      SleepFor(std::stop_token(), kLookMs);
    }
  }

 private:
  Status WriteRest() {
    while (!rest_.empty()) {
      const ssize_t written = ::write(descriptor_, rest_.data(), rest_.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0 && errno == EAGAIN) return ErrorStatus(Code::kUnavailable, "full, and nobody reads it:", path_);
      if (written < 0) return Failed("cannot write");
      in_file_ += static_cast<std::uint64_t>(written);
      rest_.erase(0, static_cast<std::size_t>(written));
    }
    return OkStatus();
  }

  // Settles what is in the file and safe there.
  Status Sync() {
    if (!ends_.empty() && ends_.front() <= in_file_) {
      if (is_fifo_) {
        int unread = 0;
        if (::ioctl(descriptor_, FIONREAD, &unread) != 0) return Failed("cannot ask how much was read from");
        settled_.written += SettledUpTo(in_file_ - std::min(in_file_, static_cast<std::uint64_t>(unread)));
      } else if (::fdatasync(descriptor_) == 0 || errno == EINVAL || errno == EROFS) {  // The latter: it has no disk.
        settled_.written += SettledUpTo(in_file_);
      } else {
        // The kernel forgets what it could not write: a second call that succeeds would mean nothing.
        Status failed = Failed("cannot sync");
        const std::uint64_t lost = SettledUpTo(in_file_);
        settled_.refused += lost;
        log_.Error("serving_bridge.events_unsynced", "events", lost, "why", failed.message);
        return failed;
      }
    }
    next_sync_ = SteadyClock::now() + kSyncEvery;
    return OkStatus();
  }

  // How many lines end at `offset` or before; they are forgotten.
  std::uint64_t SettledUpTo(std::uint64_t offset) {
    std::uint64_t lines = 0;
    for (; !ends_.empty() && ends_.front() <= offset; ++lines) ends_.pop_front();
    return lines;
  }

  Status Failed(std::string_view doing) const {
    return ErrorStatus(Code::kUnavailable, doing, path_, std::strerror(errno));
  }

  const int descriptor_;
  const bool is_fifo_;
  const std::string path_;
  Log& log_;
  std::string rest_;                // Of a line that is half in the file.
  std::uint64_t in_file_ = 0;       // Bytes that the kernel has.
  std::deque<std::uint64_t> ends_;  // Where the lines end that were taken and are not settled.
  Settled settled_;
  SteadyClock::time_point next_sync_;
};

bool EndsInHalfALine(const std::filesystem::path& path, off_t size) {
  if (size <= 0) return false;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;  // We may write and not read it.
  char last = '\n';
  const bool read = ::pread(descriptor, &last, 1, size - 1) == 1;
  ::close(descriptor);
  return read && last != '\n';
}

}  // namespace

Result<std::unique_ptr<EventLogSink>> OpenFileSink(const std::filesystem::path& path, Log& log) {
  struct stat file {};
  const bool is_fifo = ::stat(path.c_str(), &file) == 0 && S_ISFIFO(file.st_mode);
  // Without a reading end of our own a FIFO could only be opened beside a reader, and would raise SIGPIPE after the
  // last had gone.
  const int access = is_fifo ? O_RDWR : O_WRONLY | O_CREAT;
  const int descriptor = ::open(path.c_str(), access | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0644);
  if (descriptor < 0) return Error(Code::kUnavailable, "cannot open", path.string(), std::strerror(errno));
  const bool is_regular = ::fstat(descriptor, &file) == 0 && S_ISREG(file.st_mode);
  return std::make_unique<FileSink>(descriptor, is_fifo, is_regular && EndsInHalfALine(path, file.st_size),
                                    path.string(), log);
}

}  // namespace fuseline
