// What moe's forward and backward share: the choices sorted by expert, and arithmetic on single
// rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/huge_pages.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/linear/linear_impl.h"
#include "kernels/moe/moe.h"
#include "kernels/moe/moe_rows.h"

namespace mole::kernels {

/// The choices (slot = t * K + j) that name an expert, sorted by expert, then by token. "Position"
/// is a place in this order. Reused from call to call, so that a warm step allocates nothing.
struct Routing {
  std::vector<int32_t> slots;   // [positions]
  std::vector<int32_t> tokens;  // [positions] = slot / K
  std::vector<int64_t> starts;  // [E + 1] first position of each expert

  /// Positions of one expert, few enough that what lies between its products stays in the caches.
  struct Block {
    int64_t expert = 0, first = 0, rows = 0;
  };
  std::vector<Block> blocks;

  int64_t positions() const { return static_cast<int64_t>(slots.size()); }
};
void sort_by_expert(const MoeArgs& args, Routing& routing);

/// Bytes of one expert's weights up to which they stay in a thread's second-level cache.
inline constexpr int64_t kSmallExpert = int64_t{1} << 20;
inline bool small_experts(const MoeArgs& args) {
  return 3 * args.hidden * args.expert_width * dtype_bytes(args.dtype) <= kSmallExpert;
}

/// Whether there are enough blocks to keep all threads evenly busy. The bits are the same either
/// way.
inline bool by_block(const Routing& routing, const ThreadTeam& team) {
  return static_cast<int64_t>(routing.blocks.size()) >= 4 * int64_t{team.num_threads()};
}

/// Memory that only grows; contents unspecified.
class Buffer {
 public:
  std::byte* reserve(int64_t bytes);
  template <typename T>
  T* reserve_as(int64_t count) {
    return reinterpret_cast<T*>(reserve(count * static_cast<int64_t>(sizeof(T))));
  }

 private:
  Pages data_;
  int64_t bytes_ = 0;
};

/// Working memory of the forward, kept between calls.
struct MoeWorkspace {
  Routing routing;
  Buffer activation;                     // [positions, F] dtype, in down's order
  Buffer down;                           // [T, K, D] float32
  std::vector<LinearArgs> up, products;  // of every block: gate_up's and down's
};
/// The forward with all threads at every expert (moe_together.cc); `space.routing` is made.
void moe_together(const MoeArgs& args, MoeWorkspace& space, ThreadTeam& team);

/// Columns [column, column + count) of combine for y of args.dtype, in the calling thread.
void combine_columns(const MoeArgs& args, const float* rows, int64_t column, int64_t count);
/// For every token, rows [T, K, D] float32 to y [T, D]; weights [T, K] or null.
void combine(const MoeArgs& args, const float* rows, const float* weights, void* y, DType dtype,
             ThreadTeam& team);

}  // namespace mole::kernels
