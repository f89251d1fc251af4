// CUDA's errors as Status.
#pragma once

#include <cuda_runtime_api.h>

#include "base/status.h"

namespace mole::kernels {

/// OK, or kUnavailable with the kernel's name and the device's own words. After an error of a
/// running kernel the process' context is lost: what is in flight must end, and the process with
/// it.
Status cuda_status(const char* kernel, cudaError_t error);

}  // namespace mole::kernels
