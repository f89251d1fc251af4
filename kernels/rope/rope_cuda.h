// rope on a CUDA device: the same bits as on the CPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/dtype.h"
#include "kernels/cuda/stream.h"

namespace mole::kernels {

/// RopeArgs with device pointers; the table's halves are separate, [max_positions, dim / 2] each.
struct RopeCudaArgs {
  void* x = nullptr;  // [rows, heads, dim] dtype, in place
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int64_t heads = 0, dim = 0;               // dim even
  int64_t row_stride = 0, head_stride = 0;  // elements
  const int32_t* positions = nullptr;       // [rows], each within the table
  const float* cos = nullptr;
  const float* sin = nullptr;
  bool interleaved = true;  // else half-split
  bool inverse = false;
};

/// Asynchronous on `stream`. Errors: the launch's; see kernels/cuda/cuda_status.h.
[[nodiscard]] cudaError_t rope_cuda(const RopeCudaArgs& args, CudaStream stream);

}  // namespace mole::kernels
