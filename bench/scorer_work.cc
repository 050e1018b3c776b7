#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>

#include "fuseline/core/random.h"
#include "fuseline/fusion/scorer_inputs.h"
#include "fuseline/learner/scorer.h"
#include "fuseline/proto/settings.h"
#include "kuairand_rows.h"
#include "measure.h"
#include "scorer/input_statistics.h"
#include "scorer_case.h"

namespace fuseline::bench {
namespace {

constexpr std::uint64_t kUsers = 100'000, kItems = 30'000, kValues = 40;  // The last: of another categorical feature.
constexpr std::uint32_t kOtherRows = 100;  // Of a field, where the table's size is said.

ScorerFields Begin(const std::string& backbone, const std::string& preset, ScorerWork& work) {
  work.config = DefaultSettings();
  *work.config.mutable_schema() = KuaiRandFeatures();
  work.config.mutable_scorer()->set_backbone(backbone);
  work.config.mutable_scorer()->set_preset(preset);
  work.dropout = SizesOf(work.config.scorer()).dropout;
  work.config.mutable_scorer()->set_dropout(0);
  work.config.mutable_learner()->set_threads(1);
  auto fields = Must(ScorerFields::Create(work.config));
  work.shape = fields.shape();
  work.tasks = fields.tasks().size();
  return fields;
}

class Zipf {
 public:
  explicit Zipf(std::uint64_t n) {
    double sum = 0;
    for (std::uint64_t i = 1; i <= n; ++i) sums_.push_back(sum += 1.0 / static_cast<double>(i));
  }
  std::uint64_t Draw(Random& random) const {
    const auto found = std::ranges::upper_bound(sums_, random.NextUniform() * sums_.back());
    return static_cast<std::uint64_t>(std::min(found, sums_.end() - 1) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

double TasteOf(const char* whose, std::uint64_t id) { return Random(1, whose, id).NextNormal(); }

// Each row's inputs by what was known when it was shown.
ScorerBatch InputsOf(const v1::ScorerShape& shape, const ScorerRows& rows, std::size_t train_end) {
  InputStatistics inputs(shape, rows.tasks);
  std::vector<float> numbers;
  using Due = std::pair<std::int64_t, std::size_t>;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> unknown;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (; !unknown.empty() && unknown.top().first < rows.time_ms[row]; unknown.pop())
      inputs.CountOutcome(rows, unknown.top().second);
    inputs.Numbers(rows, row, &numbers);
    if (row < train_end) inputs.CountInput(rows, row, std::span(numbers).last(inputs.numbers()));
    unknown.emplace(rows.known_ms[row], row);
  }
  std::vector<std::size_t> all(rows.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return inputs.Gather(rows, all, numbers);
}

}  // namespace

std::size_t ScorerWork::table_rows() const {
  const auto rare = static_cast<std::size_t>(shape.buckets_size());
  return std::accumulate(shape.buckets().begin(), shape.buckets().end(), rare);
}

ScorerWork MadeUpWork(const std::string& backbone, const std::string& preset, std::size_t batches,
                      std::size_t table_rows) {
  ScorerWork work;
  Begin(backbone, preset, work);
  const int count = work.shape.buckets_size();
  if (table_rows > 0) {
    for (std::uint32_t& buckets : *work.shape.mutable_buckets()) buckets = kOtherRows;
    const auto others = static_cast<std::size_t>(count - 1) * (kOtherRows + 1);
    work.shape.set_buckets(count - 2, static_cast<std::uint32_t>(table_rows - others - 1));
  }
  const Zipf users(kUsers), items(kItems), values(kValues);
  Random random(1, "scorer_bench", 0);
  ScorerBatch& rows = work.rows;
  rows.size = work.train_end = batches * work.batch();
  for (std::size_t row = 0; row < rows.size; ++row) {
    const std::uint64_t user = users.Draw(random), item = items.Draw(random);
    std::uint32_t first = 0;
    for (int f = 0; f < count; ++f) {
      const std::uint64_t id = f == count - 2 ? user : f == count - 1 ? item : values.Draw(random);
      rows.ids.push_back(ScorerRowOf(first, work.shape.buckets(f), id));
      first += work.shape.buckets(f) + 1;
    }
    for (std::size_t i = 0; i < ScorerNumbers(work.shape, work.tasks); ++i)
      rows.dense.push_back(static_cast<float>(random.NextNormal()));
    const double taste = TasteOf("user", user) + TasteOf("item", item) + static_cast<double>(rows.dense.back()) - 1;
    const bool click = random.NextUniform() < 1 / (1 + std::exp(-taste));
    const bool long_view = click && random.NextUniform() < 0.6;
    rows.labels.insert(rows.labels.end(), {click ? 1.0F : 0.0F, long_view ? 1.0F : 0.0F});
  }
  rows.weights.assign(rows.labels.size(), 1.0F);
  work.order.emplace_back(rows.size);
  std::iota(work.order[0].begin(), work.order[0].end(), std::size_t{0});
  return work;
}

ScorerWork KuaiRandWork(const std::string& backbone, const std::string& preset, const std::filesystem::path& folder,
                        std::size_t epochs) {
  ScorerWork work;
  const ScorerFields fields = Begin(backbone, preset, work);
  const ScorerRows rows = KuaiRandRows(fields, folder);
  const double share = work.config.scorer().validation_share();
  work.train_end = rows.size() - static_cast<std::size_t>(share * static_cast<double>(rows.size()));
  work.rows = InputsOf(work.shape, rows, work.train_end);
  for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
    std::vector<std::size_t>& order = work.order.emplace_back(work.train_end);
    std::iota(order.begin(), order.end(), std::size_t{0});
    Random random(work.config.fuseline().seed(), "scorer.order", epoch);
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.NextBelow(i)]);
  }
  return work;
}

}  // namespace fuseline::bench
