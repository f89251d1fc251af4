// Tensors of a serving step, used again step after step: a warm step takes no memory from anywhere.
//
// While a scope is open in a thread, kernels::empty takes from its pool. A tensor belongs to the
// step for as long as somebody holds it; when the last holder lets go, its block is free again. A
// block is taken by best fit; a new one is made where none fits, for `max_rows` rows if the request
// has no more, so that the first step already makes nearly all of them.
//
// Only for tensors without gradients. Thread: one at a time, that of the team's caller.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace mole::kernels {

class TensorPool {
 public:
  /// `max_rows`: of the first dimension, usually tokens of the largest step; 0 = as requested.
  explicit TensorPool(int64_t max_rows) : max_rows_(max_rows) {}
  TensorPool(const TensorPool&) = delete;
  TensorPool& operator=(const TensorPool&) = delete;

  /// Contiguous, contents unspecified.
  at::Tensor take(at::IntArrayRef shape, at::ScalarType type);
  /// Of all blocks. Memory that no step has touched yet is counted too.
  int64_t bytes() const;

  class Scope;
  /// That of the innermost scope open in this thread, or null.
  static TensorPool* current();

 private:
  struct Block {
    at::Tensor tensor;  // one reference of ours; more are a step's
    int64_t capacity = 0;
  };
  Block& best_fit(int64_t bytes, int64_t new_capacity);

  const int64_t max_rows_;
  std::vector<Block> blocks_;
};

class TensorPool::Scope {
 public:
  explicit Scope(TensorPool* pool);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  TensorPool* outer_;
};

}  // namespace mole::kernels
