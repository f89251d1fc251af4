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

namespace mole::kernels {
class ThreadTeam;
}

namespace mole::model {

/// MLA has two arithmetics whose roundings differ. Which one a token gets follows only from what it
/// is in its request: prompt tokens are kExpanded, generated tokens kAbsorbed, also when they are
/// recomputed after pre-emption. (Architectures with one arithmetic ignore it.)
enum class AttentionForm : uint8_t { kExpanded, kAbsorbed };

/// A wave: prompt tokens that pass the layers over several steps, some layers in each, so that a
/// long chunk costs a step no more than it has time for and its context is expanded once for all of
/// its rows. In each of these steps its sequences are the last ones, with the same tokens,
/// positions and pages, the layers go on where the last step left them (0 begins a new wave, and
/// the old one, if any, is forgotten), and only when the last layer is passed may its rows be among
/// logit_rows. Until then the entries at its positions are not to be read. The model keeps the
/// rows' hidden states from step to step; a sequence may be left out from some step on.
struct WavePass {
  int32_t num_sequences = 0;             // the last so many of the step, kExpanded; 0 = no wave
  int32_t begin_layer = 0;               // layers [begin_layer, end_layer) of
  int32_t end_layer = 0;                 // [0, num_layers)
  std::span<const int32_t> places = {};  // [num_sequences]: where the states of a sequence's rows
                                         // begin, counted in rows; they don't overlap
};

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
  WavePass wave = {};
};

struct StepOutput {
  std::span<const float> logits;  // [R, vocab_size] float32, valid until the model's next step
};

/// Whose hidden states a draft goes on from.
enum class DraftSource : uint8_t {
  kForward,  // rows of the last forward
  kDraft,    // rows of the last draft: the same module again, one token further
};

/// One pass of the multi-token-prediction module. Row t of `step` continues row `rows[t]` of the
/// call that `source` names, which stood at position p and whose own token was known; the token
/// after it is step.token_ids[t]. The module then says what follows that: its logits are of
/// position p + 2.
///
///   after forward:  positions[t] = p, the position of that row;
///   after a draft:  positions[t] = p + 1, one more than in that draft.
///
/// The module has one layer of the cache of its own and writes an entry at positions[t]; entries of
/// rejected drafts are overwritten when the true tokens come by. For a good draft every position
/// should pass through it, prompts too (rows that want no logits cost no head); a position left out
/// makes drafts worse, never anything else. Sequences, forms, block tables and logit_rows are as in
/// a forward.
struct DraftInput {
  StepInput step;                 // T rows
  std::span<const int32_t> rows;  // [T], rows of the earlier call, each in [0, its T)
  DraftSource source = DraftSource::kForward;
};  // a step of drafts has no wave; rows of a wave can be gone on from in the step that ends it

struct ModelInfo {
  std::string architecture;  // "deepseek_v3", …
  int32_t vocab_size = 0;
  int32_t num_layers = 0;
  int32_t num_mtp_layers = 0;  // multi-token-prediction modules that were loaded: 0 or 1
  int32_t cache_layers() const { return num_layers + num_mtp_layers; }  // KvCacheShape::num_layers
  int32_t context_length = 0;                                           // max_position_embeddings
  int32_t kv_entry_elements = 0;                                        // per token and layer
  int32_t kv_rope_elements = 0;       // of these the last, which every cache format keeps exact
  bool kv_compressible = false;       // forward takes a cache in int8 and fp8 form
  std::string quantization = "none";  // format of the weights, of most of them
  DType dtype = DType::kFloat32;      // of weights, activations and a cache in the model's own form
  int64_t weight_bytes = 0;           // resident, after packing
  int64_t num_parameters = 0;
  int64_t num_active_parameters = 0;  // per token
  int32_t num_experts = 0;            // routed experts per MoE layer, 0 if dense
  int32_t num_experts_per_token = 0;  // of them, 0 if dense
  int32_t num_moe_layers = 0;
  std::string fingerprint;  // of the weights and their form, if LoadOptions asked for it
  std::vector<TokenId> eos_token_ids;
  TokenId bos_token_id = -1;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo& info() const = 0;

  /// Computes one step: writes the new tokens' entries to `cache`, attends, and fills `output`.
  /// Promise: row bits depend only on the row's own sequence (ids, positions, forms), never on the
  /// other sequences, on how the prompt was cut in chunks or waves, or on the number of threads.
  /// Thread: one caller at a time. Errors: kInternal.
  virtual Status forward(const StepInput& input, KvCache& cache, StepOutput* output) = 0;

  /// Drafts with the multi-token-prediction module (DeepSeek-V3, arXiv 2412.19437, section 2.2).
  /// Never changes what forward computes: it reads hidden states that the model keeps of its last
  /// forward (or draft) and writes only the cache's last layer. `output` as forward's; a draft's
  /// logits are valid until the next forward or draft.
  /// Thread: forward's. Errors: kUnimplemented without the module (ModelInfo::num_mtp_layers == 0),
  /// kInternal.
  virtual Status draft(const DraftInput& /*input*/, KvCache& /*cache*/, StepOutput* /*output*/) {
    return absl::UnimplementedError("this model has no multi-token-prediction module");
  }

  /// The workers that compute forward, for whoever has work for them between two calls; null if
  /// there are none.
  virtual kernels::ThreadTeam* workers() { return nullptr; }

  /// Tokens routed to each expert since the last call, [num_moe_layers * num_experts]; then zeroed.
  virtual std::vector<int64_t> take_expert_loads() { return {}; }
};

}  // namespace mole::model
