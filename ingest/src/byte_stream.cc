#include "byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "fuseline/core/check.h"

namespace fuseline {
namespace {

constexpr std::size_t kInputBytes = 64 << 10;
constexpr int kZstdWindowLogMax = 27;  // 128 MiB: what the zstd tool takes without --long.

class PlainStream final : public ByteStream {
 public:
  PlainStream(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  ~PlainStream() override {
    if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
  }

  Result<std::size_t> Read(char* into, std::size_t size) override {
    for (;;) {
      const ssize_t taken = ::read(descriptor_, into, size);
      if (taken < 0 && errno == EINTR) continue;
      if (taken < 0) return Error(Code::kUnavailable, "cannot read", path_, std::strerror(errno));
      bytes_read_ += taken;
      return static_cast<std::size_t>(taken);
    }
  }
  std::int64_t bytes_read() const override { return bytes_read_; }

 private:
  const int descriptor_;
  const std::string path_;
  std::int64_t bytes_read_ = 0;
};

// Compressed bytes waiting to be decoded.
class Input {
 public:
  explicit Input(std::unique_ptr<ByteStream> file) : file_(std::move(file)), buffer_(kInputBytes) {}

  // Reads on if nothing is waiting. Returns false at the end of the file.
  Result<bool> Fill() {
    if (at_ < size_) return true;
    FUSELINE_ASSIGN_OR_FAIL(size_, file_->Read(buffer_.data(), buffer_.size()));
    at_ = 0;
    return size_ > 0;
  }
  char* data() { return buffer_.data() + at_; }
  std::size_t size() const { return size_ - at_; }
  void Consume(std::size_t count) { at_ += count; }
  std::int64_t bytes_read() const { return file_->bytes_read(); }

 private:
  std::unique_ptr<ByteStream> file_;
  std::vector<char> buffer_;
  std::size_t at_ = 0;
  std::size_t size_ = 0;
};

class GzipStream final : public ByteStream {
 public:
  explicit GzipStream(std::unique_ptr<ByteStream> file) : input_(std::move(file)) {
    FUSELINE_CHECK(inflateInit2(&inflater_, MAX_WBITS + 16) == Z_OK);  // +16: gzip's frame, not zlib's.
  }
  ~GzipStream() override { inflateEnd(&inflater_); }

  Result<std::size_t> Read(char* into, std::size_t size) override {
    for (;;) {
      FUSELINE_ASSIGN_OR_FAIL(const bool more, input_.Fill());
      if (!more && inside_member_) return Error(Code::kCorrupt, "gzip stream is cut short");
      if (!more) return 0;
      inside_member_ = true;
      inflater_.next_in = reinterpret_cast<Bytef*>(input_.data());
      inflater_.avail_in = static_cast<uInt>(input_.size());
      inflater_.next_out = reinterpret_cast<Bytef*>(into);
      inflater_.avail_out = static_cast<uInt>(std::min<std::size_t>(size, kInputBytes));
      const uInt room = inflater_.avail_out;
      const int outcome = inflate(&inflater_, Z_NO_FLUSH);
      input_.Consume(input_.size() - inflater_.avail_in);
      if (outcome == Z_STREAM_END) {
        inside_member_ = false;
        inflateReset(&inflater_);
      } else if (outcome != Z_OK && outcome != Z_BUF_ERROR) {
        return Error(Code::kCorrupt, "gzip stream is damaged");
      }
      if (room > inflater_.avail_out) return room - inflater_.avail_out;
    }
  }
  std::int64_t bytes_read() const override { return input_.bytes_read(); }

 private:
  Input input_;
  z_stream inflater_ = {};
  bool inside_member_ = true;  // An empty file is no gzip file.
};

class ZstdStream final : public ByteStream {
 public:
  explicit ZstdStream(std::unique_ptr<ByteStream> file) : input_(std::move(file)), decoder_(ZSTD_createDCtx()) {
    FUSELINE_CHECK(decoder_ != nullptr);
    ZSTD_DCtx_setParameter(decoder_, ZSTD_d_windowLogMax, kZstdWindowLogMax);
  }
  ~ZstdStream() override { ZSTD_freeDCtx(decoder_); }

  Result<std::size_t> Read(char* into, std::size_t size) override {
    for (;;) {
      FUSELINE_ASSIGN_OR_FAIL(const bool more, input_.Fill());
      // Without further input the decoder may still hold output.
      ZSTD_inBuffer from{input_.data(), more ? input_.size() : 0, 0};
      ZSTD_outBuffer to{into, size, 0};
      if (!more && !inside_frame_) return 0;
      const std::size_t outcome = ZSTD_decompressStream(decoder_, &to, &from);
      if (ZSTD_isError(outcome)) return Error(Code::kCorrupt, "zstd stream is damaged:", ZSTD_getErrorName(outcome));
      input_.Consume(from.pos);
      inside_frame_ = outcome != 0;
      if (to.pos > 0) return to.pos;
      if (!more && inside_frame_) return Error(Code::kCorrupt, "zstd stream is cut short");
    }
  }
  std::int64_t bytes_read() const override { return input_.bytes_read(); }

 private:
  Input input_;
  ZSTD_DCtx* const decoder_;
  bool inside_frame_ = true;  // An empty file is no zstd file.
};

}  // namespace

Result<std::unique_ptr<ByteStream>> ByteStream::Open(const std::string& path) {
  if (path == "-") return std::make_unique<PlainStream>(STDIN_FILENO, "standard input");
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return Error(Code::kNotFound, "cannot open", path, std::strerror(errno));
  auto plain = std::make_unique<PlainStream>(descriptor, path);
  struct stat about = {};
  if (::fstat(descriptor, &about) == 0 && S_ISDIR(about.st_mode)) {
    return Error(Code::kInvalidInput, "a folder, not a file:", path);
  }
  const std::string_view name(path);
  if (name.ends_with(".gz")) return std::make_unique<GzipStream>(std::move(plain));
  if (name.ends_with(".zst")) return std::make_unique<ZstdStream>(std::move(plain));
  return plain;
}

}  // namespace fuseline
