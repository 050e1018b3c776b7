#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"

#include "dense_layer.h"
#include "packed_net.h"

namespace fuseline {

// Candidates that pass through all layers together.
inline constexpr std::size_t kScorerBlockRows = 64;

// A matrix of a block's candidates: row i begins at values + i * stride.
struct BlockView {
  const float* values;
  std::size_t stride;
};

// Columns of a whole input, as weights number them: those that all candidates of a request have in common, and their own.
struct InputSplit {
  std::vector<std::uint32_t> shared, own;
};

// Room that networks reserve when they are made, and find again in every workspace: floats a request, and of each of a block's rows.
struct SpacePlan {
  std::size_t request = 0, row = 0;

  std::size_t ReserveRequest(std::size_t floats) { return std::exchange(request, request + floats); }
  std::size_t ReserveRow(std::size_t floats) { return std::exchange(row, row + floats); }
};

// That room, and how many rows the block at hand has.
struct Space {
  float* request;
  float* block;
  std::size_t rows;

  float* Row(std::size_t reserved) const { return block + reserved * kScorerBlockRows; }
};

// Networks of one shape that read the same input, one beside the other: ReLU between layers, `last` at the end.
// Immutable; values are in the caller's Space.
class MemberNet {
 public:
  // Tensors NAME.<i>.weight [members, out, in] and NAME.<i>.bias [members, out]. With a split, TakeShared goes before Forward, whose
  // input then has the split's own columns. Errors: those of FindTensor.
  static Result<MemberNet> Create(const std::string& name, std::size_t members, const std::vector<std::uint32_t>& widths, Activation last,
                                  const InputSplit* split, const TensorMap& tensors, const DenseKernel& kernel, SpacePlan& plan);

  void TakeShared(const float* shared, const Space& space) const;
  void Forward(BlockView in, const Space& space) const;
  BlockView Output(std::size_t member, const Space& space) const;  // Of the last Forward, [rows, widths.back()].

  std::size_t tensor_count() const { return 2 * (1 + later_.size()); }

 private:
  struct Later {
    std::vector<PackedLayer> members;
    std::size_t reserved = 0;  // Of the first member; the others follow.
  };

  explicit MemberNet(const DenseKernel& kernel) : kernel_(&kernel) {}
  BlockView OutputOf(std::size_t layer, std::size_t member, const Space& space) const;

  const DenseKernel* kernel_;
  PackedLayer first_;        // Of all members, one after another.
  PackedLayer shared_;       // Of the first layer, the shared columns and the bias; without a split, no inputs.
  std::size_t first_width_ = 0, first_reserved_ = 0, shared_reserved_ = 0;
  std::vector<Later> later_;
};

}  // namespace fuseline
