#include "runtime/page_swapper.h"

#include <algorithm>

#include "base/check.h"

namespace mole::runtime {
namespace {

using model::kBlockTokens;

// What computing blocks [first, first + count) is expected to take beyond a step that happens
// anyway.
double compute_us(const StepCost& cost, int32_t first, int32_t count, int32_t num_prompt) {
  const int32_t begin = first * kBlockTokens, end = begin + count * kBlockTokens;
  const int32_t turn = std::clamp(num_prompt, begin, end);
  StepWork work;
  if (turn > begin) work.add(model::AttentionForm::kExpanded, begin, turn - begin);
  if (end > turn) work.add(model::AttentionForm::kAbsorbed, turn, end - turn);
  return 1e6 * cost.predict(work);
}

}  // namespace

PageSwapper::PageSwapper(SwapDevice* device, BlockPool* pool, PrefixCache* cache,
                         uint64_t page_bytes)
    : device_(device),
      pool_(pool),
      cache_(cache),
      page_bytes_(page_bytes),
      index_(device->num_slots()) {
  cache->list_released();
  for (const RecoveredPage& page : device->recover(stats_.refused)) {
    index_.restore(page.slot, page.key);
    next_written_ = page.written + 1;
  }
}

void PageSwapper::poll() {
  for (SwapDone done; device_->poll(&done);) finish(done);
}

void PageSwapper::finish(const SwapDone& done) {
  const auto at = std::find_if(jobs_.begin(), jobs_.end(), [&](const Slot& slot) {
    return slot.active && slot.job.id == done.job.id;
  });
  MOLE_CHECK(at != jobs_.end());
  at->active = false;
  const SwapJob& job = at->job;
  if (!job.write) {
    --num_loading_;
    if (done.outcome == SwapOutcome::kOk && done.took_us > 0) {
      const double rate = static_cast<double>(page_bytes_) / static_cast<double>(done.took_us);
      double& known = stats_.load_bytes_per_us;
      known = known == 0 ? rate : known + kSwapRateWeight * (rate - known);
    }
    finish_load(job, done.outcome);
    return;
  }
  --num_writing_;
  pool_->let_go(BlockId{job.block});
  if (done.outcome == SwapOutcome::kOk) {
    index_.finish(job.slot);
    ++stats_.pages_written;
  } else {
    index_.drop(job.slot);
    ++stats_.writes_failed;
  }
}

void PageSwapper::finish_load(const SwapJob& job, SwapOutcome outcome) {
  index_.unpin(job.slot);
  const BlockId block{job.block};
  if (outcome == SwapOutcome::kOk) {
    cache_->publish(block, job.key, job.priority);
    ++stats_.pages_loaded;
  } else {
    index_.drop(job.slot);
    ++stats_.refused[static_cast<size_t>(outcome)];
  }
  cache_->release(block);
}

void PageSwapper::submit(SwapJob job) {
  const auto at =
      std::find_if(jobs_.begin(), jobs_.end(), [](const Slot& slot) { return !slot.active; });
  MOLE_CHECK(at != jobs_.end());
  job.id = next_job_++;
  ++(job.write ? num_writing_ : num_loading_);
  *at = {job, true};
  device_->submit(job);
}

void PageSwapper::write_back() {
  for (int32_t scanned = 0; scanned < kSwapScanMax && num_writing_ < kSwapWritesMax; ++scanned) {
    const BlockId block = cache_->next_released();
    if (block.value < 0) return;
    const BlockKey* key = cache_->key_of(block);
    if (key == nullptr || pool_->held(block) || pool_->refs(block) > 0) continue;
    if (const int32_t known = index_.find(*key); known >= 0) {
      if (index_.ready(known)) index_.touch(known);
      continue;
    }
    const int32_t slot = index_.claim(*key);
    if (slot < 0) continue;  // all slots are being written or read: the page is not worth a wait
    pool_->hold(block);
    submit({.write = true,
            .slot = slot,
            .block = block.value,
            .written = next_written_++,
            .key = *key});
  }
}

bool PageSwapper::loading(const BlockKey& key) const {
  return num_loading_ > 0 && std::any_of(jobs_.begin(), jobs_.end(), [&](const Slot& slot) {
           return slot.active && !slot.job.write && slot.job.key == key;
         });
}

bool PageSwapper::wait_for_pages(const Ask& ask, const StepCost& cost, SwapWait* wait) {
  if (wait->over || ask.found >= static_cast<int32_t>(ask.keys.size())) return false;
  if (!ask.may_wait) return give_up(wait);
  if (loading(ask.keys[ask.found])) return still_waiting(ask, wait);
  const int32_t next = index_.find(ask.keys[ask.found]);
  if (next < 0 || !index_.ready(next)) return false;
  if (ask.found <= wait->asked_from) {  // asked for before, and not there: refused or gone again
    wait->over = true;
    return false;
  }
  int32_t run = 1;  // blocks from there on that need not be computed
  while (ask.found + run < static_cast<int32_t>(ask.keys.size())) {
    const BlockKey& key = ask.keys[ask.found + run];
    const int32_t slot = index_.find(key);
    if (cache_->find(key).value < 0 && (slot < 0 || !index_.ready(slot))) break;
    ++run;
  }
  if (!choose(ask, cost, run, wait)) return false;
  const bool first_time = wait->give_up_us < 0;
  if (first_time) {
    const double most = cost.known ? compute_us(cost, ask.found, run, ask.num_prompt)
                                   : static_cast<double>(kSwapWaitMaxUs);
    wait->give_up_us = ask.now_us + static_cast<TimeUs>(most);
  }
  if (load(ask, run) > 0) {
    wait->asked_from = ask.found;
    if (first_time) ++stats_.waits;
  }
  return still_waiting(ask, wait);
}

// Whether bringing `run` blocks back is expected to take less time than computing them. What was
// never measured is tried.
bool PageSwapper::choose(const Ask& ask, const StepCost& cost, int32_t run, SwapWait* wait) {
  if (!cost.known || stats_.load_bytes_per_us == 0) return true;
  const double pages = run + num_loading_;
  const double load_us = pages * static_cast<double>(page_bytes_) / stats_.load_bytes_per_us;
  if (load_us < compute_us(cost, ask.found, run, ask.num_prompt)) return true;
  wait->over = true;
  ++stats_.recomputed;
  return false;
}

// Asks for those of the blocks [found, found + run) that are not in the cache; returns how many.
int32_t PageSwapper::load(const Ask& ask, int32_t run) {
  int32_t count = 0;
  for (int32_t i = ask.found; i < ask.found + run; ++i) {
    if (num_loading_ == kSwapLoadsMax || pool_->num_free() <= ask.spare_blocks) break;
    const BlockKey& key = ask.keys[i];
    if (cache_->find(key).value >= 0 || loading(key)) continue;
    const int32_t slot = index_.find(key);
    if (slot < 0 || !index_.ready(slot)) break;  // taking blocks changes no slot, but be sure
    index_.pin(slot);
    submit({.write = false,
            .slot = slot,
            .block = cache_->take().value,
            .priority = ask.priority,
            .key = key});
    ++count;
  }
  return count;
}

bool PageSwapper::still_waiting(const Ask& ask, SwapWait* wait) {
  if (wait->give_up_us < 0) {  // the pages are on their way for somebody else
    wait->give_up_us = ask.now_us + kSwapWaitMaxUs;
    ++stats_.waits;
  }
  return ask.now_us < wait->give_up_us || give_up(wait);
}

bool PageSwapper::give_up(SwapWait* wait) {
  if (wait->give_up_us >= 0) ++stats_.gave_up;
  wait->over = true;
  return false;
}

// The youngest first: the oldest are nearly done.
bool PageSwapper::take_back(bool write) {
  while (true) {
    Slot* youngest = nullptr;
    for (Slot& slot : jobs_) {
      if (!slot.active || slot.job.write != write) continue;
      if (youngest == nullptr || slot.job.id > youngest->job.id) youngest = &slot;
    }
    // Jobs begin in the order of their age: if the youngest has begun, all have.
    if (youngest == nullptr || !device_->cancel(youngest->job.id)) return false;
    youngest->active = false;
    ++stats_.taken_back;
    const SwapJob& job = youngest->job;
    if (write) {
      --num_writing_;
      index_.drop(job.slot);
      pool_->let_go(BlockId{job.block});
      // Somebody may have found the block in the meantime: then this freed nothing.
      if (pool_->refs(BlockId{job.block}) > 0) continue;
    } else {
      --num_loading_;
      index_.unpin(job.slot);
      cache_->release(BlockId{job.block});
    }
    return true;
  }
}

std::vector<BlockId> PageSwapper::loading_blocks() const {
  std::vector<BlockId> blocks;
  for (const Slot& slot : jobs_) {
    if (slot.active && !slot.job.write) blocks.push_back(BlockId{slot.job.block});
  }
  return blocks;
}

}  // namespace mole::runtime
