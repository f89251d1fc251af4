// The swap file (layout: swap_format.h). Thread: one at a time.
//
// Reads and writes are pread and pwrite, not a mapping: when a disk fails or somebody cuts the file
// short, a mapping kills the server with SIGBUS, a read gives an error and the page is a miss. And
// a mapping's pages count as the server's own memory, which has a contract (docs/kv_cache.md).
#pragma once

#include <filesystem>
#include <memory>

#include "base/status.h"
#include "runtime/swap_store.h"

namespace mole::runtime {

class SwapFile final : public SwapStore {
 public:
  /// Opens or makes the file, for this process alone. A swap file of another layout, or one that
  /// is damaged at its head, begins anew; a file that is no swap file is never touched.
  /// Errors: kInvalidArgument naming the option (no swap file, in use by another process, larger
  /// than the file system has room for), kInternal.
  static StatusOr<std::unique_ptr<SwapFile>> open(const std::filesystem::path& path,
                                                  const SwapGeometry& geometry);
  ~SwapFile() override;

  uint64_t num_slots() const override { return geometry_.num_slots; }
  Status read_headers(uint64_t first, std::span<SwapPageHeader> headers) override;
  Status write_page(uint64_t slot, const SwapPageHeader& header, PagePieces pieces) override;
  Status read_page(uint64_t slot, SwapPageHeader* header, PagePieces pieces) override;

 private:
  SwapFile(int fd, std::filesystem::path path, const SwapGeometry& geometry);
  Status prepare();
  Status begin_anew();
  /// All of it, or an error.
  Status read_at(uint64_t offset, std::span<std::byte> bytes);
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);

  const int fd_;
  const std::filesystem::path path_;
  const SwapGeometry geometry_;
};

}  // namespace mole::runtime
