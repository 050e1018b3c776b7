#include "member_net.h"

#include <algorithm>
#include <utility>

namespace fuseline {
namespace {

// Columns `which` of `weight` [outputs, inputs], in that order.
PackedLayer PackColumns(const std::vector<float>& weight, std::size_t outputs, const std::vector<std::uint32_t>& which, Activation activation,
                        std::size_t lanes) {
  const std::size_t inputs = weight.size() / outputs;
  Tensor chosen{{static_cast<std::uint32_t>(outputs), static_cast<std::uint32_t>(which.size())}, {}};
  chosen.values.reserve(outputs * which.size());
  for (std::size_t out = 0; out < outputs; ++out) {
    for (const std::uint32_t column : which) chosen.values.push_back(weight[out * inputs + column]);
  }
  return Pack(chosen, 0, which.size(), activation, lanes);
}

// Layer `i` of one member.
PackedLayer PackMember(const Tensor& weight, const Tensor& bias, std::size_t member, Activation activation, std::size_t lanes) {
  const std::size_t outputs = weight.shape[1], values = outputs * weight.shape[2];
  const auto from = weight.values.begin() + static_cast<std::ptrdiff_t>(member * values);
  const Tensor own{{weight.shape[1], weight.shape[2]}, {from, from + static_cast<std::ptrdiff_t>(values)}};
  PackedLayer layer = Pack(own, 0, weight.shape[2], activation, lanes);
  std::copy_n(bias.values.begin() + static_cast<std::ptrdiff_t>(member * outputs), outputs, layer.bias.begin());
  return layer;
}

}  // namespace

Result<MemberNet> MemberNet::Create(const std::string& name, std::size_t members, const std::vector<std::uint32_t>& widths, Activation last,
                                    const InputSplit* split, const TensorMap& tensors, const DenseKernel& kernel, SpacePlan& plan) {
  MemberNet net(kernel);
  const auto count = static_cast<std::uint32_t>(members);
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    const std::string layer = name + '.' + std::to_string(i);
    FUSELINE_ASSIGN_OR_FAIL(const Tensor* const weight, FindTensor(tensors, layer + ".weight", {count, widths[i + 1], widths[i]}));
    FUSELINE_ASSIGN_OR_FAIL(const Tensor* const bias, FindTensor(tensors, layer + ".bias", {count, widths[i + 1]}));
    const Activation activation = i + 2 < widths.size() ? Activation::kRelu : last;
    if (i > 0) {
      Later later;
      for (std::size_t m = 0; m < members; ++m) later.members.push_back(PackMember(*weight, *bias, m, activation, kernel.lanes));
      later.reserved = plan.ReserveRow(members * later.members[0].dense.columns);
      net.later_.push_back(std::move(later));
      continue;
    }
    // All members' outputs side by side are one layer.
    const std::size_t outputs = members * widths[1];
    net.first_width_ = widths[1];
    const Tensor whole{{static_cast<std::uint32_t>(outputs), widths[0]}, split == nullptr ? weight->values : std::vector<float>()};
    net.first_ = split == nullptr ? Pack(whole, 0, widths[0], activation, kernel.lanes)
                                  : PackColumns(weight->values, outputs, split->own, activation, kernel.lanes);
    std::ranges::copy(bias->values, net.first_.bias.begin());
    net.first_reserved_ = plan.ReserveRow(net.first_.dense.columns);
    if (split == nullptr) continue;
    net.shared_ = PackColumns(weight->values, outputs, split->shared, Activation::kNone, kernel.lanes);
    net.shared_.bias = net.first_.bias;
    net.shared_reserved_ = plan.ReserveRequest(net.shared_.dense.columns);
  }
  return net;
}

void MemberNet::TakeShared(const float* shared, const Space& space) const {
  kernel_->run(shared_.View(), shared, shared_.dense.inputs, shared_.bias.data(), 1, space.request + shared_reserved_);
}

void MemberNet::Forward(BlockView in, const Space& space) const {
  const bool has_shared = shared_.dense.columns > 0;
  const float* const bias = has_shared ? space.request + shared_reserved_ : first_.bias.data();
  kernel_->run(first_.View(), in.values, in.stride, bias, space.rows, space.Row(first_reserved_));
  for (std::size_t i = 0; i < later_.size(); ++i) {
    for (std::size_t m = 0; m < later_[i].members.size(); ++m) {
      const PackedLayer& layer = later_[i].members[m];
      const BlockView from = OutputOf(i, m, space);
      float* const to = space.Row(later_[i].reserved + m * layer.dense.columns);
      kernel_->run(layer.View(), from.values, from.stride, layer.bias.data(), space.rows, to);
    }
  }
}

// Layer 0 is the first.
BlockView MemberNet::OutputOf(std::size_t layer, std::size_t member, const Space& space) const {
  if (layer == 0) return {space.Row(first_reserved_) + member * first_width_, first_.dense.columns};
  const Later& of = later_[layer - 1];
  const std::size_t columns = of.members[0].dense.columns;
  return {space.Row(of.reserved + member * columns), columns};
}

BlockView MemberNet::Output(std::size_t member, const Space& space) const { return OutputOf(later_.size(), member, space); }

}  // namespace fuseline
