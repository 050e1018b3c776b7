#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "fuseline/core/status.h"
#include "fuseline/datasets/kuairand.h"
#include "fuseline/fusion/weights_file.h"

namespace fuseline {

inline constexpr std::size_t kResponseTasks = 6;  // click, like, follow, comment, forward, long view; a watch head besides.
inline constexpr std::array<const char*, kResponseTasks> kResponseTaskNames = {"click",   "like",    "follow",
                                                                               "comment", "forward", "long_view"};

struct ResponseFitOptions {
  KuaiRandFiles files;
  int epochs = 3;
  int batch_rows = 512;
  double learning_rate = 2e-3;
  double validation_share = 0.25;  // The last rows in time.
  std::uint64_t seed = 1;
  std::size_t users_max = 4'000;   // Users and items that the model keeps: those with the most rows.
  std::size_t items_max = 6'000;
};

struct ResponseFitReport {
  std::size_t train_rows = 0, validation_rows = 0;
  std::array<double, kResponseTasks> auc{};               // On the validation rows; -1 where one class is missing.
  std::array<std::uint64_t, kResponseTasks> positives{};  // Among them.
  double watch_error = 0;  // Root mean square of log(1 + seconds) of clicked validation rows,
  double watch_spread = 0; // and its standard deviation around their mean: what no model has.
};

// An MMoE (Ma et al., KDD 2018) over KuaiRand's impressions: what users of that log do with what they are shown, for the simulator's
// worlds. Experts are one ReLU layer over user and item, towers have one hidden layer; so the first layer of a pair is the
// sum of a part of the user and a part of the item, and the file holds just these parts, one row for each user and item kept,
// beside the towers: no LibTorch and no log is needed to use it (lab/simulator, response_model.h draws the layout). The parts are
// derived from the log: share the file as the log's licence asks.
// Features: the side tables, encoded as FeatureEncoder does, the tab and the hour, and smoothed rates of user and item over the rows
// before. The context is folded into the bias at its mean; what each tab adds to it stands beside, as do the log's ids of users, items and
// tabs and their features, so that a world can show rankers what the log's would have seen (lab/simulator, log_catalogue.h).
// Long view: watched to the end, or 18 s of a longer video, as the log defines it.
// One thread (LibTorch's own are set to one, for the whole program); deterministic for one build. Errors: as ImportKuaiRand; kInvalidInput for fewer than 1,000 rows; kInternal, LibTorch's.
// Cost: some 3 kB of memory a row, and about 0.1 ms a row and epoch.
Result<TensorMap> FitResponseModel(const ResponseFitOptions& options, const ProgressFunction& progress,
                                   ResponseFitReport* report);

}  // namespace fuseline
