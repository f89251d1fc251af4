// Memory of a case: matrices between guards, every byte that must not be read being part of a NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "base/dtype.h"
#include "base/philox.h"

namespace mole::kernels {

/// Reproducible random numbers of one case: a function of the seed and of how many were drawn.
class CaseRandom {
 public:
  explicit CaseRandom(uint64_t seed) : seed_(seed) {}
  double uniform() { return philox_uniform(seed_, ++drawn_, 0); }  // [0, 1)
  int64_t between(int64_t low, int64_t high);                      // both included
  bool coin() { return uniform() < 0.5; }
  int64_t pick(std::initializer_list<int64_t> values);
  double normal();

  // The awkward sizes that kernels tend to get wrong.
  int64_t awkward_rows() { return pick({0, 1, 2, 15, 16, 17, 33, 100}); }
  int64_t awkward_size() {
    return coin() ? between(1, 70) : pick({1, 16, 31, 32, 33, 64, 96, 130});
  }
  DType float_dtype() { return coin() ? DType::kFloat32 : DType::kBFloat16; }

 private:
  uint64_t seed_, drawn_ = 0;
};

/// A [rows, columns] matrix of float32, bfloat16 or int32 with a row stride. The elements between
/// rows and 256 bytes on either side hold NaN: a kernel that reads them spoils its result, one that
/// writes them is found by `intact`.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, int64_t rows, int64_t columns, int64_t stride = -1);  // -1 = columns

  DType dtype() const { return dtype_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t stride() const { return stride_; }
  int64_t count() const { return rows_ * columns_; }

  void* data() { return bytes_.data() + kGuard; }
  const void* data() const { return bytes_.data() + kGuard; }
  template <typename T>
  T* as() {
    return static_cast<T*>(data());
  }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data());
  }
  void* row(int64_t row);

  /// Fills with `scale` times a normal variable, rounded to the dtype.
  void fill_normal(CaseRandom& random, double scale = 1);
  void set(int64_t row, int64_t column, double value);
  double at(int64_t row, int64_t column) const;
  /// All elements as doubles, contiguous.
  std::vector<double> doubles() const;
  /// Overwrites all elements with NaN.
  void poison();

  /// Whether everything that isn't an element still holds what it was made with.
  bool intact() const;
  const std::vector<std::byte>& bytes() const { return bytes_; }
  void restore(const std::vector<std::byte>& bytes) { bytes_ = bytes; }

 private:
  static constexpr int64_t kGuard = 256;
  int64_t offset(int64_t row, int64_t column) const;

  DType dtype_ = DType::kFloat32;
  int64_t rows_ = 0, columns_ = 0, stride_ = 0;
  std::vector<std::byte> bytes_;
};

}  // namespace mole::kernels
