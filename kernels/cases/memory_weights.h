// Packed weights for cases that time reading them from memory: together several times the
// last-level cache, made once and shared by the cases of one shape.
#pragma once

#include <memory>
#include <vector>

#include "kernels/cpu/thread_team.h"
#include "kernels/linear/linear.h"

namespace mole::kernels {

/// Bytes of all copies together, at least.
inline constexpr int64_t kMemoryWeightBytes = int64_t{3} << 29;

/// Fills a bfloat16 [n, k] weight with finite values of no meaning.
void fill_weight(PackedWeight& weight, int64_t n, int64_t k, ThreadTeam& team);

/// As many weights [n, k] as kMemoryWeightBytes takes. What the last call returned lives until one
/// asks for another shape. Thread: the team's caller.
std::shared_ptr<const std::vector<PackedWeight>> memory_weights(int64_t n, int64_t k,
                                                                ThreadTeam& team);

}  // namespace mole::kernels
