#include <algorithm>

#include "base/check.h"
#include "kernels/moe/moe_impl.h"

namespace mole::kernels {
namespace {

/// Small experts' weights stay in the second-level cache, so a block may be short; large ones are
/// read from memory once a block.
int64_t block_rows(const MoeArgs& args) { return small_experts(args) ? 64 : 256; }

void cut_blocks(const MoeArgs& args, Routing& routing) {
  routing.blocks.clear();
  const int64_t most = block_rows(args);
  for (std::size_t e = 0; e + 1 < routing.starts.size(); ++e) {
    // An even cut in whole pairs of tiles, because a small rest would read the weights for little.
    const int64_t all = routing.starts[e + 1] - routing.starts[e];
    const int64_t blocks = std::max<int64_t>(1, ceil_div(all, most));
    const int64_t step = std::max(kRowUnit, ceil_div(ceil_div(all, blocks), kRowUnit) * kRowUnit);
    for (int64_t p = routing.starts[e]; p < routing.starts[e + 1]; p += step) {
      const int64_t rows = std::min(step, routing.starts[e + 1] - p);
      routing.blocks.push_back({static_cast<int64_t>(e), p, rows});
    }
  }
}

}  // namespace

std::byte* Buffer::reserve(int64_t bytes) {
  if (bytes > bytes_) {
    data_.reset();
    data_ = allocate_pages(bytes);
    bytes_ = bytes;
  }
  return data_.get();
}

void sort_by_expert(const MoeArgs& args, Routing& routing) {
  const auto num_experts = static_cast<int64_t>(args.experts.size());
  const int64_t num_slots = args.tokens * args.top_k;
  std::vector<int64_t>& starts = routing.starts;
  starts.assign(static_cast<std::size_t>(num_experts) + 1, 0);
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    const int32_t expert = args.expert_ids[slot];
    MOLE_CHECK_GE(expert, -1);
    MOLE_CHECK_LT(expert, num_experts);
    if (expert >= 0) ++starts[static_cast<std::size_t>(expert) + 1];
  }
  for (std::size_t e = 1; e < starts.size(); ++e) starts[e] += starts[e - 1];
  routing.slots.resize(static_cast<std::size_t>(starts.back()));
  routing.tokens.resize(routing.slots.size());
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    const int32_t expert = args.expert_ids[slot];
    if (expert < 0) continue;
    // starts[e] walks to the end of e's choices, which is where e + 1 begins.
    const auto position = static_cast<std::size_t>(starts[static_cast<std::size_t>(expert)]++);
    routing.slots[position] = static_cast<int32_t>(slot);
    routing.tokens[position] = static_cast<int32_t>(slot / args.top_k);
  }
  std::shift_right(starts.begin(), starts.end(), 1);
  starts[0] = 0;
  cut_blocks(args, routing);
}

}  // namespace mole::kernels
