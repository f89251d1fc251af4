// The AMX tile registers, configured for one scope: eight tiles of 16 rows by 64 bytes, or the
// first seven with fewer rows. For files that mole_kernel_amx compiles.
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
  Tiles() { load(kConfig); }
  /// Tiles 0 … 6 (sums and x) of `rows` rows, tile 7 (the weight) of 16: time goes with the rows.
  explicit Tiles(int64_t rows) {
    TileConfig config;
    for (int i = 0; i < 7; ++i) config.rows[i] = static_cast<uint8_t>(rows);
    load(config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  static void load(const TileConfig& config) {
    // GCC 12 declares only part of the configuration as read; without this its stores may be
    // dropped.
    __asm__ volatile("" ::"r"(&config) : "memory");
    _tile_loadconfig(&config);
  }
  static constexpr TileConfig kConfig{};
};

}  // namespace mole::kernels::avx512
