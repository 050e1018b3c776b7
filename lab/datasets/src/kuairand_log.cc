#include "kuairand_log.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <unordered_set>

#include "fuseline/core/digest.h"
#include "fuseline/datasets/csv_reader.h"

namespace fuseline {
namespace {

constexpr std::uint64_t kRowsPerProgress = 10'000;
constexpr std::int64_t kDayMs = 86'400'000;
constexpr std::int64_t kLocalOffsetMs = 8 * 3'600'000;
// A time beyond the year 9999 is a broken number; so is a play of more than a day, which no session could hold.
constexpr std::int64_t kLastTimeMs = 253'402'300'799'000;

enum LogColumn {
  kUser, kVideo, kTime, kIsClick, kIsLike, kIsFollow, kIsComment, kIsForward, kIsHate, kIsLongView, kPlay, kDuration,
  kProfileEnter, kTab
};
const std::vector<std::string> kLogColumns = {
    "user_id", "video_id", "time_ms", "is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate",
    "long_view", "play_time_ms", "duration_ms", "is_profile_enter", "tab"};

// Reads numbers of one row, and remembers the first that is bad.
class RowParser {
 public:
  explicit RowParser(const CsvReader& reader) : reader_(reader) {
    if (reader.fields().empty()) error_ = "number of fields is not the header's";
  }
  std::int64_t Integer(std::size_t column, std::int64_t max) {
    if (!error_.empty()) return 0;
    const auto text = reader_.fields()[column];
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || end != text.data() + text.size() || value < 0 || value > max) {
      error_ = reader_.ColumnName(column) + " is not a whole number from 0 to " + std::to_string(max) + ": \"" +
               std::string(text.substr(0, 40)) + "\"";
    }
    return value;
  }
  bool Flag(std::size_t column) { return Integer(column, 1) != 0; }
  const std::string& error() const { return error_; }

 private:
  const CsvReader& reader_;
  std::string error_;
};

KuaiRandRow ParseRow(const CsvReader& reader, std::string* error) {
  RowParser parser(reader);
  KuaiRandRow row;
  row.user_id = static_cast<std::uint64_t>(parser.Integer(kUser, INT64_MAX));
  row.video_id = static_cast<std::uint64_t>(parser.Integer(kVideo, INT64_MAX));
  row.time_ms = parser.Integer(kTime, kLastTimeMs);
  row.play_ms = parser.Integer(kPlay, kDayMs);
  row.duration_ms = parser.Integer(kDuration, kDayMs);
  row.tab = static_cast<std::uint32_t>(parser.Integer(kTab, 1'000'000));
  row.click = parser.Flag(kIsClick);
  row.like = parser.Flag(kIsLike);
  row.follow = parser.Flag(kIsFollow);
  row.comment = parser.Flag(kIsComment);
  row.forward = parser.Flag(kIsForward);
  row.hate = parser.Flag(kIsHate);
  row.long_view = parser.Flag(kIsLongView);
  row.profile = parser.Flag(kProfileEnter);
  *error = parser.error();
  if (error->empty()) row.digest = Sha256Of(reader.line());
  return row;
}

Status NoteBadRow(const CsvReader& reader, const std::string& error, const KuaiRandOptions& options,
                  KuaiRandSummary* summary) {
  if (!options.skip_bad_rows) return ErrorStatus(Code::kInvalidInput, reader.Where() + ":", error);
  ++summary->bad_rows;
  if (summary->bad_row_reports.size() < options.reported_bad_rows) {
    summary->bad_row_reports.push_back(reader.Where() + ": " + error);
  }
  return OkStatus();
}

void MarkRepeats(std::vector<KuaiRandRow>& rows, KuaiRandSummary* summary) {
  std::unordered_set<std::string_view> seen;
  std::unordered_set<std::uint64_t> users, items;
  for (auto& row : rows) {
    row.repeats = !seen.insert(row.digest).second;
    summary->duplicate_rows += row.repeats ? 1 : 0;
    users.insert(row.user_id);
    items.insert(row.video_id);
  }
  summary->users = users.size();
  summary->items = items.size();
}

// Log-scaled count; 0 for what is empty or unknown (the tables write -124).
float LogCount(std::string_view text) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && std::isfinite(value) && value > 0 ? static_cast<float>(std::log1p(value)) : 0.0F;
}

