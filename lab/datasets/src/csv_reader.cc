#include "fuseline/datasets/csv_reader.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <unistd.h>
#include <zlib.h>

namespace fuseline {
namespace {

constexpr std::size_t kChunkBytes = 1 << 16;
constexpr std::size_t kLongestLineBytes = 1 << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // Spreadsheets write it.

struct GzipCloser {
  void operator()(gzFile file) const { gzclose(file); }
};

// Splits `line` in place: quotes are resolved by moving characters to the left. False for an unclosed quote.
bool Split(std::string& line, std::vector<std::string_view>* fields) {
  fields->clear();
  std::size_t read = 0, write = 0, begin = 0;
  bool quoted = false;
  for (; read < line.size(); ++read) {
    const char c = line[read];
    if (quoted && c == '"' && read + 1 < line.size() && line[read + 1] == '"') {
      line[write++] = c;
      ++read;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields->push_back(std::string_view(line).substr(begin, write - begin));
      begin = write;
    } else {
      line[write++] = c;
    }
  }
  fields->push_back(std::string_view(line).substr(begin, write - begin));
  return !quoted;
}

}  // namespace

struct CsvReader::Impl {
  std::filesystem::path path;
  std::unique_ptr<gzFile_s, GzipCloser> file;  // zlib reads plain files too.
  std::array<char, kChunkBytes> chunk;
  std::size_t chunk_at = 0, chunk_size = 0;
  std::uint64_t line_number = 0;
  std::string line, unquoted;
  std::vector<std::string_view> all, chosen;
  std::vector<std::string> columns;                   // The optional ones last.
  std::vector<std::optional<std::size_t>> positions;  // Of `columns`.
  std::size_t width = 0;

  std::string Name() const { return path == "-" ? "standard input" : path.string(); }
  std::string Where() const { return Name() + ":" + std::to_string(line_number); }
  Result<bool> ReadLine();
  Status ReadHeader(std::size_t required);
};

Result<bool> CsvReader::Impl::ReadLine() {
  line.clear();
  for (bool any = false;;) {
    if (chunk_at == chunk_size) {
      const int got = gzread(file.get(), chunk.data(), static_cast<unsigned>(chunk.size()));
      int error = Z_OK;
      const char* text = got < static_cast<int>(chunk.size()) ? gzerror(file.get(), &error) : "";
      if (got < 0 || error == Z_BUF_ERROR) return Error(Code::kCorrupt, "damaged file after", Where(), text);
      chunk_at = 0;
      chunk_size = static_cast<std::size_t>(got);
      if (got == 0) {
        line_number += any ? 1 : 0;
        if (line.ends_with('\r')) line.pop_back();
        return any;
      }
    }
    any = true;
    const char* begin = chunk.data() + chunk_at;
    const char* end = std::find(begin, static_cast<const char*>(chunk.data() + chunk_size), '\n');
    line.append(begin, end);
    if (line.size() > kLongestLineBytes) return Error(Code::kInvalidInput, "line longer than 1 MiB after", Where());
    chunk_at = static_cast<std::size_t>(end - chunk.data());
    if (chunk_at == chunk_size) continue;
    ++chunk_at;
    ++line_number;
    if (line.ends_with('\r')) line.pop_back();
    return true;
  }
}

Status CsvReader::Impl::ReadHeader(std::size_t required) {
  FUSELINE_ASSIGN_OR_RETURN(const bool any, ReadLine());
  if (!any) return ErrorStatus(Code::kInvalidInput, "empty file:", Name());
  unquoted = line.starts_with(kByteOrderMark) ? line.substr(kByteOrderMark.size()) : line;
  Split(unquoted, &all);
  width = all.size();
  for (const std::string& column : columns) {
    const auto found = std::ranges::find(all, column);
    if (found == all.end() && positions.size() < required)
      return ErrorStatus(Code::kInvalidInput, "missing column", column, "in", Where());
    if (std::ranges::count(all, column) > 1) return ErrorStatus(Code::kInvalidInput, "column twice:", column, "in", Where());
    positions.push_back(found == all.end() ? std::nullopt
                                           : std::optional(static_cast<std::size_t>(found - all.begin())));
  }
  return OkStatus();
}

CsvReader::CsvReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CsvReader::CsvReader(CsvReader&&) noexcept = default;
CsvReader::~CsvReader() = default;

Result<CsvReader> CsvReader::Open(const std::filesystem::path& path, const std::vector<std::string>& columns,
                                  const std::vector<std::string>& optional) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->columns = columns;
  impl->columns.insert(impl->columns.end(), optional.begin(), optional.end());
  std::error_code ignored;
  if (path != "-" && (!std::filesystem::exists(path, ignored) || std::filesystem::is_directory(path, ignored)))
    return Error(Code::kNotFound, "no such file:", path.string());
  impl->file.reset(path == "-" ? gzdopen(dup(STDIN_FILENO), "rb") : gzopen(path.c_str(), "rb"));
  if (!impl->file) return Error(Code::kUnavailable, "cannot open", impl->Name());
  FUSELINE_FAIL_IF_ERROR(impl->ReadHeader(columns.size()));
  return CsvReader(std::move(impl));
}

Result<bool> CsvReader::Next() {
  auto& impl = *impl_;
  do {
    FUSELINE_ASSIGN_OR_FAIL(const bool any, impl.ReadLine());
    if (!any) return false;
  } while (impl.line.empty());
  impl.chosen.clear();
  impl.unquoted = impl.line;
  if (!Split(impl.unquoted, &impl.all) || impl.all.size() != impl.width) return true;
  for (const auto& position : impl.positions) impl.chosen.push_back(position ? impl.all[*position] : std::string_view());
  return true;
}

const std::vector<std::string_view>& CsvReader::fields() const { return impl_->chosen; }
bool CsvReader::has(std::size_t field) const { return impl_->positions[field].has_value(); }
std::string_view CsvReader::line() const { return impl_->line; }
std::string CsvReader::Where() const { return impl_->Where(); }
const std::string& CsvReader::ColumnName(std::size_t field) const { return impl_->columns[field]; }

}  // namespace fuseline
