// CRC-32C (Castagnoli), as TensorBoard's record files want it. Source: RFC 3720, appendix B.4 (the
// polynomial and test values); masking: TFRecord's description of "masked crc32c".
#pragma once

#include <cstdint>
#include <string_view>

namespace mole::trainer {

uint32_t crc32c(std::string_view bytes);

/// Rotated right by 15 bits plus a constant, so that a CRC of data that holds CRCs stays useful.
inline uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

}  // namespace mole::trainer
