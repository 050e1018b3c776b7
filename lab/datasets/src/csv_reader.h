#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fuseline/core/status.h"

namespace fuseline {

// A CSV file with a header, plain or gzip, row by row (RFC 4180 quoting; no line breaks inside fields).
class CsvReader {
 public:
  // Errors: kNotFound if there is no such file, kInvalidInput for an empty one or one without one of `columns`.
  static Result<CsvReader> Open(const std::filesystem::path& path, const std::vector<std::string>& columns);
  CsvReader(CsvReader&&) noexcept;
  ~CsvReader();

  // False at the end. Errors: kCorrupt for a damaged gzip file. A row that is not as wide as the header is a row with no
  // fields: the caller sees it as bad.
  Result<bool> Next();

  // Fields of the row last read, in the order of `columns`; borrowed until the next one.
  const std::vector<std::string_view>& fields() const;
  std::string_view line() const;   // The whole row as it stands in the file.
  std::string Where() const;       // "FILE:LINE".
  const std::string& ColumnName(std::size_t field) const;

 private:
  struct Impl;
  explicit CsvReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
