#include "fuseline/response_model/fit.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include <torch/torch.h>

#include "fuseline/core/random.h"
#include "fitted_network.h"
#include "log_part.h"
#include "response_rows.h"

namespace fuseline {
namespace {

constexpr std::int64_t kExperts = 4, kExpertWidth = 24, kTowerWidth = 12;
constexpr std::int64_t kHeads = kResponseTasks + 1;  // The watch head is the last.
constexpr std::size_t kProfileWidth = kRateColumns;
constexpr std::size_t kRowsMin = 1'000;

struct MmoeImpl : torch::nn::Module {
  explicit MmoeImpl(std::int64_t inputs) {
    first = register_module("first", torch::nn::Linear(inputs, kExperts * kExpertWidth + kHeads * kExperts));
    hidden = register_parameter("hidden", 0.2 * torch::randn({kHeads, kExpertWidth, kTowerWidth}));
    hidden_bias = register_parameter("hidden_bias", torch::zeros({kHeads, 1, kTowerWidth}));
    out = register_parameter("out", 0.2 * torch::randn({kHeads, kTowerWidth, 1}));
    out_bias = register_parameter("out_bias", torch::zeros({kHeads, 1, 1}));
  }

  torch::Tensor forward(const torch::Tensor& x) {  // [n, inputs] → logits [n, kHeads]
    const auto n = x.size(0);
    const auto y = first->forward(x);
    const auto experts = torch::relu(y.slice(1, 0, kExperts * kExpertWidth)).view({n, kExperts, kExpertWidth});
    const auto gates = torch::softmax(y.slice(1, kExperts * kExpertWidth).view({n, kHeads, kExperts}), -1);
    const auto mixed = torch::bmm(gates, experts).transpose(0, 1);  // [kHeads, n, kExpertWidth]
    const auto tower = torch::relu(torch::baddbmm(hidden_bias, mixed, hidden));
    return torch::baddbmm(out_bias, tower, out).squeeze(-1).transpose(0, 1);
  }

