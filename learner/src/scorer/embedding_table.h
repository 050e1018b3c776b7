#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"

namespace fuseline {

// Embeddings, one row an id, with Adam's moments of each row beside it. A row is 0, and takes no memory, until a batch first moves
// it; what a batch does not name is neither read nor written. So a step costs what its batch holds and the table what was learned,
// whatever its number of rows. A row's moments are corrected by its own count of updates (ours: otherwise the first gradient of a
// late row would be taken for a small one). Thread-compatible.
class EmbeddingTable {
 public:
  EmbeddingTable(std::size_t rows, std::size_t width);

  // The rows that `wanted` names, each once and ascending; and of each wanted one its place among them.
  struct Distinct {
    std::vector<std::uint32_t> rows;
    std::vector<std::int64_t> place;
  };
  Distinct Find(std::span<const std::uint32_t> wanted) const;

  void Read(std::span<const std::uint32_t> rows, float* out) const;  // [rows, width].

  // Adam (beta 0.9, 0.999, eps 1e-8) with decoupled decay: row -= rate (m / sqrt(v) + decay row). gradient [rows,
  // width], finite.
  void Update(std::span<const std::uint32_t> rows, std::span<const float> gradient, double rate, double decay);

  // row += rate (other's row - row): of a target that follows `other` where a batch has been.
  void Follow(const EmbeddingTable& other, std::span<const std::uint32_t> rows, double rate);

  std::size_t width() const { return width_; }
  std::size_t rows() const { return slot_.size(); }

  // "NAME.rows" [M] and "NAME" [M, width] of the rows that were moved (fusion/sparse_rows.h); with moments also "NAME.first",
  // "NAME.second" [M, width] and "NAME.updates" [M]. Import without moments sets them to 0.
  void Export(const std::string& name, bool moments, TensorMap* tensors) const;
  Status Import(const std::string& name, bool moments, const TensorMap& tensors);  // Errors: kCorrupt.

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  std::size_t SlotOf(std::uint32_t row);  // A new one where the row has none.

  std::size_t width_;
  std::vector<std::uint32_t> slot_;             // Of each row, or kNone.
  std::vector<float> values_, first_, second_;  // [slots, width]
  std::vector<std::uint32_t> updates_;          // [slots]
  mutable std::vector<std::uint32_t> found_;    // Of each row, its place in the batch at hand, plus one; 0: none.
};

}  // namespace fuseline
