// embedding on a CUDA device: an exact copy of rows.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/dtype.h"
#include "base/ids.h"
#include "kernels/cuda/stream.h"

namespace mole::kernels {

/// y[t] = table[ids[t]], all device memory; ids [tokens] within the table. Asynchronous on
/// `stream`. Errors: the launch's; see kernels/cuda/cuda_status.h.
struct EmbeddingCudaArgs {
  const void* table = nullptr;  // [vocab, dim] dtype
  DType dtype = DType::kFloat32;
  const TokenId* ids = nullptr;
  int64_t tokens = 0, dim = 0;
  void* y = nullptr;  // [tokens, dim] dtype
};
[[nodiscard]] cudaError_t embedding_cuda(const EmbeddingCudaArgs& args, CudaStream stream);

}  // namespace mole::kernels
