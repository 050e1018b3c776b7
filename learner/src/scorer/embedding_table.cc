#include "scorer/embedding_table.h"

#include <algorithm>
#include <cmath>

#include "fuseline/core/check.h"
#include "fuseline/core/random.h"

namespace fuseline {
namespace {

constexpr double kBeginDeviation = 0.01;
constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;

Result<std::vector<float>> Named(const TensorMap& tensors, const std::string& name, std::size_t values) {
  const auto found = tensors.find(name);
  if (found == tensors.end() || found->second.values.size() != values)
    return Error(Code::kCorrupt, "weights lack a tensor, or it has another size:", name);
  return found->second.values;
}

}  // namespace

EmbeddingTable::EmbeddingTable(std::size_t rows, std::size_t width, std::uint64_t seed, const std::string& purpose)
    : width_(width), values_(rows * width), first_(rows * width, 0.0F), second_(rows * width, 0.0F), updates_(rows, 0), slot_(rows, 0) {
  Random random(seed, purpose, 0);
  for (float& value : values_) value = static_cast<float>(kBeginDeviation * random.NextNormal());
}

EmbeddingTable::Distinct EmbeddingTable::Find(std::span<const std::uint32_t> wanted) const {
  Distinct found;
  for (const std::uint32_t row : wanted) {
    FUSELINE_CHECK(row < slot_.size());
    if (slot_[row] == 0) found.rows.push_back(row);
    slot_[row] = 1;
  }
  std::ranges::sort(found.rows);
  for (std::size_t i = 0; i < found.rows.size(); ++i) slot_[found.rows[i]] = static_cast<std::uint32_t>(i + 1);
  found.place.reserve(wanted.size());
  for (const std::uint32_t row : wanted) found.place.push_back(static_cast<std::int64_t>(slot_[row]) - 1);
  for (const std::uint32_t row : found.rows) slot_[row] = 0;
  return found;
}

void EmbeddingTable::Read(std::span<const std::uint32_t> rows, float* out) const {
  for (const std::uint32_t row : rows) out = std::copy_n(values_.data() + row * width_, width_, out);
}

void EmbeddingTable::Update(std::span<const std::uint32_t> rows, std::span<const float> gradient, double rate, double decay) {
  FUSELINE_CHECK(gradient.size() == rows.size() * width_);
  const float* down = gradient.data();
  for (const std::uint32_t row : rows) {
    const auto count = static_cast<double>(++updates_[row]);
    const auto step = static_cast<float>(rate / (1.0 - std::pow(kBeta1, count)));
    const auto root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(kBeta2, count)));
    const auto keep = static_cast<float>(1.0 - rate * decay);
    float* const value = values_.data() + row * width_;
    float* const first = first_.data() + row * width_;
    float* const second = second_.data() + row * width_;
    for (std::size_t i = 0; i < width_; ++i, ++down) {
      first[i] = static_cast<float>(kBeta1) * first[i] + static_cast<float>(1 - kBeta1) * *down;
      second[i] = static_cast<float>(kBeta2) * second[i] + static_cast<float>(1 - kBeta2) * *down * *down;
      value[i] = keep * value[i] - step * first[i] / (std::sqrt(second[i]) * root + static_cast<float>(kEpsilon));
    }
  }
}

void EmbeddingTable::Follow(const EmbeddingTable& other, std::span<const std::uint32_t> rows, double rate) {
  const auto share = static_cast<float>(rate);
  for (const std::uint32_t row : rows) {
    for (std::size_t i = row * width_; i < (row + 1) * width_; ++i) values_[i] += share * (other.values_[i] - values_[i]);
  }
}

void EmbeddingTable::Export(const std::string& name, bool moments, TensorMap* tensors) const {
  const std::vector<std::uint32_t> shape = {static_cast<std::uint32_t>(rows()), static_cast<std::uint32_t>(width_)};
  (*tensors)[name] = {shape, values_};
  if (!moments) return;
  (*tensors)[name + ".first"] = {shape, first_};
  (*tensors)[name + ".second"] = {shape, second_};
  (*tensors)[name + ".updates"] = {{shape[0]}, {updates_.begin(), updates_.end()}};  // Exact below 2^24.
}

Status EmbeddingTable::Import(const std::string& name, bool moments, const TensorMap& tensors) {
  FUSELINE_ASSIGN_OR_RETURN(auto values, Named(tensors, name, values_.size()));
  std::vector<float> first(values.size(), 0.0F), second(values.size(), 0.0F), updates(rows(), 0.0F);
  if (moments) {
    FUSELINE_ASSIGN_OR_RETURN(first, Named(tensors, name + ".first", values.size()));
    FUSELINE_ASSIGN_OR_RETURN(second, Named(tensors, name + ".second", values.size()));
    FUSELINE_ASSIGN_OR_RETURN(updates, Named(tensors, name + ".updates", rows()));
  }
  values_ = std::move(values);
  first_ = std::move(first);
  second_ = std::move(second);
  updates_.assign(updates.begin(), updates.end());
  return OkStatus();
}

}  // namespace fuseline
