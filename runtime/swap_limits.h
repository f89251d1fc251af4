// Every bound of the swap file's engine side that is not an option, with its reason.
#pragma once

#include <cstdint>

namespace mole::runtime {

/// Pages on their way to the file at once: enough for a thread that never runs dry between two
/// steps, few enough that hardly any block is kept from being taken.
inline constexpr int32_t kSwapWritesMax = 16;
/// Pages on their way back at once: 4096 tokens of a prompt a step.
inline constexpr int32_t kSwapLoadsMax = 64;
inline constexpr int32_t kSwapJobsMax = kSwapWritesMax + kSwapLoadsMax;
/// Released blocks looked at in one step for what must be written.
inline constexpr int32_t kSwapScanMax = 64;
/// A sequence waits so long for its pages while it is not known what computing them would take.
inline constexpr int64_t kSwapWaitMaxUs = 2'000'000;
/// The end of the engine writes what is still unwritten, at most so long.
inline constexpr int64_t kSwapFlushMaxUs = 5'000'000;
/// An engine that has nothing to do but wait for a page looks around this often, though a page that
/// comes wakes it.
inline constexpr int64_t kSwapPollUs = 10'000;
/// Slots of a file: bounds the index's memory to some 360 MB and the start to reading 512 MiB.
inline constexpr int64_t kSwapSlotsMax = int64_t{1} << 22;
/// Default of kv_swap_bytes, as a multiple of the cache.
inline constexpr int64_t kSwapBytesPerCacheByte = 4;
/// Blocks that the cache must have beyond one sequence of the greatest length: the page that the
/// swap device is at can't be taken back, whatever else happens.
inline constexpr int32_t kSwapSpareBlocks = 1;
/// How fast the measured rate of the file follows what is measured: weight of the newest page.
inline constexpr double kSwapRateWeight = 1.0 / 8;

}  // namespace mole::runtime
