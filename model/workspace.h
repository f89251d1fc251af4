// Memory of a step's intermediate values, added up before a model is loaded. It is taken once, for
// the largest step, and used again by all later ones.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "model/model.h"

namespace mole::model {

/// Contexts of prompts are expanded together until they have this many rows, so that the memory for
/// keys and values of a step with many prompts stays that of a few thousand tokens, or of one long
/// prompt.
inline constexpr int64_t kExpandedRows = 4096;

/// The largest step.
struct StepSize {
  int64_t tokens = 0;     // max_num_batched_tokens
  int64_t context = 0;    // max_model_len
  int64_t sequences = 0;  // max_num_seqs
};

/// Sizes of one row of what a layer makes, in numbers.
struct WorkspaceShape {
  int64_t element = 4;  // bytes of an activation
  int64_t hidden = 0, vocab = 0;
  int64_t query_rank = 0;  // q_lora_rank; 0 = none
  int64_t query = 0, entry = 0, attended = 0;
  int64_t latent = 0, expanded = 0;  // of a context's row in expanded form; 0 = no such form
  int64_t absorbed_query = 0, absorbed_out = 0;
  int64_t dense_width = 0;  // feed-forward without routing; 0 = in no layer
  int64_t experts = 0, top_k = 0, expert_width = 0, shared_width = 0;
  int64_t wave_bytes = 0;  // not numbers: of a prompt's row that waits between two steps

  /// What the steps' tensors and the experts' working memory take, replayed with the rules of
  /// kernels/torch/tensor_pool.h. Left out: the threads' scratch memory, some MiB each.
  int64_t bytes(const StepSize& step) const;
};

/// From a config.json that was checked, and what was read from it.
WorkspaceShape workspace_of(const Json& config, const ModelInfo& info);

}  // namespace mole::model
