// A tensor with the name it has in a checkpoint.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace mole::model {

struct NamedTensor {
  std::string name;   // Hugging Face's, for example "model.layers.0.self_attn.o_proj.weight"
  at::Tensor tensor;  // float32, contiguous
};

}  // namespace mole::model
