// The paged KV cache: pages of kBlockTokens tokens, per layer, each token one entry of
// `entry_elements` values (for MLA the compressed latent and the rotated key:
// kv_lora_rank + qk_rope_head_dim, once, not per head; for GQA keys then values of all KV heads),
// in one of the formats of kernels/kv_entry.
//
// Layout: [layer][block][slot][entry], row-major, 64-byte aligned, entries without a gap between
// them. The cache only holds memory: which block belongs to whom is the runtime's business. The
// memory is zero and lies in huge pages where the kernel has them; a page of memory is there from
// its first use on, so that a large cache costs no time at start-up. Thread: the engine's; another
// may read or write a block that the runtime keeps for it alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/dtype.h"
#include "kernels/kv_entry/kv_entry.h"

namespace mole::model {

inline constexpr int32_t kBlockTokens = 64;  // FlashMLA's page; a multiple of every CPU tile
static_assert(kBlockTokens == kernels::kKvPageTokens);

struct KvCacheShape {
  int32_t num_layers = 0;
  int64_t num_blocks = 0;
  int32_t entry_elements = 0;
  DType dtype = DType::kFloat32;  // the model's: float32 or bfloat16
  kernels::KvFormat format = kernels::KvFormat::kModel;
  int32_t rope_elements = 0;  // the last of entry_elements, which every format keeps exact

  kernels::KvEntryShape entry() const {
    return {format, dtype, entry_elements - rope_elements, rope_elements};
  }
  int64_t entry_bytes() const { return entry().bytes(); }
  int64_t block_bytes() const { return kBlockTokens * entry_bytes(); }  // of one layer
  int64_t total_bytes() const { return block_bytes() * num_blocks * num_layers; }
};

class KvCache {
 public:
  explicit KvCache(const KvCacheShape& shape);  // contents start zeroed
  const KvCacheShape& shape() const { return shape_; }
  /// First byte of `layer`'s blocks.
  std::byte* layer(int32_t layer) { return data_.get() + layer_bytes_ * layer; }
  /// First byte of one block's entries in one layer; block_bytes() long.
  std::byte* block(int32_t layer_index, int64_t block) {
    return layer(layer_index) + block * shape_.block_bytes();
  }

 private:
  struct Unmap {
    void* map;  // what was mapped: more than is used, to begin on a huge page
    size_t bytes;
    void operator()(std::byte* data) const;
  };
  KvCacheShape shape_;
  int64_t layer_bytes_ = 0;
  std::unique_ptr<std::byte[], Unmap> data_{nullptr, Unmap{nullptr, 0}};
};

}  // namespace mole::model
