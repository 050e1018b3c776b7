#include "scorer/embedding_table.h"

#include <algorithm>
#include <cmath>

#include "fuseline/core/check.h"
#include "fuseline/fusion/sparse_rows.h"

namespace fuseline {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;

Result<std::vector<float>> Named(const TensorMap& tensors, const std::string& name, std::size_t values) {
  const auto found = tensors.find(name);
  if (found == tensors.end() || found->second.values.size() != values)
    return Error(Code::kCorrupt, "weights lack a tensor, or it has another size:", name);
  return found->second.values;
}

}  // namespace

EmbeddingTable::EmbeddingTable(std::size_t rows, std::size_t width) : width_(width), slot_(rows, kNone), found_(rows, 0) {}

EmbeddingTable::Distinct EmbeddingTable::Find(std::span<const std::uint32_t> wanted) const {
  Distinct distinct;
  for (const std::uint32_t row : wanted) {
    FUSELINE_CHECK(row < found_.size());
    if (found_[row] == 0) distinct.rows.push_back(row);
    found_[row] = 1;
  }
  std::ranges::sort(distinct.rows);
  for (std::size_t i = 0; i < distinct.rows.size(); ++i) found_[distinct.rows[i]] = static_cast<std::uint32_t>(i + 1);
  distinct.place.reserve(wanted.size());
  for (const std::uint32_t row : wanted) distinct.place.push_back(static_cast<std::int64_t>(found_[row]) - 1);
  for (const std::uint32_t row : distinct.rows) found_[row] = 0;
  return distinct;
}

std::size_t EmbeddingTable::SlotOf(std::uint32_t row) {
  if (slot_[row] == kNone) {
    slot_[row] = static_cast<std::uint32_t>(updates_.size());
    updates_.push_back(0);
    for (std::vector<float>* table : {&values_, &first_, &second_}) table->resize(updates_.size() * width_, 0.0F);
  }
  return slot_[row];
}

void EmbeddingTable::Read(std::span<const std::uint32_t> rows, float* out) const {
  for (const std::uint32_t row : rows) {
    const std::uint32_t slot = slot_[row];
    out = slot == kNone ? std::fill_n(out, width_, 0.0F) : std::copy_n(values_.data() + slot * width_, width_, out);
  }
}

void EmbeddingTable::Update(std::span<const std::uint32_t> rows, std::span<const float> gradient, double rate, double decay) {
  FUSELINE_CHECK(gradient.size() == rows.size() * width_);
  const float* down = gradient.data();
  for (const std::uint32_t row : rows) {
    const std::size_t slot = SlotOf(row);
    const auto count = static_cast<double>(++updates_[slot]);
    const auto step = static_cast<float>(rate / (1.0 - std::pow(kBeta1, count)));
    const auto root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(kBeta2, count)));
    const auto keep = static_cast<float>(1.0 - rate * decay);
    float* const value = values_.data() + slot * width_;
    float* const first = first_.data() + slot * width_;
    float* const second = second_.data() + slot * width_;
    for (std::size_t i = 0; i < width_; ++i, ++down) {
      first[i] = static_cast<float>(kBeta1) * first[i] + static_cast<float>(1 - kBeta1) * *down;
      second[i] = static_cast<float>(kBeta2) * second[i] + static_cast<float>(1 - kBeta2) * *down * *down;
      value[i] = keep * value[i] - step * first[i] / (std::sqrt(second[i]) * root + static_cast<float>(kEpsilon));
    }
  }
}

void EmbeddingTable::Follow(const EmbeddingTable& other, std::span<const std::uint32_t> rows, double rate) {
  const auto share = static_cast<float>(rate);
  std::vector<float> theirs(width_);
  for (const std::uint32_t row : rows) {
    other.Read({&row, 1}, theirs.data());
    const std::size_t slot = SlotOf(row);  // Which may move the tables.
    float* const value = values_.data() + slot * width_;
    for (std::size_t i = 0; i < width_; ++i) value[i] += share * (theirs[i] - value[i]);
  }
}

void EmbeddingTable::Export(const std::string& name, bool moments, TensorMap* tensors) const {
  Tensor numbers, updates;
  std::vector<std::size_t> slots;  // By ascending row.
  for (std::uint32_t row = 0; row < slot_.size(); ++row) {
    if (slot_[row] == kNone) continue;
    numbers.values.push_back(static_cast<float>(row));
    slots.push_back(slot_[row]);
    updates.values.push_back(static_cast<float>(updates_[slot_[row]]));  // Exact below 2^24.
  }
  numbers.shape = updates.shape = {static_cast<std::uint32_t>(slots.size())};
  const auto gathered = [&](const std::vector<float>& table) {
    Tensor tensor{{static_cast<std::uint32_t>(slots.size()), static_cast<std::uint32_t>(width_)}, {}};
    for (const std::size_t slot : slots) {
      const auto from = table.begin() + static_cast<std::ptrdiff_t>(slot * width_);
      tensor.values.insert(tensor.values.end(), from, from + static_cast<std::ptrdiff_t>(width_));
    }
    return tensor;
  };
  (*tensors)[name + ".rows"] = std::move(numbers);
  (*tensors)[name] = gathered(values_);
  if (!moments) return;
  (*tensors)[name + ".first"] = gathered(first_);
  (*tensors)[name + ".second"] = gathered(second_);
  (*tensors)[name + ".updates"] = std::move(updates);
}

Status EmbeddingTable::Import(const std::string& name, bool moments, const TensorMap& tensors) {
  FUSELINE_ASSIGN_OR_RETURN(const auto packed, PackedRows(tensors, name, rows(), width_));
  const std::size_t values = packed.size() * width_;
  std::vector<float> first(values, 0.0F), second(values, 0.0F), updates(packed.size(), 0.0F);
  if (moments) {
    FUSELINE_ASSIGN_OR_RETURN(first, Named(tensors, name + ".first", values));
    FUSELINE_ASSIGN_OR_RETURN(second, Named(tensors, name + ".second", values));
    FUSELINE_ASSIGN_OR_RETURN(updates, Named(tensors, name + ".updates", packed.size()));
  }
  values_ = tensors.find(name)->second.values;
  first_ = std::move(first);
  second_ = std::move(second);
  updates_.assign(updates.begin(), updates.end());
  std::ranges::fill(slot_, kNone);
  for (std::size_t slot = 0; slot < packed.size(); ++slot) slot_[packed[slot]] = static_cast<std::uint32_t>(slot);
  return OkStatus();
}

}  // namespace fuseline
