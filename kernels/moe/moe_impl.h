// What moe's forward and backward share: the choices sorted by expert, and arithmetic on single
// rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

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
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  int64_t bytes_ = 0;
};

/// For every token, rows [T, K, D] float32 to y [T, D]; weights [T, K] or null.
void combine(const MoeArgs& args, const float* rows, const float* weights, void* y, DType dtype,
             ThreadTeam& team);

}  // namespace mole::kernels
