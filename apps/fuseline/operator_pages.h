#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "freshness.h"
#include "fuseline/core/http.h"
#include "pipeline_status.h"

namespace fuseline {

// What an operator can ask a running process over HTTP: /metrics, /livez, /readyz, /status.
class OperatorPages {
 public:
  // `status` is called on its threads; `freshness` is borrowed for its life.
  OperatorPages(std::function<PipelineStatus()> status, Freshness& freshness, Instruments instruments);

  // Listens on `address` (empty: not at all), and writes where into STATE/http_address, for `fuseline status`.
  Status Start(const std::string& address, const std::filesystem::path& state);
  const std::string& address() const { return address_; }

 private:
  std::string MetricsText();

  std::function<PipelineStatus()> status_;
  Freshness& freshness_;
  Instruments instruments_;
  std::string address_;
  HttpServer server_;  // Last: its threads use the members above.
};

inline constexpr char kHttpAddressFile[] = "http_address";

}  // namespace fuseline
