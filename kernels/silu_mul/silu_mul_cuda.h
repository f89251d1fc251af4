// silu_mul on a CUDA device: SiluMulArgs with device pointers, the same bits as on the CPU.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/stream.h"
#include "kernels/silu_mul/silu_mul.h"

namespace mole::kernels {

/// Asynchronous on `stream`. Errors: the launch's; see kernels/cuda/cuda_status.h.
[[nodiscard]] cudaError_t silu_mul_cuda(const SiluMulArgs& args, CudaStream stream);

}  // namespace mole::kernels
