#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"

namespace fuseline {

// SHA-256. Raw digests are std::string of 32 bytes, as they stand in messages.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(std::string_view bytes);
  std::string Finish();  // 32 bytes. REQUIRES: called once.

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string Sha256Of(std::string_view bytes);
std::string ToHex(std::string_view bytes);
Result<std::string> FromHex(std::string_view hex);

// 64-bit FNV-1a: stable across builds and machines, as formats.md promises. Not against an adversary.
std::uint64_t Fnv1a64(std::string_view bytes);

}  // namespace fuseline
