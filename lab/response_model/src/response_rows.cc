#include "response_rows.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "fuseline/fusion/feature_encoding.h"

namespace fuseline {
namespace {

constexpr double kPriorRows = 10;      // Rows of the overall rate that every user and item is given.
constexpr double kLongViewS = 18;      // Of a longer video; a shorter one to its end.
constexpr double kWatchCapS = 600;

enum Task { kTaskClick, kTaskLike, kTaskFollow, kTaskComment, kTaskForward, kTaskLongView };

void Label(const v1::Feedback& feedback, ResponseRow* row, double* duration_s) {
  switch (feedback.kind()) {
    case v1::Feedback::CLICK: row->label[kTaskClick] = 1; break;
    case v1::Feedback::LIKE: row->label[kTaskLike] = 1; break;
    case v1::Feedback::FOLLOW: row->label[kTaskFollow] = 1; break;
    case v1::Feedback::COMMENT: row->label[kTaskComment] = 1; break;
    case v1::Feedback::SHARE: row->label[kTaskForward] = 1; break;
    case v1::Feedback::WATCH: {
      const double watch_s = static_cast<double>(feedback.watch_ms()) / 1000;
      *duration_s = static_cast<double>(feedback.item_duration_ms()) / 1000;
      row->log_watch = static_cast<float>(std::log1p(std::min(watch_s, kWatchCapS)));
      row->label[kTaskLongView] = *duration_s > 0 && watch_s >= std::min(*duration_s, kLongViewS) ? 1 : 0;
      break;
    }
    default: break;
  }
}

void AddRow(const ResponseRow& row, Rates* rates) {
  rates->count += 1;
  rates->watch += row.log_watch;
  for (std::size_t t = 0; t < kResponseTasks; ++t) rates->positives[t] += row.label[t];
}

// A scope's values, or its defaults where the log has none.
FeatureView WithDefaults(const FeatureView& values, const FeatureView& defaults) {
  return values.dense.empty() && values.ids.empty() ? defaults : values;
}

// Of the schema's features of one scope.
struct Defaults {
  std::vector<float> dense;
  std::vector<std::uint64_t> ids;

  Defaults(const v1::FeatureSchema& schema, v1::FeatureScope scope) {
    for (const auto& feature : schema.features()) {
      if (feature.scope() != scope) continue;
      if (feature.has_dense()) dense.insert(dense.end(), feature.dense().width(), feature.dense().default_value());
      else ids.push_back(feature.categorical().default_value());
    }
  }
  FeatureView view() const { return {dense, ids}; }
};

Result<std::uint64_t> IdOf(const std::string& text) {
  std::uint64_t id = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (code == std::errc() && end == text.data() + text.size()) return id;
  return Error(Code::kInvalidInput, "an id of the log is no number:", text);
}

// Gathers rows from the importer's events: an exposure, then its feedback, each row once.
class Gatherer {
 public:
  Gatherer()
      : encoder_(KuaiRandSchema()),
        user_defaults_(KuaiRandSchema(), v1::USER),
        context_defaults_(KuaiRandSchema(), v1::CONTEXT),
        item_defaults_(KuaiRandSchema(), v1::ITEM) {}

  Status Take(const v1::Event& event) {
    if (event.has_exposure()) return TakeExposure(event);
    const auto found = row_of_request_.find(event.feedback().request_id());
    if (found == row_of_request_.end()) return OkStatus();
    ResponseRow& row = result_.rows[found->second];
    double duration_s = 0;
    Label(event.feedback(), &row, &duration_s);
    if (duration_s > 0) result_.items[row.item].duration_s = duration_s;
    return OkStatus();
  }

  ResponseRows Finish() {
    for (ResponseRow& row : result_.rows) {
      Side& user = result_.users[row.user];
      Side& item = result_.items[row.item];
      row.user_rates = user.rates.Columns(result_.overall);
      row.item_rates = item.rates.Columns(result_.overall);
      AddRow(row, &user.rates);
      AddRow(row, &item.rates);
      AddRow(row, &result_.overall);
      user.play_s += std::expm1(row.log_watch);
    }
    return std::move(result_);
  }

 private:
  Status TakeExposure(const v1::Event& event) {
    const auto& exposure = event.exposure();
    if (!row_of_request_.emplace(exposure.request_id(), result_.rows.size()).second) return OkStatus();  // A duplicate.
    ResponseRow row;
    const FeatureView user = WithDefaults(ViewOf(exposure.user_features()), user_defaults_.view());
    const FeatureView context = WithDefaults(ViewOf(exposure.context_features()), context_defaults_.view());
    // The encoder's shared columns are the user's, then the context's.
    shared_.resize(encoder_.shared_width());
    FUSELINE_RETURN_IF_ERROR(encoder_.EncodeShared(user, context, shared_));
    const std::size_t context_width = ContextWidth();
    row.context.assign(shared_.end() - static_cast<std::ptrdiff_t>(context_width), shared_.end());
    shared_.resize(shared_.size() - context_width);
    FUSELINE_ASSIGN_OR_RETURN(row.user, IndexOf(event.user_id(), user, shared_, &user_index_, &result_.users));
    row.tab = TabOf(context.ids[0], row.context);
    const auto& item = exposure.items(0);
    item_.resize(encoder_.item_width());
    FUSELINE_RETURN_IF_ERROR(encoder_.EncodeItem(ViewOf(item), item_));
    item_.resize(item_.size() - encoder_.task_count());  // The importer's scores are no input here.
    const FeatureView features = WithDefaults(ViewOf(item).features, item_defaults_.view());
    FUSELINE_ASSIGN_OR_RETURN(row.item, IndexOf(item.item_id(), features, item_, &item_index_, &result_.items));
    result_.rows.push_back(std::move(row));
    return OkStatus();
  }

