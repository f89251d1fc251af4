#include "model_loader/tensor_view.h"

namespace mole::loader {

std::string describe_shape(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::string describe(const TensorView& tensor) {
  return std::string(dtype_name(tensor.dtype)) + " " + describe_shape(tensor.shape);
}

std::string quoted_name(std::string_view name) {
  constexpr size_t kShown = 200;
  constexpr char kHex[] = "0123456789abcdef";
  std::string text = "\"";
  for (const char c : name.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      text += c;
    } else {
      text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return text + (name.size() > kShown ? "\"…" : "\"");
}

}  // namespace mole::loader
