#include "kernels/cuda/cuda_status.h"

namespace mole::kernels {

Status cuda_status(const char* kernel, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::UnavailableError(std::string(kernel) + ": " + cudaGetErrorString(error));
}

}  // namespace mole::kernels
