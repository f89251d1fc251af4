// The attention of one layer, with its projections and its part of the cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/layers/step_context.h"

namespace mole::model {

class AttentionLayer {
 public:
  virtual ~AttentionLayer() = default;
  /// Values per token in the cache.
  virtual int32_t entry_elements() const = 0;
  /// The last of them, which compressed formats of the cache keep exact; 0 if the layer knows no
  /// such formats (ModelInfo::kv_compressible).
  virtual int32_t entry_rope_elements() const { return 0; }
  /// x [T, D], normalised -> [T, D]. `layer` is the cache's layer.
  virtual at::Tensor forward(const at::Tensor& x, StepContext& step, int32_t layer) = 0;
  virtual int64_t resident_bytes() const = 0;
};

}  // namespace mole::model
