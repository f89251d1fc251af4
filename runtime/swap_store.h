// Where swapped pages lie: slots of one size. The real one is a file (swap_file.h), the
// simulation's is memory with faults.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "runtime/swap_format.h"

namespace mole::runtime {

class SwapStore {
 public:
  virtual ~SwapStore() = default;
  virtual uint64_t num_slots() const = 0;
  /// What the headers of the slots from `first` on say now, believable or not. Errors: kInternal.
  virtual Status read_headers(uint64_t first, std::span<SwapPageHeader> headers) = 0;
  /// Empties the slot, writes the payload, then the header, in this order. Errors: kInternal; the
  /// slot then holds nothing that check_page() believes, unless nothing was written at all.
  virtual Status write_page(uint64_t slot, const SwapPageHeader& header, PagePieces pieces) = 0;
  /// Reads both into `header` and `pieces`. Errors: kInternal; `pieces` then hold anything.
  virtual Status read_page(uint64_t slot, SwapPageHeader* header, PagePieces pieces) = 0;
};

}  // namespace mole::runtime
