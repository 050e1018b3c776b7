#include "fuseline/proto/byte_arena.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace fuseline {
namespace {

constexpr std::size_t kFirstBlockBytes = 4 << 10;
constexpr std::size_t kLargestBlockBytes = 256 << 10;

}  // namespace

ByteArena::ByteArena(ByteArena&& other) noexcept { *this = std::move(other); }

// What is left behind is empty: it must not write into blocks that are no longer its own.
ByteArena& ByteArena::operator=(ByteArena&& other) noexcept {
  blocks_ = std::exchange(other.blocks_, {});
  block_bytes_ = std::exchange(other.block_bytes_, 0);
  free_ = std::exchange(other.free_, nullptr);
  free_bytes_ = std::exchange(other.free_bytes_, 0);
  return *this;
}

std::string_view ByteArena::Add(std::string_view bytes) {
  if (bytes.empty()) return {};
  if (bytes.size() > free_bytes_) {
    const std::size_t wanted = std::clamp(block_bytes_ * 2, kFirstBlockBytes, kLargestBlockBytes);
    if (bytes.size() > wanted / 4) {  // A block of its own; the one in use goes on being filled.
      blocks_.push_back(std::make_unique_for_overwrite<char[]>(bytes.size()));
      std::memcpy(blocks_.back().get(), bytes.data(), bytes.size());
      return {blocks_.back().get(), bytes.size()};
    }
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(wanted));
    free_ = blocks_.back().get();
    free_bytes_ = block_bytes_ = wanted;
  }
  std::memcpy(free_, bytes.data(), bytes.size());
  const std::string_view added(free_, bytes.size());
  free_ += bytes.size();
  free_bytes_ -= bytes.size();
  return added;
}

}  // namespace fuseline
