#pragma once

#include <array>
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
  std::size_t user = 0, item = 0;  // Indices into Rows::users and items.
  std::array<float, kResponseTasks> label{};
  float log_watch = 0;                                  // log(1 + seconds).
  std::array<float, kRateColumns> user_rates{}, item_rates{};  // Of the rows before.
  std::vector<float> context;                           // Encoded.
};

struct Side {
  std::vector<float> encoded;  // Of its side table.
  Rates rates;                 // Over all rows.
  double play_s = 0;
  double duration_s = 0;
};

struct ResponseRows {
  std::vector<ResponseRow> rows;  // In time order.
  std::vector<Side> users, items;
  Rates overall;
};

Result<ResponseRows> ReadResponseRows(const KuaiRandFiles& files, const ProgressFunction& progress);

// Area under the ROC curve; ties count one half; -1 where one class is missing.
double AreaUnderCurve(const std::vector<float>& scores, const std::vector<float>& labels);

}  // namespace fuseline
