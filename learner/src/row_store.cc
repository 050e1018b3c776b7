#include "row_store.h"

#include <algorithm>
#include <cstring>

#include "fuseline/core/check.h"
#include "fuseline/core/digest.h"
#include "fuseline/core/file.h"

namespace fuseline {

std::byte* RowStore::Address(std::uint64_t row) {
  return chunks_[row / kChunkRows - first_chunk_].data() + row % kChunkRows * layout_.row_bytes();
}

Row RowStore::Append() {
  if (chunks_.empty()) first_chunk_ = end_row_ / kChunkRows;
  if (end_row_ / kChunkRows - first_chunk_ == chunks_.size()) chunks_.emplace_back(kChunkRows * layout_.row_bytes());
  return Row(layout_, Address(end_row_++));
}

ConstRow RowStore::At(std::uint64_t row) const {
  FUSELINE_CHECK(first_row_ <= row && row < end_row_);
  return ConstRow(layout_, const_cast<RowStore*>(this)->Address(row));
}

void RowStore::Prefetch(std::uint64_t row) const {
  constexpr std::size_t kCacheLine = 64;
  const std::byte* const begin = const_cast<RowStore*>(this)->Address(row);
  for (std::size_t at = 0; at < 2 * layout_.row_bytes(); at += kCacheLine) __builtin_prefetch(begin + at);
}

void RowStore::EvictBefore(std::uint64_t row) {
  FUSELINE_CHECK(row <= end_row_);
  first_row_ = std::max(first_row_, row);
  while (!chunks_.empty() && (first_chunk_ + 1) * kChunkRows <= first_row_) {
    chunks_.pop_front();
    ++first_chunk_;
  }
}

Result<v1::RowSegments> RowStore::Save(const std::filesystem::path& folder) {
  const std::uint64_t begin = std::max(saved_end_, first_row_);
  if (begin < end_row_) {
    std::string bytes;
    bytes.reserve((end_row_ - begin) * layout_.row_bytes());
    for (std::uint64_t row = begin; row < end_row_; ++row)
      bytes.append(reinterpret_cast<const char*>(Address(row)), layout_.row_bytes());
    v1::RowSegment segment;
    segment.set_first_row(begin);
    segment.set_rows(end_row_ - begin);
    segment.mutable_file()->set_sha256(Sha256Of(bytes));
    segment.mutable_file()->set_name(name_ + "-" + std::to_string(begin) + "-" +
                                     ToHex(segment.file().sha256()).substr(0, 16) + ".rows");
    FUSELINE_FAIL_IF_ERROR(WriteFileAtomically(folder / segment.file().name(), bytes));
    segments_.push_back(std::move(segment));
  }
  saved_end_ = end_row_;
  while (!segments_.empty() && segments_.front().first_row() + segments_.front().rows() <= first_row_) segments_.pop_front();

  v1::RowSegments state;
  state.set_first_row(first_row_);
  state.set_end_row(end_row_);
  state.set_row_bytes(layout_.row_bytes());
  for (const v1::RowSegment& segment : segments_) *state.add_segments() = segment;
  return state;
}

Status RowStore::Load(const std::filesystem::path& folder, const v1::RowSegments& state) {
  if (state.row_bytes() != layout_.row_bytes() || state.first_row() > state.end_row())
    return ErrorStatus(Code::kCorrupt, "rows of another layout in the checkpoint:", name_, state.row_bytes());
  chunks_.clear();
  first_row_ = end_row_ = state.first_row();
  for (const v1::RowSegment& segment : state.segments()) {
    auto bytes = ReadFile(folder / segment.file().name());
    if (!bytes) return ErrorStatus(Code::kCorrupt, "segment of the checkpoint cannot be read:", bytes.error().message);
    if (Sha256Of(*bytes) != segment.file().sha256() || bytes->size() != segment.rows() * layout_.row_bytes())
      return ErrorStatus(Code::kCorrupt, "segment differs from its digest:", segment.file().name());
    if (segment.first_row() > end_row_) return ErrorStatus(Code::kCorrupt, "rows are missing before", segment.file().name());
    for (std::uint64_t row = end_row_; row < segment.first_row() + segment.rows(); ++row) {
      const Row target = Append();
      std::memcpy(target.header, bytes->data() + (row - segment.first_row()) * layout_.row_bytes(), layout_.row_bytes());
    }
    segments_.push_back(segment);
  }
  saved_end_ = end_row_;
  if (end_row_ != state.end_row()) return ErrorStatus(Code::kCorrupt, "rows are missing at the end of", name_);
  return OkStatus();
}

}  // namespace fuseline
