// Memory that kernels read or write from end to end: in huge pages, which save the walks through
// page tables (10 % of a large product on a virtual machine).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace mole::kernels {

struct FreePages {
  void operator()(std::byte* data) const;
};
using Pages = std::unique_ptr<std::byte[], FreePages>;

/// At least `bytes`, contents unspecified, aligned to 64; from 2 MiB on aligned to 2 MiB and in
/// huge pages where the system has them. Out of memory stops the process.
Pages allocate_pages(int64_t bytes);

}  // namespace mole::kernels
