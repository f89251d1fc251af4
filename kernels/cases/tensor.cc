#include "kernels/cases/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/check.h"

namespace mole::kernels {
namespace {

// Large matrices, which only benchmarks make, repeat themselves after this many values (a prime, so
// that rows differ).
constexpr int64_t kFillPeriod = 65537;

constexpr std::byte kPoison{0xff};  // a NaN in float32 and in bfloat16, -1 in int32

}  // namespace

int64_t CaseRandom::between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(uniform() * static_cast<double>(high - low + 1));
}

int64_t CaseRandom::pick(std::initializer_list<int64_t> values) {
  return values.begin()[between(0, static_cast<int64_t>(values.size()) - 1)];
}

double CaseRandom::normal() {
  // Box and Muller's transform; 1 - u keeps the logarithm finite.
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

Tensor::Tensor(DType dtype, int64_t rows, int64_t columns, int64_t stride)
    : dtype_(dtype), rows_(rows), columns_(columns), stride_(stride < 0 ? columns : stride) {
  MOLE_CHECK_GE(stride_, columns_);
  const int64_t size = 2 * kGuard + rows_ * stride_ * dtype_bytes(dtype);
  bytes_.assign(static_cast<std::size_t>(size), kPoison);
}

int64_t Tensor::offset(int64_t row, int64_t column) const {
  return kGuard + (row * stride_ + column) * dtype_bytes(dtype_);
}

void* Tensor::row(int64_t row) { return bytes_.data() + offset(row, 0); }

void Tensor::fill_normal(CaseRandom& random, double scale) {
  std::vector<double> values(static_cast<std::size_t>(std::min(count(), kFillPeriod)));
  for (double& value : values) value = scale * random.normal();
  std::size_t next = 0;
  for (int64_t r = 0; r < rows_; ++r) {
    for (int64_t c = 0; c < columns_; ++c) {
      set(r, c, values[next++]);
      if (next == values.size()) next = 0;
    }
  }
}

void Tensor::set(int64_t row, int64_t column, double value) {
  std::byte* to = bytes_.data() + offset(row, column);
  if (dtype_ == DType::kInt32) {
    const auto element = static_cast<int32_t>(value);
    std::memcpy(to, &element, sizeof(element));
  } else if (dtype_ == DType::kBFloat16) {
    const BFloat16 element = to_bfloat16(static_cast<float>(value));
    std::memcpy(to, &element, sizeof(element));
  } else {
    const auto element = static_cast<float>(value);
    std::memcpy(to, &element, sizeof(element));
  }
}

double Tensor::at(int64_t row, int64_t column) const {
  const std::byte* from = bytes_.data() + offset(row, column);
  if (dtype_ == DType::kInt32) {
    int32_t element = 0;
    std::memcpy(&element, from, sizeof(element));
    return element;
  }
  if (dtype_ == DType::kBFloat16) {
    BFloat16 element;
    std::memcpy(&element, from, sizeof(element));
    return to_float(element);
  }
  float element = 0;
  std::memcpy(&element, from, sizeof(element));
  return element;
}

std::vector<double> Tensor::doubles() const {
  std::vector<double> out;
  out.reserve(static_cast<std::size_t>(count()));
  for (int64_t r = 0; r < rows_; ++r) {
    for (int64_t c = 0; c < columns_; ++c) out.push_back(at(r, c));
  }
  return out;
}

void Tensor::poison() {
  for (int64_t r = 0; r < rows_; ++r) {
    std::memset(row(r), static_cast<int>(kPoison),
                static_cast<std::size_t>(columns_ * dtype_bytes(dtype_)));
  }
}

bool Tensor::intact() const {
  const int64_t element = dtype_bytes(dtype_);
  int64_t next = 0;  // first byte not yet looked at
  auto poisoned_up_to = [&](int64_t end) {
    for (; next < end; ++next) {
      if (bytes_[static_cast<std::size_t>(next)] != kPoison) return false;
    }
    return true;
  };
  for (int64_t r = 0; r < rows_; ++r) {
    if (!poisoned_up_to(offset(r, 0))) return false;
    next = offset(r, 0) + columns_ * element;
  }
  return poisoned_up_to(static_cast<int64_t>(bytes_.size()));
}

}  // namespace mole::kernels
