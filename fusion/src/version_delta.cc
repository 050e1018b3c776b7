#include "fuseline/fusion/version_delta.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuseline/fusion/policy_keys.h"

namespace fuseline {
namespace {

static_assert(std::endian::native == std::endian::little, "words are little-endian");

constexpr std::uint32_t kCoding = 1;
constexpr std::size_t kWordBytes = 4;
constexpr std::size_t kBlockWords = 128;
constexpr int kParameterBits = 5;
constexpr std::uint32_t kOnesMax = 20;  // So a word never needs more than 52 bits.
constexpr int kWordBits = 32;

std::size_t WordsOf(std::string_view bytes) { return (bytes.size() + kWordBytes - 1) / kWordBytes; }

std::uint32_t WordAt(std::string_view bytes, std::size_t index) {
  std::uint32_t word = 0;
  const std::size_t at = index * kWordBytes;
  std::memcpy(&word, bytes.data() + at, std::min(kWordBytes, bytes.size() - at));
  return word;
}

std::uint32_t Fold(std::uint32_t difference) { return (difference << 1) ^ (0U - (difference >> 31)); }
std::uint32_t Unfold(std::uint32_t folded) { return (folded >> 1) ^ (0U - (folded & 1U)); }

class BitWriter {
 public:
  explicit BitWriter(std::size_t bytes) { bytes_.reserve(bytes); }
  void Put(std::uint64_t value, int bits) {  // REQUIRES: bits <= 32, and no others are set.
    window_ |= value << held_;
    held_ += bits;
    if (held_ >= kWordBits) Flush(kWordBytes);
  }
  std::string Take() && {
    Flush(static_cast<std::size_t>(held_ + 7) / 8);
    return std::move(bytes_);
  }

 private:
  void Flush(std::size_t bytes) {
    char out[sizeof window_];
    std::memcpy(out, &window_, sizeof out);
    bytes_.append(out, bytes);
    window_ >>= 8 * bytes;
    held_ -= static_cast<int>(8 * bytes);
  }

  std::string bytes_;
  std::uint64_t window_ = 0;
  int held_ = 0;  // Less than 32 between two calls.
};

class BitReader {
 public:
  explicit BitReader(std::string_view bytes) : bytes_(bytes) {}

  // The next bits, at least 57 where as many are left; behind the end zeros.
  std::uint64_t Look() {
    if (held_ <= 56 && bytes_.size() - next_ >= sizeof window_) {
      std::uint64_t more = 0;
      std::memcpy(&more, bytes_.data() + next_, sizeof more);
      window_ |= more << held_;  // What does not count yet comes again, as the same bits.
      const int whole = (64 - held_) / 8;
      next_ += static_cast<std::size_t>(whole);
      held_ += 8 * whole;
    }
    for (; held_ <= 56 && next_ < bytes_.size(); held_ += 8) window_ |= std::uint64_t{static_cast<unsigned char>(bytes_[next_++])} << held_;
    return window_;
  }
  void Skip(int bits) {
    window_ >>= bits;
    held_ -= bits;
  }
  bool overrun() const { return held_ < 0; }
  bool finished() const { return next_ == bytes_.size() && held_ >= 0 && held_ < 8 && window_ == 0; }