  static std::size_t ContextWidth() {
    std::size_t width = 0;
    const v1::FeatureSchema schema = KuaiRandSchema();
    for (const auto& feature : schema.features()) {
      if (feature.scope() == v1::CONTEXT) width += feature.has_dense() ? feature.dense().width() : feature.categorical().buckets();
    }
    return width;
  }

  std::size_t TabOf(std::uint64_t id, const std::vector<float>& context) {
    const auto found = std::ranges::find(result_.tabs, id, &Tab::id);
    if (found != result_.tabs.end()) return static_cast<std::size_t>(found - result_.tabs.begin());
    const auto dense = static_cast<std::ptrdiff_t>(context_defaults_.dense.size());
    result_.tabs.push_back({id, {context.begin() + dense, context.end()}});
    return result_.tabs.size() - 1;
  }

  static Result<std::size_t> IndexOf(const std::string& id, const FeatureView& features, const std::vector<float>& encoded,
                                     std::unordered_map<std::string, std::size_t>* index, std::vector<Side>* sides) {
    const auto [found, is_new] = index->emplace(id, sides->size());
    if (!is_new) return found->second;
    Side side;
    FUSELINE_ASSIGN_OR_FAIL(side.id, IdOf(id));
    side.dense.assign(features.dense.begin(), features.dense.end());
    side.ids.assign(features.ids.begin(), features.ids.end());
    side.encoded = encoded;
    sides->push_back(std::move(side));
    return found->second;
  }

  FeatureEncoder encoder_;
  const Defaults user_defaults_, context_defaults_, item_defaults_;
  std::vector<float> shared_, item_;
  std::unordered_map<std::string, std::size_t> row_of_request_, user_index_, item_index_;
  ResponseRows result_;
};

}  // namespace

std::array<float, kRateColumns> Rates::Columns(const Rates& overall) const {
  std::array<float, kRateColumns> columns{};
  const double all = overall.count + 2;
  for (std::size_t t = 0; t < kResponseTasks; ++t) {
    const double prior = (overall.positives[t] + 1) / all;
    const double rate = (positives[t] + kPriorRows * prior) / (count + kPriorRows);
    // How far from the overall rate, in log-odds.
    columns[t] = static_cast<float>(std::log(rate / (1 - rate)) - std::log(prior / (1 - prior)));
  }
  const double watch_prior = overall.watch / all;
  columns[kResponseTasks] = static_cast<float>((watch + kPriorRows * watch_prior) / (count + kPriorRows) - watch_prior);
  columns[kResponseTasks + 1] = static_cast<float>(0.25 * std::log1p(count));
  return columns;
}

Result<ResponseRows> ReadResponseRows(const KuaiRandFiles& files, const ProgressFunction& progress) {
  Gatherer gatherer;
  FUSELINE_ASSIGN_OR_FAIL([[maybe_unused]] const KuaiRandSummary summary,
                          ImportKuaiRand(files, {}, [&](const v1::Event& event) { return gatherer.Take(event); }, progress));
  return gatherer.Finish();
}

std::vector<std::size_t> TabsOfUsers(const ResponseRows& data) {
  std::vector<std::size_t> rows(data.users.size() * data.tabs.size(), 0);
  for (const ResponseRow& row : data.rows) ++rows[row.user * data.tabs.size() + row.tab];
  std::vector<std::size_t> tabs;
  for (auto of_user = rows.begin(); of_user != rows.end(); of_user += static_cast<std::ptrdiff_t>(data.tabs.size())) {
    const auto end = of_user + static_cast<std::ptrdiff_t>(data.tabs.size());
    tabs.push_back(static_cast<std::size_t>(std::max_element(of_user, end) - of_user));
  }
  return tabs;
}

double AreaUnderCurve(const std::vector<float>& scores, const std::vector<float>& labels) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return scores[a] < scores[b]; });
  double negatives = 0, positives = 0, pairs = 0;
  for (std::size_t begin = 0; begin < order.size();) {
    double tied_negatives = 0, tied_positives = 0;
    std::size_t end = begin;
    for (; end < order.size() && scores[order[end]] == scores[order[begin]]; ++end) {
      (labels[order[end]] > 0 ? tied_positives : tied_negatives) += 1;
    }
    pairs += tied_positives * (negatives + 0.5 * tied_negatives);
    negatives += tied_negatives;
    positives += tied_positives;
    begin = end;
  }
  return positives == 0 || negatives == 0 ? -1 : pairs / (positives * negatives);
}

}  // namespace fuseline
