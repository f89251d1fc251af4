// Metrics: named counters, gauges and histograms under the prefix `mole_`, exposed in Prometheus
// text format 0.0.4. Handles are cheap to copy and safe from any thread; registering is for
// start-up.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace mole {

using MetricLabels = std::initializer_list<std::pair<const std::string, std::string>>;

class Counter {
 public:
  void add(double by = 1.0);

 private:
  friend class Metrics;
  void* impl_ = nullptr;  // owned by the registry
};

class Gauge {
 public:
  void set(double value);
  void add(double by);

 private:
  friend class Metrics;
  void* impl_ = nullptr;
};

class Histogram {
 public:
  void observe(double value);

 private:
  friend class Metrics;
  void* impl_ = nullptr;
};

/// The registry. Lives as long as every handle it gave.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// `name` without the prefix. The same (name, labels) gives the same metric again.
  Counter counter(const std::string& name, const std::string& help, MetricLabels labels = {});
  Gauge gauge(const std::string& name, const std::string& help, MetricLabels labels = {});
  Histogram histogram(const std::string& name, const std::string& help,
                      const std::vector<double>& buckets, MetricLabels labels = {});

  /// All metrics as Prometheus text.
  std::string expose() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole
