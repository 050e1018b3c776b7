#include "fuseline/core/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace fuseline {

struct Metrics::Impl {
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter Metrics::GetCounter(const std::string& name, const std::string& help, const MetricLabels& labels) {
  return Counter(&prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry).Add(labels));
}

Gauge Metrics::GetGauge(const std::string& name, const std::string& help, const MetricLabels& labels) {
  return Gauge(&prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry).Add(labels));
}

Histogram Metrics::GetHistogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                                const MetricLabels& labels) {
  return Histogram(&prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry).Add(labels, bounds));
}

std::string Metrics::Text() const { return prometheus::TextSerializer().Serialize(impl_->registry.Collect()); }

void Counter::Increment(double by) const { static_cast<prometheus::Counter*>(handle_)->Increment(by); }
double Counter::value() const { return static_cast<prometheus::Counter*>(handle_)->Value(); }
void Gauge::Set(double value) const { static_cast<prometheus::Gauge*>(handle_)->Set(value); }
double Gauge::value() const { return static_cast<prometheus::Gauge*>(handle_)->Value(); }
void Histogram::Observe(double value) const { static_cast<prometheus::Histogram*>(handle_)->Observe(value); }

}  // namespace fuseline
