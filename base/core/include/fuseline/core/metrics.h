#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace fuseline {

using MetricLabels = std::map<std::string, std::string>;

// A number that only grows. Handles are cheap values, valid as long as their Metrics; thread-safe.
class Counter {
 public:
  void Increment(double by = 1) const;
  double value() const;

 private:
  friend class Metrics;
  explicit Counter(void* handle) : handle_(handle) {}
  void* handle_;
};

class Gauge {
 public:
  void Set(double value) const;
  double value() const;

 private:
  friend class Metrics;
  explicit Gauge(void* handle) : handle_(handle) {}
  void* handle_;
};

class Histogram {
 public:
  void Observe(double value) const;

 private:
  friend class Metrics;
  explicit Histogram(void* handle) : handle_(handle) {}
  void* handle_;
};

// The registry of one process. Names: fuseline_<room>_<noun>_<total|ms|bytes>. Asking twice for the same name and
// labels gives the same metric. Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  Counter GetCounter(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  Gauge GetGauge(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  // `bounds`: ascending upper bounds of the buckets.
  Histogram GetHistogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                         const MetricLabels& labels = {});

  std::string Text() const;  // Prometheus' text format.

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseline
