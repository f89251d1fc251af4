// rms_norm on a CUDA device: RmsNormArgs with device pointers, the same bits as on the CPU.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/stream.h"
#include "kernels/rms_norm/rms_norm.h"

namespace mole::kernels {

/// Asynchronous on `stream`. Errors: the launch's; see kernels/cuda/cuda_status.h.
[[nodiscard]] cudaError_t rms_norm_cuda(const RmsNormArgs& args, CudaStream stream);

}  // namespace mole::kernels
