#include "response_model.h"

#include <algorithm>
#include <cmath>

namespace fuseline {
namespace {

constexpr std::size_t kColumnsMax = 4096;

// Errors: kCorrupt unless `name` is there with `rank` extents, each as in `wanted` where that is not 0.
Status CheckShape(const TensorMap& tensors, const char* name, const std::vector<std::size_t>& wanted) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) return ErrorStatus(Code::kCorrupt, "a response model has a tensor", name);
  const auto& shape = found->second.shape;
  bool fits = shape.size() == wanted.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] > 0 && (wanted[i] == 0 || shape[i] == wanted[i]);
  return fits ? OkStatus() : ErrorStatus(Code::kCorrupt, "the shape of this tensor does not fit a response model:", name);
}

}  // namespace

Result<ResponseModel> ResponseModel::Create(TensorMap tensors) {
  ResponseModel model(std::move(tensors));
  const TensorMap& all = model.tensors_;
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "user.first", {0, 0}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "tower.hidden.weight", {kResponseHeads, 0, 0}));
  model.columns_ = model.Of("user.first").shape[1];
  model.tower_width_ = model.Of("tower.hidden.weight").shape[1];
  model.expert_width_ = model.Of("tower.hidden.weight").shape[2];
  model.experts_ = model.columns_ / (model.expert_width_ + kResponseHeads);
  if (model.columns_ > kColumnsMax || model.experts_ * (model.expert_width_ + kResponseHeads) != model.columns_) {
    return Error(Code::kCorrupt, "the shape of this tensor does not fit a response model: user.first");
  }
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "item.first", {0, model.columns_}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "first.bias", {model.columns_}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "tower.hidden.bias", {kResponseHeads, model.tower_width_}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "tower.out.weight", {kResponseHeads, model.tower_width_}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "tower.out.bias", {kResponseHeads}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "user.profile", {model.user_count(), 0}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "item.profile", {model.item_count(), 0}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "user.play_s", {model.user_count()}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "item.duration_s", {model.item_count()}));
  FUSELINE_FAIL_IF_ERROR(CheckShape(all, "watch.spread", {1}));
  if (!(model.watch_spread() > 0)) return Error(Code::kCorrupt, "watch.spread of a response model is not above 0");
  return model;
}

void ResponseModel::Predict(std::size_t user, std::size_t item, std::span<float, kResponseHeads> out) const {
  std::array<float, kColumnsMax> y;
  const auto of_user = Row("user.first", user), of_item = Row("item.first", item);
  const float* bias = Of("first.bias").values.data();
  for (std::size_t c = 0; c < columns_; ++c) y[c] = of_user[c] + of_item[c] + bias[c];
  for (std::size_t c = 0; c < experts_ * expert_width_; ++c) y[c] = std::max(y[c], 0.0F);
  const float* hidden = Of("tower.hidden.weight").values.data();
  const float* hidden_bias = Of("tower.hidden.bias").values.data();
  const float* last = Of("tower.out.weight").values.data();
  const float* gates = y.data() + experts_ * expert_width_;
  std::array<float, kColumnsMax> mixed;
  for (std::size_t head = 0; head < kResponseHeads; ++head, gates += experts_) {
    const float highest = *std::max_element(gates, gates + experts_);
    float sum = 0;
    std::fill_n(mixed.begin(), expert_width_, 0.0F);
    for (std::size_t e = 0; e < experts_; ++e) {
      const float gate = std::exp(gates[e] - highest);
      sum += gate;
      for (std::size_t c = 0; c < expert_width_; ++c) mixed[c] += gate * y[e * expert_width_ + c];
    }
    float value = Of("tower.out.bias").values[head];
    for (std::size_t v = 0; v < tower_width_; ++v) {
      float unit = 0;
      for (std::size_t c = 0; c < expert_width_; ++c) unit += hidden[c] * mixed[c];
      value += *last++ * std::max(unit / sum + *hidden_bias++, 0.0F);
      hidden += expert_width_;
    }
    out[head] = head < kResponseTasks ? 1 / (1 + std::exp(-value)) : value;
  }
}

}  // namespace fuseline
