#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "fuseline/response_model/fit.h"

namespace fuseline {

inline constexpr std::size_t kRateColumns = kResponseTasks + 2;  // A rate for each task, mean log watch, log of the count.

// Sums over the rows of one user or item.
struct Rates {
  double count = 0, watch = 0;
  std::array<double, kResponseTasks> positives{};
  std::array<float, kRateColumns> Columns(const Rates& overall) const;  // Smoothed towards the overall rates.
};

struct ResponseRow {
  std::size_t user = 0, item = 0, tab = 0;  // Indices into ResponseRows::users, items and tabs.
  std::array<float, kResponseTasks> label{};
  float log_watch = 0;                                  // log(1 + seconds).
  std::array<float, kRateColumns> user_rates{}, item_rates{};  // Of the rows before.
  std::vector<float> context;                           // Encoded.
};

struct Side {
  std::uint64_t id = 0;             // In the log.
  std::vector<float> dense;         // Its features in the schema's order, defaults where its table has no row,
  std::vector<std::uint64_t> ids;
  std::vector<float> encoded;       // and encoded.
  Rates rates;                      // Over all rows.
  double play_s = 0;
  double duration_s = 0;
};

// One place of the app where impressions stand: the context's categorical feature.
struct Tab {
  std::uint64_t id = 0;        // As the feature has it.
  std::vector<float> encoded;  // The context's categorical columns, which stand behind its dense ones.
};

struct ResponseRows {
  std::vector<ResponseRow> rows;  // In time order.
  std::vector<Side> users, items;
  std::vector<Tab> tabs;
  Rates overall;
};

Result<ResponseRows> ReadResponseRows(const KuaiRandFiles& files, const ProgressFunction& progress);

// The tab of most of a user's rows, for each user; of equal ones, the first in `tabs`.
std::vector<std::size_t> TabsOfUsers(const ResponseRows& data);

// Area under the ROC curve; ties count one half; -1 where one class is missing.
double AreaUnderCurve(const std::vector<float>& scores, const std::vector<float>& labels);

}  // namespace fuseline
