#include "runtime/select_largest.h"

#include <algorithm>
#include <numeric>

namespace mole::runtime {
namespace {

// Beyond that a heap's log factor costs more than moving all ids once.
constexpr size_t kHeapMax = 512;

}  // namespace

void select_largest(std::span<const float> values, size_t k, std::vector<TokenId>* ids) {
  const auto before = [values](TokenId a, TokenId b) {
    const float value_a = values[static_cast<size_t>(a)], value_b = values[static_cast<size_t>(b)];
    return value_a > value_b || (value_a == value_b && a < b);
  };
  k = std::min(k, values.size());
  ids->resize(k <= kHeapMax ? k : values.size());
  std::iota(ids->begin(), ids->end(), 0);
  if (k == 0) return;
  if (k <= kHeapMax) {
    std::make_heap(ids->begin(), ids->end(), before);  // its front is the last of those kept
    float least = values[static_cast<size_t>(ids->front())];
    for (size_t id = k; id < values.size(); ++id) {
      if (!(values[id] > least)) continue;  // ids ascend: an equal value comes behind
      std::pop_heap(ids->begin(), ids->end(), before);
      ids->back() = static_cast<TokenId>(id);
      std::push_heap(ids->begin(), ids->end(), before);
      least = values[static_cast<size_t>(ids->front())];
    }
  } else if (k < values.size()) {
    std::nth_element(ids->begin(), ids->begin() + static_cast<ptrdiff_t>(k), ids->end(), before);
    ids->resize(k);
  }
  std::sort(ids->begin(), ids->end(), before);
}

}  // namespace mole::runtime
