#include "runtime/swap_format.h"

#include <algorithm>

#include "base/checksum.h"
#include "runtime/injected_bug.h"

namespace mole::runtime {
namespace {

uint64_t total_bytes(PagePieces pieces) {
  uint64_t bytes = 0;
  for (const auto& piece : pieces) bytes += piece.size();
  return bytes;
}

template <typename Header>
uint64_t checksum_before(const Header& header, const uint64_t& field) {
  const auto* begin = reinterpret_cast<const std::byte*>(&header);
  const auto* end = reinterpret_cast<const std::byte*>(&field);
  return checksum64({begin, end});
}

uint64_t payload_checksum(const SwapPageHeader& header, PagePieces pieces) {
  uint64_t sum = checksum_before(header, header.payload);
  for (const auto& piece : pieces) sum = checksum64(piece, sum);
  return sum;
}

}  // namespace

std::string_view swap_outcome_name(SwapOutcome outcome) {
  switch (outcome) {
    case SwapOutcome::kOk:
      return "ok";
    case SwapOutcome::kIoError:
      return "io_error";
    case SwapOutcome::kChecksum:
      return "checksum";
    case SwapOutcome::kOtherKey:
      return "other_key";
    case SwapOutcome::kOtherOrigin:
      return "other_origin";
  }
  return "unknown";
}

uint64_t SwapGeometry::slots_in(uint64_t bytes, uint64_t page_bytes) {
  const SwapGeometry one{page_bytes, 0};
  const uint64_t slots = bytes / (one.stride() + sizeof(SwapPageHeader));
  // The table's rounding may cost one.
  for (uint64_t fits = slots; fits > 0; --fits) {
    if (SwapGeometry{page_bytes, fits}.file_bytes() <= bytes) return fits;
  }
  return 0;
}

SwapPageHeader seal_page(uint64_t slot, uint64_t written, const BlockKey& key,
                         const Sha256Digest& fingerprint, PagePieces pieces) {
  SwapPageHeader header;
  header.magic = kSwapPageMagic;
  header.slot = slot;
  header.written = written;
  header.page_bytes = total_bytes(pieces);
  header.key = key;
  header.fingerprint = fingerprint;
  header.payload = payload_checksum(header, pieces);
  header.checksum = checksum_before(header, header.checksum);
  return header;
}

SwapOutcome check_header(const SwapPageHeader& header, uint64_t slot, uint64_t page_bytes,
                         const Sha256Digest& fingerprint) {
  if (header.magic != kSwapPageMagic) return SwapOutcome::kChecksum;
  if (header.checksum != checksum_before(header, header.checksum)) return SwapOutcome::kChecksum;
  if (header.slot != slot) return SwapOutcome::kOtherKey;
  if (header.page_bytes != page_bytes || header.fingerprint != fingerprint) {
    return SwapOutcome::kOtherOrigin;
  }
  return SwapOutcome::kOk;
}

SwapOutcome check_page(const SwapPageHeader& header, uint64_t slot, const BlockKey& key,
                       const Sha256Digest& fingerprint, PagePieces pieces) {
  if (injected(InjectedBug::kPageOfAnother) && header.magic == kSwapPageMagic) {
    return header.payload == payload_checksum(header, pieces) ? SwapOutcome::kOk
                                                              : SwapOutcome::kChecksum;
  }
  const SwapOutcome whole = check_header(header, slot, total_bytes(pieces), fingerprint);
  if (whole != SwapOutcome::kOk) return whole;
  if (header.key != key) return SwapOutcome::kOtherKey;
  if (injected(InjectedBug::kPageNotVerified)) return SwapOutcome::kOk;
  return header.payload == payload_checksum(header, pieces) ? SwapOutcome::kOk
                                                            : SwapOutcome::kChecksum;
}

}  // namespace mole::runtime
