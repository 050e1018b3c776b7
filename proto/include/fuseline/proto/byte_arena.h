#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace fuseline {

// Bytes that stay where they are: blocks that never move and are freed together. What Add returns is valid for the
// arena's life, and, when the arena is moved, for that of the one it was moved into. Move-only; one owner thread.
// Cost of Add: a copy; a block for every 4 KiB at first, 256 KiB later.
class ByteArena {
 public:
  ByteArena() = default;
  ByteArena(ByteArena&& other) noexcept;
  ByteArena& operator=(ByteArena&& other) noexcept;

  // Returns a copy of `bytes`. No bytes need no room.
  std::string_view Add(std::string_view bytes);

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  std::size_t block_bytes_ = 0;  // Of the largest so far that was not made for one large piece.
  char* free_ = nullptr;         // Where the next piece goes.
  std::size_t free_bytes_ = 0;
};

}  // namespace fuseline
