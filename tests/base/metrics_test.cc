#include "base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mole {
namespace {

using testing::HasSubstr;

TEST(Metrics, ExposesWhatWasCounted) {
  Metrics metrics;
  metrics.counter("requests_total", "Requests.", {{"code", "200"}}).add();
  metrics.counter("requests_total", "Requests.", {{"code", "200"}}).add(2);
  metrics.gauge("running", "Running.").set(4);
  metrics.histogram("latency_seconds", "Latency.", {0.1, 1}).observe(0.5);
  const std::string text = metrics.expose();
  EXPECT_THAT(text, HasSubstr("# TYPE mole_requests_total counter"));
  EXPECT_THAT(text, HasSubstr("mole_requests_total{code=\"200\"} 3"));
  EXPECT_THAT(text, HasSubstr("mole_running 4"));
  EXPECT_THAT(text, HasSubstr("mole_latency_seconds_bucket{le=\"0.1\"} 0"));
  EXPECT_THAT(text, HasSubstr("mole_latency_seconds_bucket{le=\"1\"} 1"));
}

}  // namespace
}  // namespace mole
