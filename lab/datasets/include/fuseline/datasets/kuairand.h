#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fuseline/core/status.h"
#include "fuseline/v1/config.pb.h"
#include "fuseline/v1/event.pb.h"
#include "fuseline/v1/schema.pb.h"

namespace fuseline {

// KuaiRand (Gao et al., CIKM 2022): the log of a short-video feed, one row = one impression with its feedback,
// made into events. docs/kuairand.md says how each column is used.

// Tasks, in the order of the schema.
enum KuaiRandTask : std::uint8_t { kClick, kLongView, kLike, kComment, kForward, kWatch, kKuaiRandTasks };
inline constexpr std::size_t kKuaiRandBinaryTasks = kWatch;

// The features and tasks of the events made here; ValidateSchema holds.
v1::FeatureSchema KuaiRandSchema();

// Settings that differ from the defaults, as a YAML file that LoadSettings reads: the schema, a 6 h gap (the log is
// sparse), learning from the static arm (it holds nothing else).
std::string KuaiRandSettings();

struct KuaiRandFiles {
  std::filesystem::path log, users, videos;  // CSV, plain or .gz; columns are found by their header.
};

struct KuaiRandImpressions;  // kuairand_impressions.h

// A model whose scores stand in the events of the tasks that it knows, in place of the smoothed rates. It has
// learned from the log until `learned_until_ms`, so events begin after that: no score knows its own outcome.
struct KuaiRandScorer {
  std::int64_t learned_until_ms = 0;
  std::vector<std::size_t> tasks;  // KuaiRandTasks.
  std::function<Result<std::vector<float>>(const KuaiRandImpressions& impressions)> score;  // → [rows, tasks], in the tasks' ranges; empty: no scorer.
};

struct KuaiRandOptions {
  bool skip_bad_rows = false;  // Leave bad rows of the log out and report them; else the first one ends the import.
  std::size_t reported_bad_rows = 10;
  KuaiRandScorer scorer;
};

// How far an import is; phase by phase.
struct ImportProgress {
  std::string_view phase;  // "reading", "scoring", "writing".
  std::uint64_t done = 0;
  std::uint64_t total = 0;  // 0: unknown.
};
using ProgressFunction = std::function<void(const ImportProgress&)>;  // Called every some thousand units.

struct KuaiRandSummary {
  std::uint64_t rows = 0;            // Read, bad ones included.
  std::uint64_t bad_rows = 0;
  std::vector<std::string> bad_row_reports;  // The first ones: "FILE:LINE: what".
  std::uint64_t duplicate_rows = 0;  // Rows all of whose fields were seen in a row before.
  std::uint64_t duplicate_events = 0;
  std::uint64_t rows_of_the_scorer = 0;  // Left out, since the scorer may have learned from them.
  std::uint64_t events = 0;
  std::map<std::string, std::uint64_t> events_by_kind;  // EXPOSURE, WATCH, CLICK, …
  std::uint64_t users = 0, items = 0;
  std::uint64_t users_without_features = 0, items_without_features = 0;
  std::int64_t first_ms = 0, last_ms = 0;  // Event times; feedback included.
  // Area under the ROC curve of the binary scores over the exposures of the log's last `auc_days` days, each scored
  // from its own past. -1 where one class is missing.
  int auc_days = 2;
  std::array<double, kKuaiRandBinaryTasks> auc{};
};

// Takes each event, in order of event time (ties: the row's order in time, then the file's, then exposure before
// feedback).
using EventFunction = std::function<Status(const v1::Event&)>;

// Reads the files and hands on the events. A row gives:
//   exposure at time_ms: one request with one item, arm "static", version 0, baseline = executed = the default static
//     weights, no density (none was logged) and no fused score (nothing was fused);
//   WATCH at time_ms + play_time_ms, and at the same time, since the log has no time of their own, CLICK, COMPLETE
//     (play_time >= duration > 0), LIKE, FOLLOW, COMMENT, SHARE (forward), DISLIKE (hate), PROFILE (profile enter).
// Request and event ids are SHA-256 of the row's fields: an exact duplicate row gives duplicate events.
// Task scores come from the past only: rates of user, item and tab over rows whose feedback was complete before this
// exposure's time, shrunk to the overall rate, their log-odds added up. Rows at the same time do not see each other; a
// duplicate row is learned from once.
// With a scorer: only rows later than all it learned from, their scores its own; a repeated row has those of the first.
// Errors: kNotFound for an absent file; kInvalidInput with file and line (and column) for a missing column or a bad
// number; whatever `emit` returns. Cost: some 600 bytes of memory a row, about 5 us a row besides `emit`.
Result<KuaiRandSummary> ImportKuaiRand(const KuaiRandFiles& files, const KuaiRandOptions& options,
                                       const EventFunction& emit, const ProgressFunction& progress = {});

}  // namespace fuseline
