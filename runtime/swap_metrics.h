// The swap file's metrics, registered once at start-up. Names without the prefix `mole_`.
#pragma once

#include <array>

#include "base/metrics.h"
#include "runtime/page_swapper.h"

namespace mole::runtime {

class SwapMetrics {
 public:
  explicit SwapMetrics(Metrics* metrics);
  /// Shows the swapper as it is now.
  void report(const PageSwapper& swapper);

 private:
  Gauge pages_, pages_limit_, writing_, loading_, writing_limit_, loading_limit_, load_rate_;
  Counter written_, loaded_, write_errors_, taken_back_, waits_, gave_up_, recomputed_;
  std::array<Counter, kSwapOutcomes> refused_;
  PageSwapper::Stats reported_;
};

}  // namespace mole::runtime
