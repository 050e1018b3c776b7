#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/fusion/weights_file.h"

namespace fuseline {

inline constexpr std::size_t kResponseTasks = 6;                   // click, like, follow, comment, forward, long view.
inline constexpr std::size_t kResponseHeads = kResponseTasks + 1;  // The last: mean of log(1 + seconds watched), once clicked.

// What users of a log do with its items, predicted by an MMoE that `fuseline world fit` made. Immutable; thread-safe.
// Tensors, for U users, I items, W first-layer columns (E experts of X columns, then E gates for each head), V tower columns:
//   user.first [U, W]  item.first [I, W]  first.bias [W]      y = user + item + bias; expert e = relu(its columns of y)
//   tower.hidden.weight [7, V, X]  tower.hidden.bias [7, V]   h = relu(weight (sum_e softmax(gates)_e expert_e) + bias)
//   tower.out.weight [7, V]  tower.out.bias [7]               head = weight h + bias
//   user.profile [U, P]  item.profile [I, Q]                  what a ranker may know
//   user.play_s [U]  item.duration_s [I]  watch.spread [1]    standard deviation of log(1 + seconds) around the head
class ResponseModel {
 public:
  // Errors: kCorrupt naming the tensor whose shape does not fit.
  static Result<ResponseModel> Create(TensorMap tensors);

  std::size_t user_count() const { return Of("user.first").shape[0]; }
  std::size_t item_count() const { return Of("item.first").shape[0]; }
  std::span<const float> UserProfile(std::size_t user) const { return Row("user.profile", user); }
  std::span<const float> ItemProfile(std::size_t item) const { return Row("item.profile", item); }
  double PlaySeconds(std::size_t user) const { return Of("user.play_s").values[user]; }
  double DurationSeconds(std::size_t item) const { return Of("item.duration_s").values[item]; }
  double watch_spread() const { return Of("watch.spread").values[0]; }

  // Probabilities of the tasks, then the watch head. Cost: some 3 us.
  void Predict(std::size_t user, std::size_t item, std::span<float, kResponseHeads> out) const;

 private:
  explicit ResponseModel(TensorMap tensors) : tensors_(std::move(tensors)) {}
  const Tensor& Of(const char* name) const { return tensors_.find(name)->second; }
  std::span<const float> Row(const char* name, std::size_t row) const {
    const Tensor& tensor = Of(name);
    return std::span(tensor.values).subspan(row * tensor.shape[1], tensor.shape[1]);
  }

  TensorMap tensors_;
  std::size_t columns_ = 0, experts_ = 0, expert_width_ = 0, tower_width_ = 0;
};

}  // namespace fuseline
