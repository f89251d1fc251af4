#include "runtime/swap_metrics.h"

#include <string>

namespace mole::runtime {

SwapMetrics::SwapMetrics(Metrics* m) {
  pages_ = m->gauge("kv_swap_pages", "Pages of the KV cache in the swap file.");
  pages_limit_ = m->gauge("limit_kv_swap_pages", "Bound of kv_swap_pages.");
  writing_ = m->gauge("kv_swap_writing", "Pages on their way to the swap file.");
  writing_limit_ = m->gauge("limit_kv_swap_writing", "Bound of kv_swap_writing.");
  loading_ = m->gauge("kv_swap_loading", "Pages on their way back from the swap file.");
  loading_limit_ = m->gauge("limit_kv_swap_loading", "Bound of kv_swap_loading.");
  load_rate_ = m->gauge("kv_swap_load_bytes_per_second",
                        "Measured speed of loading and checking a page, 0 before the first.");
  written_ = m->counter("kv_swap_pages_written_total", "Pages written to the swap file.");
  loaded_ = m->counter("kv_swap_pages_loaded_total", "Pages brought back and found sound.");
  write_errors_ = m->counter("kv_swap_write_errors_total", "Pages that could not be written.");
  taken_back_ = m->counter("kv_swap_taken_back_total",
                           "Pages taken back from the queue as a sequence needed the block.");
  waits_ = m->counter("kv_swap_waits_total", "Sequences that waited for pages before they ran.");
  gave_up_ =
      m->counter("kv_swap_gave_up_total", "Of these, sequences whose pages did not come in time.");
  recomputed_ = m->counter("kv_swap_recomputed_total",
                           "Sequences that computed what lay in the file, as that was cheaper.");
  for (size_t i = 1; i < kSwapOutcomes; ++i) {
    const std::string reason(swap_outcome_name(static_cast<SwapOutcome>(i)));
    refused_[i] = m->counter("kv_swap_pages_refused_total",
                             "Pages of the swap file that were not believed, by reason.",
                             {{"reason", reason}});
  }
  writing_limit_.set(kSwapWritesMax);
  loading_limit_.set(kSwapLoadsMax);
}

void SwapMetrics::report(const PageSwapper& swapper) {
  const PageSwapper::Stats& now = swapper.stats();
  const auto add = [](Counter* counter, int64_t is, int64_t was) {
    if (is != was) counter->add(static_cast<double>(is - was));
  };
  pages_.set(swapper.index().num_ready());
  pages_limit_.set(swapper.index().num_slots());
  writing_.set(swapper.num_writing());
  loading_.set(swapper.num_loading());
  load_rate_.set(1e6 * now.load_bytes_per_us);
  add(&written_, now.pages_written, reported_.pages_written);
  add(&loaded_, now.pages_loaded, reported_.pages_loaded);
  add(&write_errors_, now.writes_failed, reported_.writes_failed);
  add(&taken_back_, now.taken_back, reported_.taken_back);
  add(&waits_, now.waits, reported_.waits);
  add(&gave_up_, now.gave_up, reported_.gave_up);
  add(&recomputed_, now.recomputed, reported_.recomputed);
  for (size_t i = 1; i < kSwapOutcomes; ++i) {
    add(&refused_[i], now.refused[i], reported_.refused[i]);
  }
  reported_ = now;
}

}  // namespace mole::runtime
