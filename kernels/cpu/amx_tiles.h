// The AMX tile registers, configured for one scope: eight tiles of 16 rows by 64 bytes. For files
// that mole_kernel_amx compiles.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace mole::kernels::avx512 {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Released at the scope's end: a core with live tiles can't rest deeply, and every switch of
/// threads would save 8 KiB.
class Tiles {
 public:
  Tiles() {
    // GCC 12 declares only part of the configuration as read; without this its stores may be
    // dropped.
    __asm__ volatile("" ::"r"(&kConfig) : "memory");
    _tile_loadconfig(&kConfig);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  static constexpr TileConfig kConfig{};
};

}  // namespace mole::kernels::avx512
