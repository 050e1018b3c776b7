#pragma once

#include <memory>
#include <sstream>
#include <string>
#include <string_view>

#include "fuseline/core/status.h"

namespace fuseline {

enum class Severity { kDebug, kInfo, kWarn, kError };

Result<Severity> ParseSeverity(std::string_view name);

// Lines of the form `room.noun_verb key=value key="two words"`, to standard error. Thread-safe.
// Warn: somebody may act. Error: somebody must, and RUNBOOK.md says how. Never one line per event: count instead.
class Log {
 public:
  explicit Log(Severity least);
  ~Log();

  // Log("ingest.record_dead_lettered") with key, value, key, value …
  template <typename... Fields>
  void Debug(std::string_view event, const Fields&... fields) { Write(Severity::kDebug, event, fields...); }
  template <typename... Fields>
  void Info(std::string_view event, const Fields&... fields) { Write(Severity::kInfo, event, fields...); }
  template <typename... Fields>
  void Warn(std::string_view event, const Fields&... fields) { Write(Severity::kWarn, event, fields...); }
  template <typename... Fields>
  void Error(std::string_view event, const Fields&... fields) { Write(Severity::kError, event, fields...); }

 private:
  template <typename... Fields>
  void Write(Severity severity, std::string_view event, const Fields&... fields) {
    static_assert(sizeof...(Fields) % 2 == 0, "key, value, key, value …");
    if (severity < least_) return;
    std::ostringstream line;
    line << event;
    bool is_key = true;
    ((AppendField(line, is_key, fields), is_key = !is_key), ...);
    Emit(severity, line.str());
  }
  template <typename T>
  static void AppendField(std::ostringstream& line, bool is_key, const T& value) {
    if (is_key) {
      line << ' ' << value << '=';
      return;
    }
    std::ostringstream text;
    text << value;
    AppendValue(line, text.str());
  }
  static void AppendValue(std::ostringstream& line, const std::string& value);  // Quoted when it must be.
  void Emit(Severity severity, const std::string& line);

  struct Impl;
  Severity least_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
