#pragma once

#include <filesystem>
#include <string>

#include "freshness.h"
#include "fuseline/core/http.h"
#include "pipeline.h"

namespace fuseline {

// What an operator can ask a running process over HTTP: /metrics, /livez, /readyz, /status.
class OperatorPages {
 public:
  // All are borrowed for its life.
  OperatorPages(Pipeline& pipeline, Freshness& freshness, Instruments instruments);

  // Listens on `address` (empty: not at all), and writes where into STATE/http_address, for `fuseline status`.
  Status Start(const std::string& address, const std::filesystem::path& state);
  const std::string& address() const { return address_; }

 private:
  std::string MetricsText();

  Pipeline& pipeline_;
  Freshness& freshness_;
  Instruments instruments_;
  std::string address_;
  HttpServer server_;  // Last: its threads use the members above.
};

inline constexpr char kHttpAddressFile[] = "http_address";

}  // namespace fuseline
