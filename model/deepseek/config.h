// config.json of the DeepSeek-V2 and V3 families, checked once. Names are Hugging Face's.
#pragma once

#include <string>

#include "base/json.h"
#include "base/status.h"
#include "kernels/router/router.h"
#include "model/layers/rope_config.h"
#include "model/model.h"

namespace mole::model::deepseek {

struct Config {
  ModelInfo info;
  int32_t hidden_size = 0, intermediate_size = 0, num_attention_heads = 0;
  int32_t q_lora_rank = 0;  // 0 = null
  int32_t kv_lora_rank = 0, qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  int32_t n_routed_experts = 0;  // 0 = null: every layer is dense
  int32_t n_shared_experts = 0, moe_intermediate_size = 0;
  int32_t first_k_dense_replace = 0, moe_layer_freq = 1;
  int32_t num_nextn_predict_layers = 0;  // multi-token-prediction modules in the checkpoint
  bool correction_bias = false;          // topk_method noaux_tc
  kernels::RouterConfig router;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool rope_interleave = true;
  RopeConfig rope;

  bool is_moe(int32_t layer) const {
    return n_routed_experts > 0 && layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
};

/// `v3`: model_type deepseek_v3. Errors: kInvalidArgument with every problem.
StatusOr<Config> read_config(const Json& json, bool v3);

}  // namespace mole::model::deepseek
