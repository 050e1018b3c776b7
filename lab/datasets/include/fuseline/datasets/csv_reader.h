#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// A CSV file with a header, plain or gzip, row by row (RFC 4180 quoting, LF or CRLF; no line breaks inside fields). Streamed:
// memory for one row. Thread-compatible.
class CsvReader {
 public:
  // "-" is standard input. Errors: kNotFound if there is no such file, kInvalidInput for an empty one, one without one of
  // `columns`, or with one of `columns` or `optional` twice.
  static Result<CsvReader> Open(const std::filesystem::path& path, const std::vector<std::string>& columns,
                                const std::vector<std::string>& optional = {});
  CsvReader(CsvReader&&) noexcept;
  ~CsvReader();

  // False at the end; empty lines are no rows. Errors: kCorrupt for a damaged gzip file, kInvalidInput for a line above 1 MiB. A
  // row that is not as wide as the header is a row with no fields: the caller sees it as bad.
  Result<bool> Next();

  // Fields of the row last read: `columns`, then `optional`, empty where the file has no such column; borrowed until the next row.
  const std::vector<std::string_view>& fields() const;
  bool has(std::size_t field) const;  // Does the file have the column?
  std::string_view line() const;      // The whole row as it stands in the file.
  std::string Where() const;          // "FILE:LINE".
  const std::string& ColumnName(std::size_t field) const;

 private:
  struct Impl;
  explicit CsvReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
