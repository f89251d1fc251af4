// What the swap file has to do with who runs: a part of Scheduler, see scheduler.h.
#include <algorithm>

#include "runtime/limits.h"
#include "runtime/scheduler.h"

namespace mole::runtime {

void Scheduler::use_swap(SwapDevice* device, uint64_t page_bytes) {
  swapper_ = std::make_unique<PageSwapper>(device, &pool_, &cache_, page_bytes);
}

void Scheduler::tend_swap() {
  if (swapper_ == nullptr) return;
  swapper_->poll();
  swapper_->write_back();
}

// Pages on their way give way to sequences that run: first those that are only written, which costs
// nobody anything but a later hit.
bool Scheduler::take_back_page() {
  return swapper_ != nullptr && (swapper_->take_back_write() || swapper_->take_back_load());
}

void Scheduler::take_back_writes(int32_t free_wanted) {
  if (swapper_ == nullptr || free_wanted > cache_.num_free() + swapper_->num_writing()) return;
  while (free_wanted > cache_.num_free() && swapper_->take_back_write()) {
  }
}

bool Scheduler::waits_for_pages(Sequence* sequence, int32_t reusable_blocks, TimeUs now_us) {
  if (swapper_ == nullptr || !sequence->request->share_prompt) return false;
  const auto keys =
      sequence->keys.first(reusable_blocks, sequence->tokens, sequence->num_prompt, key_maker_);
  const PageSwapper::Ask ask{.keys = keys,
                             .found = sequence->num_published,
                             .priority = sequence->request->request.priority,
                             .spare_blocks = num_running(),
                             .num_prompt = sequence->num_prompt,
                             .may_wait = sequence->passed_over < kPassOversMax,
                             .now_us = now_us};
  return swapper_->wait_for_pages(ask, cost_, &sequence->swap_wait);
}

}  // namespace mole::runtime
