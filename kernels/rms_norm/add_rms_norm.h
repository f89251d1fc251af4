// The seam between two halves of a layer, in one pass: the residual stream takes in what the last
// half computed, and is normalised for the next.
//
//   sum = x + delta                    (rounded to the dtype)
//   sum = x + (delta + second_delta)   (the inner sum rounded to the dtype first)
//   y   = rms_norm(sum, weight)
// Source: the pre-norm residual block; fused as in most inference engines.
// Numerics: sums in float32, rounded as above; y has the bits of rms_norm of the stored sum.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

struct AddRmsNormArgs {
  const void* x = nullptr;             // [rows, dim] dtype
  const void* delta = nullptr;         // [rows, dim]
  const void* second_delta = nullptr;  // [rows, dim], or null
  void* sum = nullptr;                 // [rows, dim]; may equal x or a delta
  const void* weight = nullptr;        // [dim]; null with y
  void* y = nullptr;                   // [rows, dim], or null: only the sum is wanted
  DType dtype = DType::kFloat32;       // of all; every matrix is contiguous
  int64_t rows = 0, dim = 0;
  float eps = 1e-6f;
  float* inverse_rms = nullptr;  // [rows] for rms_norm's backward, or null
};

/// Thread: as ThreadTeam's. Errors: none; a wrong argument is a bug and stops the process.
/// Cost: reads x, the deltas and writes sum and y once.
void add_rms_norm(const AddRmsNormArgs& args, ThreadTeam& team);

}  // namespace mole::kernels