// A category's id: 0 stays free for "unknown", the schema's default.
std::uint64_t CategoryId(std::string_view text) { return text.empty() ? 0 : Fnv1a64(text) | 1; }

using FeatureFunction = void (*)(const std::vector<std::string_view>& fields, v1::Features* features);

Result<FeatureTable> ReadTable(const std::filesystem::path& path, const std::vector<std::string>& columns,
                               FeatureFunction fill) {
  FUSELINE_ASSIGN_OR_FAIL(auto reader, CsvReader::Open(path, columns));
  FeatureTable table;
  for (;;) {
    FUSELINE_ASSIGN_OR_FAIL(const bool any, reader.Next());
    if (!any) return table;
    RowParser parser(reader);
    const auto id = static_cast<std::uint64_t>(parser.Integer(0, INT64_MAX));
    if (!parser.error().empty()) return Error(Code::kInvalidInput, reader.Where() + ":", parser.error());
    fill(reader.fields(), &table[id]);
  }
}

}  // namespace

Result<std::vector<KuaiRandRow>> ReadKuaiRandLog(const std::filesystem::path& path, const KuaiRandOptions& options,
                                                 const ProgressFunction& progress, KuaiRandSummary* summary) {
  FUSELINE_ASSIGN_OR_FAIL(auto reader, CsvReader::Open(path, kLogColumns));
  std::vector<KuaiRandRow> rows;
  std::string error;
  for (;;) {
    FUSELINE_ASSIGN_OR_FAIL(const bool any, reader.Next());
    if (!any) break;
    ++summary->rows;
    auto row = ParseRow(reader, &error);
    if (error.empty()) {
      rows.push_back(std::move(row));
    } else {
      FUSELINE_FAIL_IF_ERROR(NoteBadRow(reader, error, options, summary));
    }
    if (progress && summary->rows % kRowsPerProgress == 0) progress({"reading", summary->rows, 0});
  }
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.time_ms < b.time_ms; });
  MarkRepeats(rows, summary);
  return rows;
}

Result<FeatureTable> ReadKuaiRandUsers(const std::filesystem::path& path) {
  static const std::vector<std::string> columns = {
      "user_id", "follow_user_num", "fans_user_num", "friend_user_num", "register_days", "user_active_degree",
      "is_live_streamer", "is_video_author", "follow_user_num_range", "fans_user_num_range", "friend_user_num_range",
      "register_days_range", "onehot_feat0", "onehot_feat1", "onehot_feat4", "onehot_feat6", "onehot_feat9", "onehot_feat10",
      "onehot_feat11"};
  return ReadTable(path, columns, [](const auto& fields, v1::Features* features) {
    for (std::size_t f = 1; f <= 4; ++f) features->add_dense(LogCount(fields[f]));
    for (std::size_t f = 5; f < fields.size(); ++f) features->add_ids(CategoryId(fields[f]));
  });
}

Result<FeatureTable> ReadKuaiRandVideos(const std::filesystem::path& path) {
  static const std::vector<std::string> columns = {"video_id", "video_duration", "server_width", "server_height",
                                                   "video_type", "upload_type", "music_type", "tag"};
  return ReadTable(path, columns, [](const auto& fields, v1::Features* features) {
    for (std::size_t f = 1; f <= 3; ++f) features->add_dense(LogCount(fields[f]));
    for (std::size_t f = 4; f <= 6; ++f) features->add_ids(CategoryId(fields[f]));
    features->add_ids(CategoryId(fields[7].substr(0, fields[7].find(','))));  // The first of its tags.
  });
}

v1::Features KuaiRandContext(const KuaiRandRow& row) {
  const auto of_day_ms = static_cast<double>((row.time_ms + kLocalOffsetMs) % kDayMs);
  const double angle = 2 * std::numbers::pi * of_day_ms / static_cast<double>(kDayMs);
  v1::Features context;
  context.add_dense(static_cast<float>(std::sin(angle)));
  context.add_dense(static_cast<float>(std::cos(angle)));
  context.add_ids(CategoryId(std::to_string(row.tab)));
  return context;
}

}  // namespace fuseline
