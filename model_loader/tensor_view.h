// A named tensor as it lies in a file: type, shape and bytes, not yet interpreted by any model.
// The bytes may lie at any address: read elements with memcpy, never through a float pointer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace mole::loader {

struct TensorView {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;        // row-major, contiguous
  std::span<const std::byte> bytes;  // into the mapped file; size = product(shape) * dtype_bytes

  int64_t num_elements() const {
    int64_t count = 1;
    for (int64_t extent : shape) count *= extent;
    return count;
  }
};

/// "bfloat16 [2048, 512]", for messages.
std::string describe(const TensorView& tensor);
/// "[2048, 512]".
std::string describe_shape(const std::vector<int64_t>& shape);
/// A name from a file, quoted for a message: control and non-ASCII bytes escaped, at most 200
/// shown.
std::string quoted_name(std::string_view name);

}  // namespace mole::loader
