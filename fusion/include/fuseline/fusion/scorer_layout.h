#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/feature_encoding.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/v1/schema.pb.h"
#include "fuseline/v1/scorer.pb.h"

namespace fuseline {

// One id field of a scorer: where its rows lie in the table of all.
struct ScorerField {
  std::uint32_t first_row = 0, buckets = 0;  // No buckets: this field is no input.

  std::uint32_t RowOf(std::uint64_t id) const { return ScorerRowOf(first_row, buckets, id); }
};

// What an impression has of one scope, in schema order.
struct ScorerScope {
  std::vector<ScorerField> fields;        // Of its ids,
  std::vector<std::uint64_t> absent_ids;  // and what stands where a request has nothing of this scope.
  std::vector<float> absent_dense;

  // `values`, or the defaults in place of a scope without any. Errors: kInvalidInput as FeatureEncoder.
  Result<FeatureView> Read(const FeatureView& values) const;
};

// A scorer's inputs by the schema: fields in the order user, context, item, then the users' and the items' own ids; dense values in
// the order user, context, item. Value type.
struct ScorerLayout {
  ScorerScope user, context, item;
  ScorerField user_id, item_id;
  std::size_t rows = 0;  // Of the table.

  // Errors: kInvalidInput if the shape's fields or numbers are not the schema's. REQUIRES: ValidateSchema is ok.
  static Result<ScorerLayout> Of(const v1::FeatureSchema& schema, const v1::ScorerShape& shape);

  std::size_t shared_fields() const { return user.fields.size() + context.fields.size() + (user_id.buckets > 0 ? 1 : 0); }
  std::size_t item_fields() const { return item.fields.size() + (item_id.buckets > 0 ? 1 : 0); }
  std::size_t shared_dense() const { return user.absent_dense.size() + context.absent_dense.size(); }
  std::size_t item_dense() const { return item.absent_dense.size(); }
};

}  // namespace fuseline
