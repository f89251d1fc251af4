// The swap file behind the prefix cache: a part of EngineCore, see engine_core.h.
#include <utility>

#include "runtime/engine_core.h"

namespace mole::runtime {

void EngineCore::use_swap(std::unique_ptr<SwapDevice> device, std::function<void()> wake) {
  swap_ = std::move(device);
  const auto page_bytes = static_cast<uint64_t>(cache_.shape().block_bytes()) *
                          static_cast<uint64_t>(model_info().num_layers);
  scheduler_.use_swap(swap_.get(), page_bytes);
  swap_->start(&cache_, std::move(wake));
  metrics_->swap.report(*scheduler_.swapper());
}

bool EngineCore::waits_for_pages() const {
  return scheduler_.swapper() != nullptr && scheduler_.swapper()->busy() && plan_ != nullptr &&
         plan_->chunks.empty();
}

void EngineCore::tend_swap() {
  if (swap_ == nullptr) return;
  scheduler_.tend_swap();
  metrics_->swap.report(*scheduler_.swapper());
}

void EngineCore::flush_swap() {
  if (swap_ == nullptr) return;
  const TimeUs end_us = clock_->now_us() + kSwapFlushMaxUs;
  do {
    tend_swap();
    if (!scheduler_.swapper()->busy()) return;
    swap_->wait(kSwapPollUs);
  } while (clock_->now_us() < end_us);
}

}  // namespace mole::runtime
