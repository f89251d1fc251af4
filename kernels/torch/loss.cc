// lm_loss and lm_score: the language-model head and its cross-entropy, a few hundred rows at a
// time.
#include <ATen/ops/full.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/torch/nodes.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

namespace {

// Rows of logits alive at a time: 512 x 8192 float32 are 16 MiB. Rows are computed one by one in
// order of their own, so the cut doesn't show in any bit of the log-probabilities.
constexpr int64_t kChunkRows = 512;

/// hidden rows [begin, begin + rows) times head^T -> logits [rows, vocab] float32.
void head_logits(const at::Tensor& hidden, int64_t begin, int64_t rows, Weight& head,
                 const at::Tensor& logits) {
  linear({.x = element(hidden, begin, 0),
          .rows = rows,
          .x_stride = hidden.stride(0),
          .weight = &head.packed(),
          .y = logits.data_ptr(),
          .y_dtype = DType::kFloat32,
          .y_stride = head.n()},
         team());
}

struct LmLossNode : torch::autograd::Node {
  at::Tensor dhidden;  // [T, D], made in the forward

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    // The head's gradient was added in the forward, so another factor would come too late.
    MOLE_CHECK_EQ(grads[0].item<float>(), 1.0f);
    return {std::move(dhidden)};
  }
  void release_variables() override { dhidden.reset(); }
};

struct Chunk {
  int64_t begin, rows;
};

/// Backward of one chunk: dhidden rows and the head's gradient from dlogits [rows, vocab].
void chunk_backward(const at::Tensor& hidden, Chunk chunk, Weight& head, const at::Tensor& dlogits,
                    const at::Tensor& dhidden) {
  const DType dtype = head.compute_dtype();
  const at::Tensor dy = cast(dlogits, dtype);
  add_weight_gradient(dy, hidden.narrow(0, chunk.begin, chunk.rows), head.grad());
  linear({.x = dy.data_ptr(),
          .rows = chunk.rows,
          .x_stride = head.n(),
          .weight = &head.packed_t(),
          .y = element(dhidden, chunk.begin, 0),
          .y_dtype = dtype_of(dhidden),
          .y_stride = dhidden.stride(0)},
         team());
}

}  // namespace

LmLoss lm_loss(const at::Tensor& hidden, Weight& head, std::span<const TokenId> targets,
               const LmLossOptions& options) {
  const int64_t tokens = hidden.size(0), vocab = head.n();
  check_tensor("lm_loss hidden", hidden, {tokens, head.k()}, head.compute_dtype());
  MOLE_CHECK_EQ(static_cast<int64_t>(targets.size()), tokens);
  const at::Tensor x = hidden.detach();
  const bool record = recording(head.trainable(), hidden);
  at::Tensor dhidden;
  if (record) dhidden = empty(x.sizes(), dtype_of(x));
  const at::Tensor buffer = empty({std::min(kChunkRows, tokens), vocab}, DType::kFloat32);
  std::vector<float> log_probs(static_cast<size_t>(std::min(kChunkRows, tokens)));
  LmLoss result;
  for (int64_t begin = 0; begin < tokens; begin += kChunkRows) {
    const int64_t rows = std::min(kChunkRows, tokens - begin);
    const at::Tensor logits = buffer.narrow(0, 0, rows);
    head_logits(x, begin, rows, head, logits);
    cross_entropy({.logits = logits.data_ptr<float>(),
                   .targets = targets.data() + begin,
                   .rows = rows,
                   .vocab = vocab,
                   .log_probs = log_probs.data(),
                   .dlogits = record ? logits.data_ptr<float>() : nullptr,
                   .dloss_scale = static_cast<float>(options.token_scale)},
                  team());
    for (int64_t r = 0; r < rows; ++r) {
      result.negative_log_likelihood -= log_probs[static_cast<size_t>(r)];
      result.counted += targets[static_cast<size_t>(begin + r)] >= 0 ? 1 : 0;
    }
    if (record) chunk_backward(x, {begin, rows}, head, logits, dhidden);
  }
  result.loss = at::full({}, options.token_scale * result.negative_log_likelihood);
  if (record) {
    auto node = make_node<LmLossNode>(hidden);
    node->dhidden = dhidden;
    torch::autograd::set_history(result.loss, node);
  }
  return result;
}

void lm_score(const at::Tensor& hidden, Weight& head, std::span<const TokenId> targets,
              std::span<float> log_probs) {
  const int64_t tokens = hidden.size(0), vocab = head.n();
  check_tensor("lm_score hidden", hidden, {tokens, head.k()}, head.compute_dtype());
  MOLE_CHECK_EQ(targets.size(), log_probs.size());
  MOLE_CHECK_EQ(static_cast<int64_t>(targets.size()), tokens);
  const at::Tensor x = hidden.detach();
  const at::Tensor buffer = empty({std::min(kChunkRows, tokens), vocab}, DType::kFloat32);
  for (int64_t begin = 0; begin < tokens; begin += kChunkRows) {
    const int64_t rows = std::min(kChunkRows, tokens - begin);
    head_logits(x, begin, rows, head, buffer);
    cross_entropy({.logits = buffer.data_ptr<float>(),
                   .targets = targets.data() + begin,
                   .rows = rows,
                   .vocab = vocab,
                   .log_probs = log_probs.data() + begin},
                  team());
  }
}

}  // namespace mole::kernels
