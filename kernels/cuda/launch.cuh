// The one way to launch a kernel: on a named stream, with 256 threads a block, checked.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "kernels/cuda/launch_index.h"
#include "kernels/cuda/stream.h"

namespace mole::kernels {

/// No blocks: nothing to do. Errors: the launch's own (bad configuration, no device); those of the
/// running kernel show at the next synchronisation of the stream.
template <typename... Params, typename... Args>
[[nodiscard]] cudaError_t launch(void (*kernel)(Params...), int64_t blocks, CudaStream stream,
                                 Args... args) {
  if (blocks == 0) return cudaSuccess;
  if (blocks > std::numeric_limits<int32_t>::max()) return cudaErrorInvalidConfiguration;
  kernel<<<static_cast<unsigned>(blocks), device::kThreads, 0, stream.handle()>>>(args...);
  return cudaGetLastError();
}

}  // namespace mole::kernels
