#include "fuseline/core/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace fuseline {

struct Log::Impl {
  spdlog::logger logger{"fuseline", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
};

Result<Severity> ParseSeverity(std::string_view name) {
  if (name == "debug") return Severity::kDebug;
  if (name == "info") return Severity::kInfo;
  if (name == "warn") return Severity::kWarn;
  if (name == "error") return Severity::kError;
  return fuseline::Error(Code::kInvalidInput, "log level is none of debug, info, warn, error:", name);
}

Log::Log(Severity least) : least_(least), impl_(std::make_unique<Impl>()) {
  impl_->logger.set_level(spdlog::level::debug);
  impl_->logger.set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
}

Log::~Log() = default;

void Log::AppendValue(std::ostringstream& line, const std::string& value) {
  if (!value.empty() && value.find_first_of(" \"=\n\r\t") == std::string::npos) {
    line << value;
    return;
  }
  line << '"';
  for (const char c : value) {
    if (c == '"' || c == '\\') line << '\\';
    line << (c == '\n' || c == '\r' ? ' ' : c);
  }
  line << '"';
}

void Log::Emit(Severity severity, const std::string& line) {
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                          spdlog::level::warn, spdlog::level::err};
  impl_->logger.log(kLevels[static_cast<int>(severity)], spdlog::string_view_t(line.data(), line.size()));
  if (severity >= Severity::kWarn) impl_->logger.flush();
}

}  // namespace fuseline
