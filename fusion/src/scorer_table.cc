#include "scorer_table.h"

#include <algorithm>
#include <string>
#include <utility>

#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/fusion/sparse_rows.h"

#include "packed_net.h"

namespace fuseline {
namespace {

constexpr std::size_t kFloatsMax = std::size_t{1} << 28U;  // Of all records: a small file may name many rows.

}  // namespace

// A table as it is packed, read row by row in ascending order.
class ScorerTable::Reader {
 public:
  // Errors: kCorrupt.
  static Result<Reader> Open(const TensorMap& tensors, const std::string& name, std::size_t rows, std::size_t width, bool counts) {
    Reader reader;
    FUSELINE_ASSIGN_OR_FAIL(reader.rows_, PackedRows(tensors, name, rows, width));
    reader.values_ = tensors.find(name)->second.values;
    reader.nothing_.resize(width, 0.0F);
    const bool sound = AllFinite(reader.values_) && (!counts || std::ranges::all_of(reader.values_, [](float value) { return value >= 0; }));
    if (!sound) return Error(Code::kCorrupt, "weights hold a value that cannot be:", name);
    return reader;
  }

  const std::vector<std::uint32_t>& rows() const { return rows_; }

  // [width]; 0 where nothing was packed. REQUIRES: no smaller row than before.
  std::span<const float> At(std::uint32_t row) {
    while (next_ < rows_.size() && rows_[next_] < row) ++next_;
    if (next_ == rows_.size() || rows_[next_] != row) return nothing_;
    return values_.subspan(next_ * nothing_.size(), nothing_.size());
  }

 private:
  std::vector<std::uint32_t> rows_;
  std::span<const float> values_;
  std::vector<float> nothing_;
  std::size_t next_ = 0;
};

// Makes records, field after field.
class ScorerTable::Builder {
 public:
  static Result<Builder> Open(const v1::ScorerShape& shape, std::size_t rows, std::size_t tasks, const Normaliser& normaliser,
                              const TensorMap& tensors, ScorerTable& table) {
    Builder builder(shape, normaliser, table);
    FUSELINE_ASSIGN_OR_FAIL(builder.embedding_, Reader::Open(tensors, "embedding", rows, table.sets_ * table.embedding_, /*counts=*/false));
    FUSELINE_ASSIGN_OR_FAIL(builder.frequency_, Reader::Open(tensors, "frequency", rows, 1, /*counts=*/true));
    builder.Know(builder.embedding_);
    builder.Know(builder.frequency_);
    if (table.past_ > 0) {
      FUSELINE_ASSIGN_OR_FAIL(builder.seen_, Reader::Open(tensors, "seen", rows, 1, /*counts=*/true));
      FUSELINE_ASSIGN_OR_FAIL(builder.outcomes_, Reader::Open(tensors, "outcomes", rows, tasks, /*counts=*/true));
      FUSELINE_ASSIGN_OR_FAIL(const Tensor* const rates, FindTensor(tensors, "rates", {static_cast<std::uint32_t>(tasks)}));
      constexpr auto kMin = static_cast<float>(kScorerRateMin);
      if (!std::ranges::all_of(rates->values, [](float rate) { return rate >= kMin && rate <= 1 - kMin; }))
        return Error(Code::kCorrupt, "weights hold a value that cannot be: rates");
      builder.rates_ = rates->values;
      builder.no_outcomes_.resize(tasks, 0.0F);
      builder.Know(builder.seen_);
      builder.Know(builder.outcomes_);
    }
    std::ranges::sort(builder.known_);
    builder.known_.erase(std::ranges::unique(builder.known_).begin(), builder.known_.end());
    const std::size_t records = builder.known_.size() + static_cast<std::size_t>(shape.buckets_size());
    if (records * table.width_ > kFloatsMax) return Error(Code::kInvalidInput, "scorer's table is too large, records:", records);
    table.records_of_.resize(rows);
    return builder;
  }

