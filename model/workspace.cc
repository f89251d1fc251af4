#include "model/workspace.h"

#include <algorithm>

namespace mole::model {

namespace {

int64_t integer(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() || !found->is_number_integer() ? 0 : found->get<int64_t>();
}

}  // namespace

WorkspaceShape workspace_of(const Json& config, const ModelInfo& info) {
  const int64_t element = dtype_bytes(info.dtype), hidden = integer(config, "hidden_size");
  const int64_t heads = integer(config, "num_attention_heads");
  const int64_t nope = integer(config, "qk_nope_head_dim"),
                rope = integer(config, "qk_rope_head_dim");
  const int64_t value = integer(config, "v_head_dim"), latent = integer(config, "kv_lora_rank");
  int64_t width = integer(config, "moe_intermediate_size");
  if (width == 0) width = integer(config, "intermediate_size");
  const int64_t key = latent > 0 ? nope + rope : std::max(integer(config, "head_dim"), int64_t{1});
  WorkspaceShape shape;
  // The residual stream, its norm and what a layer's half adds to it; queries, the cache's entry
  // and what attention gives; the experts' inner rows of the tokens' choices; router scores.
  const int64_t attention = heads * (key + (latent > 0 ? value : key)) + info.kv_entry_elements;
  const int64_t experts = int64_t{info.num_experts_per_token} * (width + hidden);
  shape.token_bytes = element * (4 * hidden + std::max(attention, experts)) + 4 * info.num_experts;
  if (latent > 0) shape.context_bytes = element * (latent + heads * (nope + value));
  shape.logits_bytes = int64_t{4} * info.vocab_size + element * 2 * hidden;
  return shape;
}

}  // namespace mole::model