 private:
  std::string_view bytes_;
  std::size_t next_ = 0;
  std::uint64_t window_ = 0;
  int held_ = 0;
};

int CostOf(std::uint32_t folded, int k) {
  const std::uint32_t ones = folded >> k;
  return ones < kOnesMax ? static_cast<int>(ones) + 1 + k : static_cast<int>(kOnesMax) + kWordBits;
}

// The best of those near the median's width: a few words that moved far do not count.
int ParameterOf(std::span<const std::uint32_t> block) {
  std::array<std::size_t, kWordBits + 1> of_width{};
  for (const std::uint32_t folded : block) ++of_width[static_cast<std::size_t>(std::bit_width(folded))];
  int median = 0;
  for (std::size_t seen = of_width[0]; 2 * seen < block.size(); seen += of_width[static_cast<std::size_t>(median)]) ++median;

  int best = 0, best_cost = std::numeric_limits<int>::max();
  for (int k = std::max(0, median - 2); k < std::min(kWordBits, median + 2); ++k) {
    int cost = 0;
    for (const std::uint32_t folded : block) cost += CostOf(folded, k);
    if (cost < best_cost) best = k, best_cost = cost;
  }
  return best;
}

void PutBlock(std::span<const std::uint32_t> block, BitWriter& out) {
  const int k = ParameterOf(block);
  out.Put(static_cast<std::uint64_t>(k), kParameterBits);
  for (const std::uint32_t folded : block) {
    const std::uint32_t ones = folded >> k;
    if (ones < kOnesMax) {
      out.Put((std::uint64_t{1} << ones) - 1, static_cast<int>(ones) + 1);
      out.Put(folded & ((std::uint64_t{1} << k) - 1), k);
    } else {
      out.Put((std::uint64_t{1} << kOnesMax) - 1, static_cast<int>(kOnesMax));
      out.Put(folded, kWordBits);
    }
  }
}

std::uint32_t ReadWord(int k, BitReader& in) {
  const std::uint64_t bits = in.Look();
  const int ones = std::min(std::countr_one(bits), static_cast<int>(kOnesMax));
  if (ones == static_cast<int>(kOnesMax)) {
    in.Skip(ones + kWordBits);
    return static_cast<std::uint32_t>(bits >> ones);
  }
  in.Skip(ones + 1 + k);
  const std::uint64_t low = (bits >> (ones + 1)) & ((std::uint64_t{1} << k) - 1);
  return static_cast<std::uint32_t>((static_cast<std::uint64_t>(ones) << k) | low);
}

std::string EncodeDifference(std::string_view base, std::string_view next) {
  BitWriter out(next.size());
  std::array<std::uint32_t, kBlockWords> block{};
  const std::size_t words = WordsOf(next);
  for (std::size_t from = 0; from < words; from += kBlockWords) {
    const std::size_t count = std::min(kBlockWords, words - from);
    for (std::size_t i = 0; i < count; ++i) block[i] = Fold(WordAt(next, from + i) - WordAt(base, from + i));
    PutBlock(std::span(block).first(count), out);
  }
  return std::move(out).Take();
}

Result<std::string> DecodeDifference(std::string_view difference, std::string_view base) {
  BitReader in(difference);
  std::string next(base.size(), '\0');
  const std::size_t words = WordsOf(base);
  int k = 0;
  for (std::size_t i = 0; i < words; ++i) {
    if (i % kBlockWords == 0) {
      k = static_cast<int>(in.Look() & ((1U << kParameterBits) - 1));
      in.Skip(kParameterBits);
    }
    const std::uint32_t word = WordAt(base, i) + Unfold(ReadWord(k, in));
    if (in.overrun()) return Error(Code::kCorrupt, "delta ends before its last word, at word", i);
    const std::size_t at = i * kWordBytes;
    std::memcpy(next.data() + at, &word, std::min(kWordBytes, next.size() - at));
  }
  if (!in.finished()) return Error(Code::kCorrupt, "delta goes on behind its last word, bytes:", difference.size());
  return next;
}

}  // namespace

Result<v1::VersionDelta> MakeDelta(const PolicyVersion& base, const PolicyVersion& next) {
  if (base.weights.size() != next.weights.size()) {
    return Error(Code::kInvalidInput, "weights differ in size:", base.weights.size(), next.weights.size());
  }
  v1::VersionDelta delta;
  delta.set_base_version(base.manifest.version());
  delta.set_base_sha256(base.manifest.weights_sha256());
  delta.set_result_sha256(next.manifest.weights_sha256());
  delta.set_coding(kCoding);
  delta.set_difference(EncodeDifference(base.weights, next.weights));
  return delta;
}

Result<PolicyVersion> ApplyDelta(const v1::VersionDelta& delta, const PolicyVersion& base, const v1::PolicyManifest& manifest) {
  if (delta.base_version() != base.manifest.version() || delta.base_sha256() != base.manifest.weights_sha256()) {
    return Error(Code::kConflict, "delta was made from another base:", delta.base_version());
  }
  if (delta.result_sha256() != manifest.weights_sha256()) {
    return Error(Code::kConflict, "delta leads to other weights than the manifest's, version:", manifest.version());
  }
  if (delta.coding() != kCoding) return Error(Code::kCorrupt, "delta is in a coding that is not known here:", delta.coding());
  FUSELINE_ASSIGN_OR_FAIL(const std::string weights, DecodeDifference(delta.difference(), base.weights));
  std::vector<std::string> parts;
  std::size_t from = 0;
  for (const v1::Part& part : manifest.parts()) {
    if (part.size_bytes() > weights.size() - from) return Error(Code::kCorrupt, "delta makes fewer bytes than the parts have:", weights.size());
    parts.push_back(weights.substr(from, part.size_bytes()));
    from += part.size_bytes();
  }
  return AssembleVersion(manifest, parts);
}

}  // namespace fuseline