  torch::nn::Linear first{nullptr};
  torch::Tensor hidden, hidden_bias, out, out_bias;
};
TORCH_MODULE(Mmoe);

// Columns: user's side table | user's rates | context | item's side table | item's rates.
struct Columns {
  std::size_t user = 0, context = 0, item = 0;
  std::size_t user_end() const { return user + kRateColumns; }
  std::size_t item_begin() const { return user_end() + context; }
  std::size_t all() const { return item_begin() + item + kRateColumns; }
};

void WriteInputs(const ResponseRows& data, const ResponseRow& row, float* out) {
  const auto put = [&](const auto& values) { out = std::copy(values.begin(), values.end(), out); };
  put(data.users[row.user].encoded);
  put(row.user_rates);
  put(row.context);
  put(data.items[row.item].encoded);
  put(row.item_rates);
}

// Rows [begin, end) of `order` as tensors.
struct Batch {
  torch::Tensor inputs, labels, log_watch;
};
Batch MakeBatch(const ResponseRows& data, const Columns& columns, std::span<const std::size_t> order) {
  const auto n = static_cast<std::int64_t>(order.size());
  Batch batch{torch::empty({n, static_cast<std::int64_t>(columns.all())}),
              torch::empty({n, static_cast<std::int64_t>(kResponseTasks)}), torch::empty({n})};
  for (std::size_t i = 0; i < order.size(); ++i) {
    const ResponseRow& row = data.rows[order[i]];
    WriteInputs(data, row, batch.inputs.data_ptr<float>() + i * columns.all());
    std::copy(row.label.begin(), row.label.end(), batch.labels.data_ptr<float>() + i * kResponseTasks);
    batch.log_watch.data_ptr<float>()[i] = row.log_watch;
  }
  return batch;
}

torch::Tensor Loss(Mmoe& model, const Batch& batch) {
  const auto logits = model->forward(batch.inputs);
  const auto tasks = logits.slice(1, 0, static_cast<std::int64_t>(kResponseTasks));
  const auto answers = torch::binary_cross_entropy_with_logits(tasks, batch.labels, {}, {}, at::Reduction::None).sum(1).mean();
  const auto clicked = batch.labels.select(1, 0);
  const auto miss = logits.select(1, kHeads - 1) - batch.log_watch;
  return answers + (clicked * miss * miss).sum() / clicked.sum().clamp_min(1);
}

// Heads begin at what all rows do on average: most answers are rare, and the time watched is far from 0.
void BeginAtMeans(Mmoe& model, const ResponseRows& data, std::size_t train_rows) {
  torch::NoGradGuard no_grad;
  double clicked_watch = 0;
  std::array<double, kResponseTasks> positives{};
  for (std::size_t i = 0; i < train_rows; ++i) {
    const ResponseRow& row = data.rows[i];
    for (std::size_t t = 0; t < kResponseTasks; ++t) positives[t] += row.label[t];
    clicked_watch += row.label[0] * row.log_watch;
  }
  float* bias = model->out_bias.data_ptr<float>();
  for (std::size_t t = 0; t < kResponseTasks; ++t) {
    bias[t] = static_cast<float>(std::log((positives[t] + 1) / (static_cast<double>(train_rows) - positives[t] + 1)));
  }
  bias[kHeads - 1] = static_cast<float>(clicked_watch / std::max(positives[0], 1.0));
}

void Train(Mmoe& model, const ResponseRows& data, const Columns& columns, const ResponseFitOptions& options,
           std::size_t train_rows, const ProgressFunction& progress) {
  torch::optim::AdamW optimiser(model->parameters(), torch::optim::AdamWOptions(options.learning_rate).weight_decay(0.01));
  std::vector<std::size_t> order(train_rows);
  const auto size = static_cast<std::size_t>(options.batch_rows);
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    std::iota(order.begin(), order.end(), std::size_t{0});
    Random random(options.seed, "response_model.order", static_cast<std::uint64_t>(epoch));
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.NextBelow(i)]);
    for (std::size_t begin = 0; begin < order.size(); begin += size) {
      const auto rows = std::span(order).subspan(begin, std::min(size, order.size() - begin));
      optimiser.zero_grad();
      Loss(model, MakeBatch(data, columns, rows)).backward();
      optimiser.step();
      if (progress) {
        progress({"training", static_cast<std::uint64_t>(epoch) * train_rows + begin + rows.size(),
                  static_cast<std::uint64_t>(options.epochs) * train_rows});
      }
    }
  }
}

// Fills the report's figures of the rows from `train_rows` on.
void Validate(Mmoe& model, const ResponseRows& data, const Columns& columns, std::size_t train_rows, ResponseFitReport* report) {
  torch::NoGradGuard no_grad;
  std::array<std::vector<float>, kResponseTasks> scores, labels;
  double squares = 0, sum = 0, sum_squares = 0, clicked = 0;
  std::vector<std::size_t> order(data.rows.size() - train_rows);
  std::iota(order.begin(), order.end(), train_rows);
  for (std::size_t begin = 0; begin < order.size(); begin += 1024) {
    const auto rows = std::span(order).subspan(begin, std::min<std::size_t>(1024, order.size() - begin));
    const auto logits = model->forward(MakeBatch(data, columns, rows).inputs).contiguous();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float* of_row = logits.data_ptr<float>() + i * kHeads;
      const ResponseRow& row = data.rows[rows[i]];
      for (std::size_t t = 0; t < kResponseTasks; ++t) {
        scores[t].push_back(of_row[t]);
        labels[t].push_back(row.label[t]);
        report->positives[t] += row.label[t] > 0 ? 1 : 0;
      }
      if (row.label[0] == 0) continue;
      const double miss = of_row[kHeads - 1] - row.log_watch;
      clicked += 1;
      squares += miss * miss;
      sum += row.log_watch;
      sum_squares += static_cast<double>(row.log_watch) * row.log_watch;
    }
  }
  for (std::size_t t = 0; t < kResponseTasks; ++t) report->auc[t] = AreaUnderCurve(scores[t], labels[t]);
  clicked = std::max(clicked, 1.0);
  report->watch_error = std::sqrt(squares / clicked);
  report->watch_spread = std::sqrt(std::max(sum_squares / clicked - (sum / clicked) * (sum / clicked), 0.0));
}

