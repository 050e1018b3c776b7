#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/normaliser.h"
#include "fuseline/fusion/weights_file.h"
#include "fuseline/v1/scorer.pb.h"

namespace fuseline {

// What a scorer knows of ids: of each the embedding that it takes (its field's rare ids', if it stood too seldom in what was learned from) and
// its past, normalised. Ids of which nothing is known share a record of their field, so memory follows what was learned, not the number of rows.
// Immutable.
class ScorerTable {
 public:
  // `rows`, `sets`, `tasks`: of the layout, the backbone, the form; `normaliser` of all numbers [D].
  // Errors: kCorrupt for tensors that are missing, of another size, or whose values cannot be.
  ScorerTable() = default;
  static Result<ScorerTable> Create(const v1::ScorerShape& shape, std::size_t rows, std::size_t sets, std::size_t tasks,
                                    const Normaliser& normaliser, const TensorMap& tensors);

  std::size_t past() const { return past_; }  // Numbers of an id's past: K + 1, or 0.
  std::size_t tensor_count() const { return past_ > 0 ? 9 : 4; }

  std::uint32_t RecordOf(std::uint32_t row) const { return records_of_[row]; }
  // Embedding of `set` and past, [embedding_width + past]. Returns where it ended.
  float* Put(std::uint32_t record, std::size_t set, float* to) const;

 private:
  class Reader;
  class Builder;

  std::size_t embedding_ = 0, sets_ = 0, past_ = 0, width_ = 0;  // `width_`: of a record.
  std::vector<std::uint32_t> records_of_;                        // [rows]
  std::vector<float> records_;                                   // [records, embeddings of all sets, then the past]
};

}  // namespace fuseline
