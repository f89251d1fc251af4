// One thread turns one pair.
#include "kernels/cuda/launch.cuh"
#include "kernels/rope/rope_cuda.h"

namespace mole::kernels {
namespace {

template <typename T>
__global__ void __launch_bounds__(device::kThreads) rope_kernel(RopeCudaArgs args) {
  const int64_t pairs = args.dim / 2;
  const int64_t number = device::thread_number(blockIdx.x, threadIdx.x);
  if (number >= args.rows * args.heads * pairs) return;
  const device::RopePlace place = device::rope_place(number, args.heads, pairs);
  const device::PairOffsets offsets = device::pair_offsets(args.interleaved, place.pair, pairs);
  const int64_t angle = int64_t{args.positions[place.row]} * pairs + place.pair;
  const float sin = args.inverse ? -args.sin[angle] : args.sin[angle];
  T* head = static_cast<T*>(args.x) + place.row * args.row_stride + place.head * args.head_stride;
  device::turn_pair(head + offsets.a, head + offsets.b, args.cos[angle], sin);
}

}  // namespace

cudaError_t rope_cuda(const RopeCudaArgs& args, CudaStream stream) {
  const int64_t work = args.rows * args.heads * (args.dim / 2);
  const int64_t blocks = device::blocks_for(work, device::kThreads);
  if (args.dtype == DType::kFloat32) return launch(rope_kernel<float>, blocks, stream, args);
  if (args.dtype == DType::kBFloat16) return launch(rope_kernel<BFloat16>, blocks, stream, args);
  return cudaErrorInvalidValue;
}

}  // namespace mole::kernels
