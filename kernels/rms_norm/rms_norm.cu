// Sixteen threads share a row, one for each of the contract's chains; two rows a warp.
#include "kernels/cuda/launch.cuh"
#include "kernels/rms_norm/rms_norm_cuda.h"

namespace mole::kernels {
namespace {

/// The contract's order: (i, i+8), (i, i+4), (i, i+2), (i, i+1). Addition commutes, so all sixteen
/// lanes get the same bits.
__device__ float add_lanes(float sum) {
  for (int width = device::kLanes / 2; width >= 1; width /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, width, device::kLanes);
  }
  return sum;
}

template <typename T>
__global__ void __launch_bounds__(device::kThreads)
    rms_norm_kernel(const T* x, const T* weight, T* y, int64_t rows, int64_t dim, int64_t x_stride,
                    int64_t y_stride, float eps, float* inverse_rms) {
  const device::RowLane place = device::row_lane(blockIdx.x, threadIdx.x);
  const bool inside = place.row < rows;
  // Threads past the last row take part in the shuffles, which need the whole warp.
  const T* from = x + (inside ? place.row : 0) * x_stride;
  const float squares = add_lanes(inside ? device::square_chain(from, dim, place.lane) : 0.0f);
  if (!inside) return;
  const float inverse = device::inverse_rms(squares, dim, eps);
  if (inverse_rms != nullptr && place.lane == 0) inverse_rms[place.row] = inverse;
  T* to = y + place.row * y_stride;
  for (int64_t i = place.lane; i < dim; i += device::kLanes) {
    device::narrow(to + i, device::widen(from[i]) * inverse * device::widen(weight[i]));
  }
}

template <typename T>
cudaError_t run(const RmsNormArgs& args, CudaStream stream) {
  return launch(rms_norm_kernel<T>, device::blocks_for(args.rows, device::kRowsPerBlock), stream,
                static_cast<const T*>(args.x), static_cast<const T*>(args.weight),
                static_cast<T*>(args.y), args.rows, args.dim, args.x_stride, args.y_stride,
                args.eps, args.inverse_rms);
}

}  // namespace

cudaError_t rms_norm_cuda(const RmsNormArgs& args, CudaStream stream) {
  if (args.dtype == DType::kFloat32) return run<float>(args, stream);
  if (args.dtype == DType::kBFloat16) return run<BFloat16>(args, stream);
  return cudaErrorInvalidValue;
}

}  // namespace mole::kernels