void Put(TensorMap* file, const std::string& name, const torch::Tensor& tensor) {
  const auto flat = tensor.detach().contiguous();
  Tensor& out = (*file)[name];
  for (const auto side : flat.sizes()) out.shape.push_back(static_cast<std::uint32_t>(side));
  out.values.assign(flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel());
}

// The sides with the most rows, those first; ties keep the order of appearance.
std::vector<std::size_t> Busiest(const std::vector<Side>& sides, std::size_t most) {
  std::vector<std::size_t> order(sides.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return sides[a].rates.count > sides[b].rates.count; });
  order.resize(std::min(most, order.size()));
  return order;
}

// First-layer parts and profiles of one scope.
void PutSides(const std::string& scope, const ResponseRows& data, const std::vector<Side>& sides,
              const std::vector<std::size_t>& kept, const torch::Tensor& weight, TensorMap* file) {
  const auto width = weight.size(1);
  auto inputs = torch::empty({static_cast<std::int64_t>(kept.size()), width});
  auto profiles = torch::empty({static_cast<std::int64_t>(kept.size()), static_cast<std::int64_t>(kProfileWidth)});
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const Side& side = sides[kept[i]];
    const auto rates = side.rates.Columns(data.overall);
    float* out = inputs.data_ptr<float>() + static_cast<std::int64_t>(i) * width;
    out = std::copy(side.encoded.begin(), side.encoded.end(), out);
    std::copy(rates.begin(), rates.end(), out);
    std::copy(rates.begin(), rates.end(), profiles.data_ptr<float>() + i * kProfileWidth);
  }
  Put(file, scope + ".first", torch::matmul(inputs, weight.t()));
  Put(file, scope + ".profile", profiles);
}

// What each tab adds to the first layer, beside the context's mean.
void PutTabs(const ResponseRows& data, const std::vector<float>& mean_context, const torch::Tensor& weight, TensorMap* file) {
  const std::size_t width = data.tabs[0].encoded.size(), first = mean_context.size() - width;
  auto differences = torch::empty({static_cast<std::int64_t>(data.tabs.size()), static_cast<std::int64_t>(width)});
  float* out = differences.data_ptr<float>();
  for (const Tab& tab : data.tabs)
    for (std::size_t c = 0; c < width; ++c) *out++ = tab.encoded[c] - mean_context[first + c];
  Put(file, "tab.first", torch::matmul(differences, weight.slice(1, static_cast<std::int64_t>(first)).t()));
}

