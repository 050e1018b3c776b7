#include "fuseline/fusion/scorer_layout.h"

#include <span>
#include <utility>

#include "fuseline/fusion/sparse_rows.h"

namespace fuseline {
namespace {

// Hands out the shape's fields, one after another.
class FieldTaker {
 public:
  explicit FieldTaker(const v1::ScorerShape& shape) : shape_(shape) {}

  // `buckets`: of the schema; the shape has as many or more. Errors: kInvalidInput.
  Status Take(std::uint32_t buckets, ScorerField* field) {
    const std::uint32_t promised = next_ < shape_.buckets_size() ? shape_.buckets(next_++) : 0;
    if (promised == 0 || promised < buckets)
      return ErrorStatus(Code::kInvalidInput, "scorer's id fields disagree with the schema");
    *field = {static_cast<std::uint32_t>(rows_), promised};
    rows_ += std::uint64_t{promised} + 1;
    return rows_ <= kSparseRowsMax ? OkStatus() : ErrorStatus(Code::kInvalidInput, "scorer's table is too large, rows:", rows_);
  }
  bool took_all() const { return next_ == shape_.buckets_size(); }
  std::size_t rows() const { return rows_; }

 private:
  const v1::ScorerShape& shape_;
  int next_ = 0;
  std::uint64_t rows_ = 0;
};

}  // namespace

Result<FeatureView> ScorerScope::Read(const FeatureView& values) const {
  if (values.dense.empty() && values.ids.empty()) return FeatureView{absent_dense, absent_ids};
  if (values.dense.size() != absent_dense.size() || values.ids.size() != fields.size()) {
    return Error(Code::kInvalidInput, "number of feature values disagrees with the schema: dense", values.dense.size(), "instead of",
                 absent_dense.size(), "ids", values.ids.size(), "instead of", fields.size());
  }
  if (!AllFinite(values.dense)) return Error(Code::kInvalidInput, "a dense feature is not finite");
  return values;
}

Result<ScorerLayout> ScorerLayout::Of(const v1::FeatureSchema& schema, const v1::ScorerShape& shape) {
  ScorerLayout layout;
  FieldTaker taker(shape);
  const std::pair<v1::FeatureScope, ScorerScope*> scopes[] = {
      {v1::USER, &layout.user}, {v1::CONTEXT, &layout.context}, {v1::ITEM, &layout.item}};
  for (const auto& [which, scope] : scopes) {
    for (const v1::Feature& feature : schema.features()) {
      if (feature.scope() != which) continue;
      if (feature.has_categorical()) {
        FUSELINE_FAIL_IF_ERROR(taker.Take(feature.categorical().buckets(), &scope->fields.emplace_back()));
        scope->absent_ids.push_back(feature.categorical().default_value());
      } else {
        scope->absent_dense.insert(scope->absent_dense.end(), feature.dense().width(), feature.dense().default_value());
      }
    }
  }
  if (shape.user_id()) FUSELINE_FAIL_IF_ERROR(taker.Take(0, &layout.user_id));
  if (shape.item_id()) FUSELINE_FAIL_IF_ERROR(taker.Take(0, &layout.item_id));
  if (!taker.took_all() || shape.dense_width() != layout.shared_dense() + layout.item_dense())
    return Error(Code::kInvalidInput, "scorer's inputs disagree with the schema");
  layout.rows = taker.rows();
  return layout;
}

}  // namespace fuseline
