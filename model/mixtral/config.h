// config.json of the Mixtral family, checked once. Names are Hugging Face's.
#pragma once

#include "base/json.h"
#include "base/status.h"
#include "model/layers/rope_config.h"
#include "model/model.h"

namespace mole::model::mixtral {

struct Config {
  ModelInfo info;
  int32_t hidden_size = 0, intermediate_size = 0;
  int32_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  int32_t num_local_experts = 0, num_experts_per_tok = 0;
  double rms_norm_eps = 1e-5;
  bool tie_word_embeddings = false;
  RopeConfig rope;
};

/// Errors: kInvalidArgument with every problem.
StatusOr<Config> read_config(const Json& json);

}  // namespace mole::model::mixtral
