// The paged KV cache: pages of kBlockTokens tokens, per layer, each token one entry of
// `entry_elements` values (for MLA the compressed latent and the rotated key:
// kv_lora_rank + qk_rope_head_dim, once, not per head; for GQA keys then values of all KV heads).
//
// Layout: [layer][block][slot][entry], row-major, 64-byte aligned. The cache only holds memory:
// which block belongs to whom is the runtime's business. Thread: the engine's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/dtype.h"

namespace mole::model {

inline constexpr int32_t kBlockTokens = 64;  // FlashMLA's page; a multiple of every CPU tile

struct KvCacheShape {
  int32_t num_layers = 0;
  int64_t num_blocks = 0;
  int32_t entry_elements = 0;
  DType dtype = DType::kFloat32;  // float32 or bfloat16

  int64_t block_bytes() const {  // of one layer
    return int64_t{kBlockTokens} * entry_elements * dtype_bytes(dtype);
  }
  int64_t total_bytes() const { return block_bytes() * num_blocks * num_layers; }
};

class KvCache {
 public:
  explicit KvCache(const KvCacheShape& shape);  // allocates; contents start zeroed
  const KvCacheShape& shape() const { return shape_; }
  /// First byte of `layer`'s blocks.
  std::byte* layer(int32_t layer) { return data_.get() + layer_bytes_ * layer; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  KvCacheShape shape_;
  int64_t layer_bytes_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

}  // namespace mole::model
