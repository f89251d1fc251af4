#include "runtime/select_largest.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/sampling/sampling.h"

namespace mole::runtime {
namespace {

// Up to here the k largest maxima are found among a copy on the stack.
constexpr size_t kBlocksMax = 1024;

// A value that at least k of the row's values reach: the k-th largest maximum.
float lower_bound_of(std::span<const float> maxima, size_t k) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  if (k > maxima.size() || maxima.size() > kBlocksMax) return kNone;
  float copy[kBlocksMax];
  std::copy(maxima.begin(), maxima.end(), copy);
  std::nth_element(copy, copy + (k - 1), copy + maxima.size(), std::greater<>());
  return copy[k - 1];
}

}  // namespace

void select_largest(std::span<const float> values, std::span<const float> maxima, size_t k,
                    std::vector<TokenId>* ids) {
  const auto before = [values](TokenId a, TokenId b) {
    const float value_a = values[static_cast<size_t>(a)], value_b = values[static_cast<size_t>(b)];
    return value_a > value_b || (value_a == value_b && a < b);
  };
  k = std::min(k, values.size());
  ids->clear();
  if (k == 0) return;
  kernels::ids_between(values.data(), static_cast<int64_t>(values.size()),
                       lower_bound_of(maxima, k), std::numeric_limits<float>::infinity(), ids);
  if (k < ids->size()) {
    std::nth_element(ids->begin(), ids->begin() + static_cast<ptrdiff_t>(k), ids->end(), before);
    ids->resize(k);
  }
  std::sort(ids->begin(), ids->end(), before);
}

}  // namespace mole::runtime
