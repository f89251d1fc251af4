#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace mole {

struct Metrics::Impl {
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Counter::add(double by) { static_cast<prometheus::Counter*>(impl_)->Increment(by); }
void Gauge::set(double value) { static_cast<prometheus::Gauge*>(impl_)->Set(value); }
void Gauge::add(double by) { static_cast<prometheus::Gauge*>(impl_)->Increment(by); }
void Histogram::observe(double value) {
  static_cast<prometheus::Histogram*>(impl_)->Observe(value);
}

namespace {
prometheus::Labels to_labels(MetricLabels labels) { return {labels.begin(), labels.end()}; }
}  // namespace

Counter Metrics::counter(const std::string& name, const std::string& help, MetricLabels labels) {
  auto& family =
      prometheus::BuildCounter().Name("mole_" + name).Help(help).Register(impl_->registry);
  Counter handle;
  handle.impl_ = &family.Add(to_labels(labels));
  return handle;
}

Gauge Metrics::gauge(const std::string& name, const std::string& help, MetricLabels labels) {
  auto& family = prometheus::BuildGauge().Name("mole_" + name).Help(help).Register(impl_->registry);
  Gauge handle;
  handle.impl_ = &family.Add(to_labels(labels));
  return handle;
}

Histogram Metrics::histogram(const std::string& name, const std::string& help,
                             const std::vector<double>& buckets, MetricLabels labels) {
  auto& family =
      prometheus::BuildHistogram().Name("mole_" + name).Help(help).Register(impl_->registry);
  Histogram handle;
  handle.impl_ = &family.Add(to_labels(labels), buckets);
  return handle;
}

std::string Metrics::expose() const {
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace mole
