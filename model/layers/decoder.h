// The stack that every architecture here shares: embedding, layers of
//   x += attention(norm(x));  x += feed_forward(norm(x))
// a final norm and the language-model head. An architecture chooses what stands in a layer.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/layers/attention_layer.h"
#include "model/layers/feed_forward.h"
#include "model/layers/parameters.h"
#include "model/model.h"

namespace mole::model {

struct DecoderLayer {
  std::unique_ptr<kernels::Weight> input_norm, post_attention_norm;
  std::unique_ptr<AttentionLayer> attention;
  std::unique_ptr<FeedForward> feed_forward;
};

/// Multi-token prediction (DeepSeek-V3, arXiv 2412.19437, section 2.2): one more layer that says
/// what follows the next token, from the hidden state before it and the next token itself.
///   state' = head_norm(layer(projection [embedding_norm(embedding(id)) | hidden_norm(state)]))
/// Embedding and head are the model's own. `state` is the main model's after its final norm, or
/// state' of the module's own last pass. The paper doesn't say whether it is normalised; that it is
/// follows vLLM and SGLang.
struct MtpModule {
  std::unique_ptr<kernels::Weight> embedding_norm, hidden_norm, projection, head_norm;
  DecoderLayer layer;
};

struct DecoderConfig {
  int64_t hidden_size = 0, vocab_size = 0;
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = false;
};

class Decoder {
 public:
  /// Reads embedding, final norm and head under their usual names; layers come by add_layer.
  Decoder(const DecoderConfig& config, ModelInfo info, ParameterFactory& parameters);

  void add_layer(DecoderLayer layer);
  /// After the last layer and parameter: fills in what info says about sizes.
  /// `inactive_parameters`: of experts that a token doesn't go to.
  void finish(const ParameterFactory& parameters, int64_t inactive_parameters);

  /// After finish. The module's layer comes after the others in the cache.
  void set_mtp(MtpModule module);

  const ModelInfo& info() const { return info_; }
  ModelInfo& mutable_info() { return info_; }  // while loading
  float eps() const { return config_.rms_norm_eps; }
  int64_t hidden_size() const { return config_.hidden_size; }

  /// ids [T] -> hidden states [T, D] after the last layer, before the final norm.
  at::Tensor hidden(std::span<const TokenId> ids, StepContext& step);
  /// ids [T] -> [T, D], what the first layer takes.
  at::Tensor embed(std::span<const TokenId> ids);
  /// Hidden states x [T, D] through layers [begin, end), with the same bits wherever they are cut.
  void run_layers(int32_t begin, int32_t end, at::Tensor& x, StepContext& step);
  /// Reports no tokens to the experts of these layers, where run_layers would report some.
  void pass_over(int32_t begin, int32_t end, StepContext& step) const;
  /// The final norm of rows [R, D]; what the head is multiplied with.
  at::Tensor normalize(const at::Tensor& hidden);
  /// One pass of the multi-token-prediction module: ids [T] follow the rows of state [T, D] ->
  /// state' [T, D], which the head is multiplied with. `step`: where those rows stand.
  at::Tensor draft(std::span<const TokenId> ids, const at::Tensor& state, StepContext& step);
  kernels::Weight& head() { return head_ != nullptr ? *head_ : *embedding_; }

 private:
  /// One layer on x, which takes in `before` (if any) first; what it adds in the end is returned,
  /// so that the sum and the next norm are one pass.
  kernels::Delta run_layer(DecoderLayer& layer, const kernels::Delta& before, at::Tensor& x,
                           StepContext& step, int32_t index);

  DecoderConfig config_;
  ModelInfo info_;
  std::unique_ptr<kernels::Weight> embedding_, final_norm_, head_;
  std::vector<DecoderLayer> layers_;
  std::optional<MtpModule> mtp_;
};

}  // namespace mole::model
