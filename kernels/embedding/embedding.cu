// A block copies a row, in words of 16 bytes where rows and pointers allow it.
#include "kernels/cuda/launch.cuh"
#include "kernels/embedding/embedding_cuda.h"

namespace mole::kernels {
namespace {

template <typename Word>
__global__ void __launch_bounds__(device::kThreads)
    embedding_kernel(const Word* table, const TokenId* ids, Word* y, int64_t words) {
  const int64_t token = blockIdx.x;
  const Word* from = table + int64_t{ids[token]} * words;
  Word* to = y + token * words;
  for (int64_t i = threadIdx.x; i < words; i += device::kThreads) to[i] = from[i];
}

template <typename Word>
cudaError_t run(const EmbeddingCudaArgs& args, int64_t row_bytes, CudaStream stream) {
  return launch(embedding_kernel<Word>, args.tokens, stream, static_cast<const Word*>(args.table),
                args.ids, static_cast<Word*>(args.y),
                row_bytes / static_cast<int64_t>(sizeof(Word)));
}

}  // namespace

cudaError_t embedding_cuda(const EmbeddingCudaArgs& args, CudaStream stream) {
  const int64_t row_bytes = args.dim * dtype_bytes(args.dtype);
  const auto addresses =
      reinterpret_cast<uintptr_t>(args.table) | reinterpret_cast<uintptr_t>(args.y);
  const bool wide = ((addresses | static_cast<uintptr_t>(row_bytes)) & (sizeof(uint4) - 1)) == 0;
  if (wide) return run<uint4>(args, row_bytes, stream);
  if (dtype_bytes(args.dtype) == 2) return run<uint16_t>(args, row_bytes, stream);
  if (dtype_bytes(args.dtype) == 4) return run<uint32_t>(args, row_bytes, stream);
  return cudaErrorInvalidValue;
}

}  // namespace mole::kernels