TensorMap ExportOf(Mmoe& model, const ResponseRows& data, const Columns& columns, const ResponseFitOptions& options,
                 double watch_error) {
  torch::NoGradGuard no_grad;
  const auto users = Busiest(data.users, options.users_max), items = Busiest(data.items, options.items_max);
  const auto weight = model->first->weight;
  const auto at = [](std::size_t column) { return static_cast<std::int64_t>(column); };
  std::vector<float> context(columns.context, 0);
  for (const ResponseRow& row : data.rows) {
    for (std::size_t c = 0; c < context.size(); ++c) context[c] += row.context[c] / static_cast<float>(data.rows.size());
  }
  TensorMap file;
  PutSides("user", data, data.users, users, weight.slice(1, 0, at(columns.user_end())), &file);
  PutSides("item", data, data.items, items, weight.slice(1, at(columns.item_begin()), at(columns.all())), &file);
  const auto of_context = weight.slice(1, at(columns.user_end()), at(columns.item_begin()));
  Put(&file, "first.bias", model->first->bias + torch::matmul(of_context, torch::tensor(context)));
  PutTabs(data, context, of_context, &file);
  PutLogPart(data, users, items, &file);
  Put(&file, "tower.hidden.weight", model->hidden.transpose(1, 2));
  Put(&file, "tower.hidden.bias", model->hidden_bias.squeeze(1));
  Put(&file, "tower.out.weight", model->out.squeeze(-1));
  Put(&file, "tower.out.bias", model->out_bias.view({kHeads}));
  const auto plain = [&](const char* name, const std::vector<std::size_t>& kept, auto value_of) {
    Tensor& out = file[name];
    out.shape = {static_cast<std::uint32_t>(kept.size())};
    for (const std::size_t index : kept) out.values.push_back(static_cast<float>(value_of(index)));
  };
  plain("user.play_s", users, [&](std::size_t u) { return data.users[u].play_s; });
  plain("item.duration_s", items, [&](std::size_t i) { return std::max(data.items[i].duration_s, 1.0); });
  file["watch.spread"] = {{1}, {static_cast<float>(watch_error)}};
  return file;
}

}  // namespace

struct FittedNetwork::Parts {
  Columns columns;
  Mmoe model;
};

FittedNetwork::FittedNetwork(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
FittedNetwork::FittedNetwork(FittedNetwork&&) noexcept = default;
FittedNetwork::~FittedNetwork() = default;

FittedNetwork FittedNetwork::Fit(const ResponseRows& data, const ResponseFitOptions& options,
                                 const ProgressFunction& progress, ResponseFitReport* report) {
  report->validation_rows = static_cast<std::size_t>(options.validation_share * static_cast<double>(data.rows.size()));
  report->train_rows = data.rows.size() - report->validation_rows;
  const Columns columns{data.users[0].encoded.size(), data.rows[0].context.size(), data.items[0].encoded.size()};
  at::set_num_threads(1);
  torch::manual_seed(options.seed);
  Mmoe model(static_cast<std::int64_t>(columns.all()));
  BeginAtMeans(model, data, report->train_rows);
  Train(model, data, columns, options, report->train_rows, progress);
  Validate(model, data, columns, report->train_rows, report);
  return FittedNetwork(std::make_unique<Parts>(Parts{columns, std::move(model)}));
}

TensorMap FittedNetwork::Export(const ResponseRows& data, const ResponseFitOptions& options, double watch_error) const {
  return ExportOf(parts_->model, data, parts_->columns, options, watch_error);
}

std::vector<float> FittedNetwork::Heads(const ResponseRows& data, const ResponseRow& row) const {
  torch::NoGradGuard no_grad;
  const auto inputs = torch::empty({1, static_cast<std::int64_t>(parts_->columns.all())});
  WriteInputs(data, row, inputs.data_ptr<float>());
  const auto heads = parts_->model->forward(inputs).contiguous();
  return {heads.data_ptr<float>(), heads.data_ptr<float>() + kHeads};
}

Result<TensorMap> FitResponseModel(const ResponseFitOptions& options, const ProgressFunction& progress,
                                   ResponseFitReport* report) {
  FUSELINE_ASSIGN_OR_FAIL(const ResponseRows data, ReadResponseRows(options.files, progress));
  if (data.rows.size() < kRowsMin) return Error(Code::kInvalidInput, "too few rows to fit a response model:", data.rows.size());
  try {
    const FittedNetwork network = FittedNetwork::Fit(data, options, progress, report);
    return network.Export(data, options, report->watch_error);
  } catch (const std::exception& error) {
    return Error(Code::kInternal, "the response model cannot be fitted:", error.what());
  }
}

}  // namespace fuseline
