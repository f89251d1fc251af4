// The swap file of the KV cache, byte for byte, and what a page must show before it is believed.
//
//   offset 0                            SwapFileHeader, the rest of its 4096 bytes zero
//   offset 4096                         SwapPageHeader[num_slots], one a slot
//   offset first_page                   pages [num_slots][stride]: the payload of slot s begins at
//                                       first_page + s * stride
//   first_page, stride                  multiples of 4096; the bytes between are zero or stale
// A payload is what one block holds in every layer of the model proper, layer after layer, in the
// cache's own format (kernels/kv_entry). Numbers have the machine's byte order: the file is this
// machine's, never an interchange format.
//
// Order of a write: the slot's header becomes zero, then the payload, then the new header. After a
// crash of the process the slot is therefore empty or whole. After a crash of the machine the parts
// may have reached the disk in any order; no order is needed, since nothing is believed unseen: the
// header carries its own checksum and the payload's, which is seeded with the header, so that an
// old payload under a new header, a new one under an old, or half of each is refused. A refused
// page is a miss and is computed again. Nothing else in the file is trusted: offsets and sizes come
// from the options of the running engine, never from the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/sha256.h"
#include "runtime/block_key.h"

namespace mole::runtime {

inline constexpr uint64_t kSwapFileMagic = 0x3130'5041'5753'4c4fu;  // "OLSWAP01"
inline constexpr uint64_t kSwapPageMagic = 0x3130'4547'4150'4c4fu;  // "OLPAGE01"
inline constexpr uint32_t kSwapVersion = 1;
inline constexpr uint64_t kSwapAlignment = 4096;

struct SwapFileHeader {
  uint64_t magic = kSwapFileMagic;
  uint32_t version = kSwapVersion;
  uint32_t page_header_bytes = 0;
  uint64_t page_bytes = 0;  // of a payload
  uint64_t num_slots = 0;
  uint64_t first_page = 0;  // offset
  uint64_t checksum = 0;    // of the fields before
};
static_assert(sizeof(SwapFileHeader) == 48);

struct SwapPageHeader {
  uint64_t magic = 0;        // kSwapPageMagic; 0 = the slot is empty
  uint64_t slot = 0;         // where it was meant to be
  uint64_t written = 0;      // counts the pages written; the greater is the newer
  uint64_t page_bytes = 0;   // of the payload
  BlockKey key;              // prefix, tokens and attention forms (runtime/block_key.h)
  Sha256Digest fingerprint;  // of model, cache format and arithmetic
  uint64_t payload = 0;      // checksum of the payload, seeded with that of the fields before
  uint64_t reserved[2] = {0, 0};
  uint64_t checksum = 0;  // of the fields before
};
static_assert(sizeof(SwapPageHeader) == 128);
static_assert(kSwapAlignment % sizeof(SwapPageHeader) == 0);

/// Where things lie in a file of so many pages.
struct SwapGeometry {
  uint64_t page_bytes = 0;
  uint64_t num_slots = 0;

  uint64_t stride() const { return round_up(page_bytes); }
  uint64_t header_offset(uint64_t slot) const {
    return kSwapAlignment + slot * sizeof(SwapPageHeader);
  }
  uint64_t first_page() const { return round_up(header_offset(num_slots)); }
  uint64_t page_offset(uint64_t slot) const { return first_page() + slot * stride(); }
  uint64_t file_bytes() const { return page_offset(num_slots); }
  /// The most slots that fit into `bytes` with payloads of `page_bytes`.
  static uint64_t slots_in(uint64_t bytes, uint64_t page_bytes);

 private:
  static uint64_t round_up(uint64_t bytes) {
    return (bytes + kSwapAlignment - 1) / kSwapAlignment * kSwapAlignment;
  }
};

/// What became of a page that was written or read.
enum class SwapOutcome : uint8_t {
  kOk,
  kIoError,      // the file system refused
  kChecksum,     // torn, rotten or empty
  kOtherKey,     // a whole page, but not the one asked for
  kOtherOrigin,  // of another model, cache format or arithmetic
};
inline constexpr size_t kSwapOutcomes = 5;
std::string_view swap_outcome_name(SwapOutcome outcome);

/// The parts of a block's contents, one a layer.
using PagePieces = std::span<const std::span<std::byte>>;

/// The header of a page that holds `pieces`.
SwapPageHeader seal_page(uint64_t slot, uint64_t written, const BlockKey& key,
                         const Sha256Digest& fingerprint, PagePieces pieces);

/// Whether a header is whole and belongs to slot `slot` of a file of such pages: all that can be
/// said without the payload.
SwapOutcome check_header(const SwapPageHeader& header, uint64_t slot, uint64_t page_bytes,
                         const Sha256Digest& fingerprint);

/// The whole check, after which `pieces` hold exactly what was written under `key`.
SwapOutcome check_page(const SwapPageHeader& header, uint64_t slot, const BlockKey& key,
                       const Sha256Digest& fingerprint, PagePieces pieces);

}  // namespace mole::runtime
