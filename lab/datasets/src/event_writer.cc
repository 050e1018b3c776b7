#include "fuseline/datasets/event_writer.h"

#include <cerrno>
#include <cstdio>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include <google/protobuf/io/coded_stream.h>
#include <zlib.h>
#include <zstd.h>

#include "fuseline/proto/event_codec.h"

namespace fuseline {
namespace {

constexpr std::size_t kBufferBytes = 1 << 18;
constexpr int kZstdLevel = 3;
constexpr int kGzipWindowBits = 15 + 16;  // 16: with gzip's header.

enum class Form { kPlain, kGzip, kZstd };

// A file of bytes, packed on the way. One buffer in front, so that compressors see large pieces.
class PackedFile {
 public:
  PackedFile(std::FILE* file, Form form) : file_(file), form_(form), out_(kBufferBytes) {
    if (form == Form::kZstd) {
      zstd_ = ZSTD_createCCtx();
      ZSTD_CCtx_setParameter(zstd_, ZSTD_c_compressionLevel, kZstdLevel);
      ZSTD_CCtx_setParameter(zstd_, ZSTD_c_checksumFlag, 1);
    } else if (form == Form::kGzip) {
      deflateInit2(&gzip_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindowBits, 8, Z_DEFAULT_STRATEGY);
    }
  }
  ~PackedFile() {
    ZSTD_freeCCtx(zstd_);
    if (form_ == Form::kGzip) deflateEnd(&gzip_);
    if (file_ != nullptr) std::fclose(file_);
  }
  PackedFile(const PackedFile&) = delete;
  PackedFile& operator=(const PackedFile&) = delete;

  bool Pack(std::string_view bytes, bool end) {
    switch (form_) {
      case Form::kPlain: return Put(bytes.data(), bytes.size());
      case Form::kGzip: return PackGzip(bytes, end);
      case Form::kZstd: return PackZstd(bytes, end);
    }
    return false;
  }
  bool Close() { return std::fclose(std::exchange(file_, nullptr)) == 0; }

 private:
  bool Put(const char* data, std::size_t size) { return std::fwrite(data, 1, size, file_) == size; }

  bool PackGzip(std::string_view bytes, bool end) {
    gzip_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    gzip_.avail_in = static_cast<uInt>(bytes.size());
    do {
      gzip_.next_out = reinterpret_cast<Bytef*>(out_.data());
      gzip_.avail_out = static_cast<uInt>(out_.size());
      deflate(&gzip_, end ? Z_FINISH : Z_NO_FLUSH);
      if (!Put(out_.data(), out_.size() - gzip_.avail_out)) return false;
    } while (gzip_.avail_out == 0);
    return true;
  }

  bool PackZstd(std::string_view bytes, bool end) {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const std::size_t left = ZSTD_compressStream2(zstd_, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(left) || !Put(out_.data(), out.pos)) return false;
      if (end ? left == 0 : in.pos == in.size) return true;
    }
  }

  std::FILE* file_;
  Form form_;
  std::vector<char> out_;
  ZSTD_CCtx* zstd_ = nullptr;
  z_stream gzip_{};
};

}  // namespace

struct EventWriter::Impl {
  std::filesystem::path path, part;
  bool json = true;
  bool finished = false;
  std::unique_ptr<PackedFile> file;
  std::string buffer, scratch;
  std::uint64_t bytes = 0;

  ~Impl() {
    std::error_code ignored;
    if (!finished) std::filesystem::remove(part, ignored);
  }
  Status Fault(std::string_view doing) const {
    return ErrorStatus(Code::kUnavailable, doing, part.string(), std::strerror(errno));
  }
  Status Flush(bool end) {
    const bool packed = file->Pack(buffer, end);
    buffer.clear();
    return packed ? OkStatus() : Fault("cannot write");
  }
};

EventWriter::EventWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EventWriter::EventWriter(EventWriter&&) noexcept = default;
EventWriter& EventWriter::operator=(EventWriter&&) noexcept = default;
EventWriter::~EventWriter() = default;

Result<EventWriter> EventWriter::Open(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  auto form = Form::kPlain;
  if (name.ends_with(".jsonl.gz")) {
    form = Form::kGzip;
  } else if (name.ends_with(".jsonl.zst")) {
    form = Form::kZstd;
  } else if (!name.ends_with(".jsonl") && !name.ends_with(".pb")) {
    return Error(Code::kInvalidInput, "output is none of .jsonl, .jsonl.gz, .jsonl.zst, .pb:", path.string());
  }
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->part = path.string() + ".part";
  impl->json = !name.ends_with(".pb");
  std::FILE* file = std::fopen(impl->part.c_str(), "wb");
  if (file == nullptr) return tl::unexpected<Status>(impl->Fault("cannot create"));
  impl->file = std::make_unique<PackedFile>(file, form);
  return EventWriter(std::move(impl));
}

Status EventWriter::Write(const v1::Event& event) {
  auto& impl = *impl_;
  const std::size_t before = impl.buffer.size();
  if (impl.json) {
    impl.buffer += EncodeEventJson(event);
    impl.buffer += '\n';
  } else {
    event.SerializeToString(&impl.scratch);
    std::array<std::uint8_t, 10> length;
    const auto* end = google::protobuf::io::CodedOutputStream::WriteVarint32ToArray(
        static_cast<std::uint32_t>(impl.scratch.size()), length.data());
    impl.buffer.append(reinterpret_cast<const char*>(length.data()), static_cast<std::size_t>(end - length.data()));
    impl.buffer += impl.scratch;
  }
  impl.bytes += impl.buffer.size() - before;
  return impl.buffer.size() < kBufferBytes ? OkStatus() : impl.Flush(/*end=*/false);
}

Status EventWriter::Finish() {
  auto& impl = *impl_;
  FUSELINE_RETURN_IF_ERROR(impl.Flush(/*end=*/true));
  if (!impl.file->Close()) return impl.Fault("cannot close");
  std::error_code error;
  std::filesystem::rename(impl.part, impl.path, error);
  if (error) return ErrorStatus(Code::kUnavailable, "cannot move to", impl.path.string(), error.message());
  impl.finished = true;
  return OkStatus();
}

std::uint64_t EventWriter::bytes() const { return impl_->bytes; }

}  // namespace fuseline
