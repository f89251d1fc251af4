// The torch-free face of a model: one step of many sequences in, logits out. This is all that the
// runtime knows about models.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/status.h"
#include "model/kv_cache.h"

namespace mole::model {

/// MLA has two arithmetics whose roundings differ. Which one a token gets follows only from what it
/// is in its request: prompt tokens are kExpanded, generated tokens kAbsorbed, also when they are
/// recomputed after pre-emption. (Architectures with one arithmetic ignore it.)
enum class AttentionForm : uint8_t { kExpanded, kAbsorbed };

/// One step's tokens, flat. T tokens of S sequences; a sequence's tokens are consecutive positions.
/// A sequence never mixes forms in one step.
struct StepInput {
  std::span<const TokenId> token_ids;  // [T], each in [0, vocab_size)
  std::span<const int32_t> positions;  // [T], position in its sequence, from 0
  std::span<const int32_t>
      sequence_starts;                    // [S+1], rows of sequence s are [starts[s], starts[s+1])
  std::span<const AttentionForm> forms;   // [S]
  std::span<const int32_t> block_tables;  // [S, blocks_per_sequence], block of position p is
                                          // entry p / kBlockTokens; unused entries are -1
  int32_t blocks_per_sequence = 0;
  std::span<const int32_t> logit_rows;  // [R], ascending rows of [0, T) whose logits are wanted
};

struct StepOutput {
  std::span<const float> logits;  // [R, vocab_size] float32, valid until the model's next step
};

struct ModelInfo {
  std::string architecture;  // "deepseek_v3", …
  int32_t vocab_size = 0;
  int32_t num_layers = 0;
  int32_t context_length = 0;     // max_position_embeddings
  int32_t kv_entry_elements = 0;  // per token and layer
  DType dtype = DType::kFloat32;  // of weights, activations and cache
  int64_t weight_bytes = 0;       // resident, after packing
  int64_t num_parameters = 0;
  int64_t num_active_parameters = 0;  // per token
  int32_t num_experts = 0;            // routed experts per MoE layer, 0 if dense
  int32_t num_moe_layers = 0;
  std::vector<TokenId> eos_token_ids;
  TokenId bos_token_id = -1;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo& info() const = 0;

  /// Computes one step: writes the new tokens' entries to `cache`, attends, and fills `output`.
  /// Promise: row bits depend only on the row's own sequence (ids, positions, forms), never on the
  /// other sequences, on how the prompt was cut in chunks, or on the number of threads.
  /// Thread: one caller at a time. Errors: kInternal.
  virtual Status forward(const StepInput& input, KvCache& cache, StepOutput* output) = 0;

  /// Tokens routed to each expert since the last call, [num_moe_layers * num_experts]; then zeroed.
  virtual std::vector<int64_t> take_expert_loads() { return {}; }
};

}  // namespace mole::model
