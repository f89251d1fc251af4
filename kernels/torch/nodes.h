// Recording of backward steps: plain nodes of LibTorch's graph with typed members. Nodes hold
// detached inputs (or copies), never their own outputs, so there are no cycles.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <utility>

namespace mole::kernels {

using torch::autograd::variable_list;

/// True if the operation must record: gradients are on, and a weight or an input needs one.
template <typename... Tensors>
bool recording(bool trainable, const Tensors&... inputs) {
  if (!at::GradMode::is_enabled()) return false;
  return trainable || ((inputs.defined() && inputs.requires_grad()) || ...);
}

/// A node whose backward returns one gradient per given input, in this order.
template <typename NodeT, typename... Tensors>
std::shared_ptr<NodeT> make_node(const Tensors&... inputs) {
  std::shared_ptr<NodeT> node(new NodeT(), torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs...));
  return node;
}

/// `gradient` with contiguous rows; LibTorch may hand in expanded or strided ones.
inline at::Tensor dense_rows(const at::Tensor& gradient) {
  return gradient.dim() > 0 && gradient.stride(-1) != 1 ? gradient.contiguous() : gradient;
}

}  // namespace mole::kernels
