// One thread makes one element.
#include "kernels/cuda/launch.cuh"
#include "kernels/silu_mul/silu_mul_cuda.h"

namespace mole::kernels {
namespace {

template <typename In, typename Out>
__global__ void __launch_bounds__(device::kThreads)
    silu_mul_kernel(const In* gate_up, Out* y, int64_t count, int64_t width) {
  const int64_t number = device::thread_number(blockIdx.x, threadIdx.x);
  if (number >= count) return;
  const In* gate = gate_up + number / width * 2 * width + number % width;
  device::narrow(y + number, device::silu_mul(device::widen(gate[0]), device::widen(gate[width])));
}

template <typename In, typename Out>
cudaError_t run(const SiluMulArgs& args, CudaStream stream) {
  const int64_t count = args.rows * args.width;
  return launch(silu_mul_kernel<In, Out>, device::blocks_for(count, device::kThreads), stream,
                static_cast<const In*>(args.gate_up), static_cast<Out*>(args.y), count, args.width);
}

template <typename In>
cudaError_t run_in(const SiluMulArgs& args, CudaStream stream) {
  if (args.out_dtype == DType::kFloat32) return run<In, float>(args, stream);
  if (args.out_dtype == DType::kBFloat16) return run<In, BFloat16>(args, stream);
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t silu_mul_cuda(const SiluMulArgs& args, CudaStream stream) {
  if (args.in_dtype == DType::kFloat32) return run_in<float>(args, stream);
  if (args.in_dtype == DType::kBFloat16) return run_in<BFloat16>(args, stream);
  return cudaErrorInvalidValue;
}

}  // namespace mole::kernels