  // Records of the field whose rows are [first_row, end), the first of them the rare ids'; its past begins at `column` of the normaliser.
  Status AddField(std::uint32_t first_row, std::uint32_t end, std::size_t column) {
    const std::span<const float> of_rare = embedding_.At(first_row);
    const std::vector<float> rare(of_rare.begin(), of_rare.end()), nothing(rare.size(), 0.0F);
    const std::uint32_t unknown = NextRecord();
    FUSELINE_RETURN_IF_ERROR(Add(frequency_min_ > 0 ? rare : nothing, 0, no_outcomes_, column));
    std::fill(table_.records_of_.begin() + first_row, table_.records_of_.begin() + end, unknown);
    for (; next_known_ < known_.size() && known_[next_known_] < end; ++next_known_) {
      const std::uint32_t row = known_[next_known_];
      table_.records_of_[row] = NextRecord();
      const std::span<const float> own = embedding_.At(row);
      const std::span<const float> embedding = frequency_.At(row)[0] < frequency_min_ ? std::span<const float>(rare) : own;
      const bool has_past = table_.past_ > 0;
      FUSELINE_RETURN_IF_ERROR(Add(embedding, has_past ? seen_.At(row)[0] : 0, has_past ? outcomes_.At(row) : no_outcomes_, column));
    }
    return OkStatus();
  }

 private:
  Builder(const v1::ScorerShape& shape, const Normaliser& normaliser, ScorerTable& table)
      : frequency_min_(static_cast<float>(shape.min_frequency())), prior_(shape.rate_prior()), normaliser_(normaliser), table_(table) {}

  void Know(const Reader& reader) { known_.insert(known_.end(), reader.rows().begin(), reader.rows().end()); }
  std::uint32_t NextRecord() const { return static_cast<std::uint32_t>(table_.records_.size() / table_.width_); }

  Status Add(std::span<const float> embedding, float seen, std::span<const float> outcomes, std::size_t column) {
    table_.records_.insert(table_.records_.end(), embedding.begin(), embedding.end());
    if (table_.past_ == 0) return OkStatus();
    if (*std::ranges::max_element(outcomes) > seen) return ErrorStatus(Code::kCorrupt, "weights hold more outcomes than impressions of an id");
    table_.records_.resize(table_.records_.size() + table_.past_);
    const std::span<float> numbers = std::span(table_.records_).last(table_.past_);
    PastOfId(seen, outcomes, rates_, prior_, numbers.data());
    normaliser_.Apply(numbers, column);
    return AllFinite(numbers) ? OkStatus() : ErrorStatus(Code::kCorrupt, "weights hold a past of an id that is not finite");
  }

  const float frequency_min_;
  const double prior_;
  const Normaliser& normaliser_;
  ScorerTable& table_;
  Reader embedding_, frequency_, seen_, outcomes_;
  std::vector<float> rates_, no_outcomes_;
  std::vector<std::uint32_t> known_;  // Rows that any of the tensors speaks of, ascending.
  std::size_t next_known_ = 0;
};

Result<ScorerTable> ScorerTable::Create(const v1::ScorerShape& shape, std::size_t rows, std::size_t sets, std::size_t tasks,
                                        const Normaliser& normaliser, const TensorMap& tensors) {
  ScorerTable table;
  table.embedding_ = shape.embedding_width();
  table.sets_ = sets;
  table.past_ = shape.rate_prior() > 0 ? tasks + 1 : 0;
  table.width_ = sets * table.embedding_ + table.past_;
  FUSELINE_ASSIGN_OR_FAIL(Builder builder, Builder::Open(shape, rows, tasks, normaliser, tensors, table));
  std::uint32_t first_row = 0;
  std::size_t column = shape.dense_width();
  for (const std::uint32_t buckets : shape.buckets()) {
    FUSELINE_FAIL_IF_ERROR(builder.AddField(first_row, first_row + buckets + 1, column));
    first_row += buckets + 1;
    column += table.past_;
  }
  return table;
}

float* ScorerTable::Put(std::uint32_t record, std::size_t set, float* to) const {
  const float* const from = records_.data() + record * width_;
  to = std::copy_n(from + set * embedding_, embedding_, to);
  return std::copy_n(from + sets_ * embedding_, past_, to);
}

}  // namespace fuseline
