// A CUDA stream as a type of its own: every launch names one, and none is the default by accident.
#pragma once

struct CUstream_st;

namespace mole::kernels {

class CudaStream {
 public:
  /// `handle` is a cudaStream_t, owned by the caller.
  explicit CudaStream(CUstream_st* handle) : handle_(handle) {}
  CUstream_st* handle() const { return handle_; }

 private:
  CUstream_st* handle_;
};

}  // namespace mole::kernels
