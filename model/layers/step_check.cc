#include "model/layers/step_check.h"

#include <algorithm>
#include <string>

#include "kernels/torch/tensors.h"

namespace mole::model {

Status refuse_step(const std::string& what) { return absl::InternalError("model step: " + what); }

namespace {

Status refuse(const std::string& what) { return refuse_step(what); }

Status check_cache(const ModelInfo& info, const KvCacheShape& shape) {
  if (shape.num_layers != info.cache_layers() || shape.entry_elements != info.kv_entry_elements ||
      shape.dtype != info.dtype) {
    return refuse("the cache's shape is not the model's");
  }
  if (shape.format == kernels::KvFormat::kModel) return absl::OkStatus();
  if (!info.kv_compressible || shape.rope_elements != info.kv_rope_elements) {
    return refuse("a cache in " + std::string(kernels::kv_format_name(shape.format)) +
                  " form is for latent attention only");
  }
  return absl::OkStatus();
}

/// Ids, positions and the flat layout; pages are checked sequence by sequence.
Status check_rows(const StepInput& input, const ModelInfo& info) {
  const size_t tokens = input.token_ids.size(), sequences = input.forms.size();
  if (input.positions.size() != tokens) return refuse("positions and token_ids differ in length");
  if (input.sequence_starts.size() != sequences + 1 || input.sequence_starts.front() != 0 ||
      input.sequence_starts.back() != static_cast<int32_t>(tokens)) {
    return refuse("sequence_starts don't cover the rows");
  }
  if (input.block_tables.size() != sequences * static_cast<size_t>(input.blocks_per_sequence)) {
    return refuse("block_tables have not one row a sequence");
  }
  for (const TokenId id : input.token_ids) {
    if (id < 0 || id >= info.vocab_size) {
      return refuse("token id " + std::to_string(id) + " is outside [0, vocab_size)");
    }
  }
  int32_t previous = -1;
  for (const int32_t row : input.logit_rows) {
    if (row <= previous || row >= static_cast<int32_t>(tokens)) {
      return refuse("logit_rows are not ascending rows of the step");
    }
    previous = row;
  }
  return absl::OkStatus();
}

Status check_segment(const StepInput& input, const Segment& segment, const ModelInfo& info,
                     int64_t num_blocks) {
  for (int32_t i = 0; i < segment.num_rows; ++i) {
    if (input.positions[static_cast<size_t>(segment.first_row + i)] != segment.first_position + i) {
      return refuse("a sequence's positions are not consecutive");
    }
  }
  if (segment.first_position < 0 || segment.context() > info.context_length) {
    return refuse("a position is outside [0, max_position_embeddings)");
  }
  const int32_t pages = (segment.context() + kBlockTokens - 1) / kBlockTokens;
  if (pages > input.blocks_per_sequence) return refuse("a block table is too short");
  for (int32_t i = 0; i < pages; ++i) {
    const int32_t block = segment.blocks[static_cast<size_t>(i)];
    if (block < 0 || block >= num_blocks) return refuse("a block is outside the cache");
  }
  return absl::OkStatus();
}

}  // namespace

StepInput without_wave(const StepInput& input) {
  const size_t sequences = input.forms.size() - static_cast<size_t>(input.wave.num_sequences);
  const auto rows = static_cast<size_t>(input.sequence_starts[sequences]);
  return {.token_ids = input.token_ids.first(rows),
          .positions = input.positions.first(rows),
          .sequence_starts = input.sequence_starts.first(sequences + 1),
          .forms = input.forms.first(sequences),
          .block_tables =
              input.block_tables.first(sequences * static_cast<size_t>(input.blocks_per_sequence)),
          .blocks_per_sequence = input.blocks_per_sequence,
          .logit_rows = {}};
}

Status check_wave(const StepInput& input, const ModelInfo& info) {
  const WavePass& wave = input.wave;
  const size_t sequences = input.forms.size();
  if (wave.num_sequences < 0 || static_cast<size_t>(wave.num_sequences) > sequences ||
      wave.places.size() != static_cast<size_t>(wave.num_sequences)) {
    return refuse("a wave has not one place a sequence");
  }
  if (wave.begin_layer < 0 || wave.begin_layer >= wave.end_layer ||
      wave.end_layer > info.num_layers) {
    return refuse("a wave's layers are not of the model");
  }
  const size_t first = sequences - wave.places.size();
  for (size_t s = first; s < sequences; ++s) {
    if (input.forms[s] != AttentionForm::kExpanded) return refuse("a wave is not of prompts");
    if (wave.places[s - first] < 0) return refuse("a place of a wave is negative");
  }
  if (wave.end_layer < info.num_layers && !input.logit_rows.empty() &&
      input.logit_rows.back() >= input.sequence_starts[first]) {
    return refuse("logits of a wave that is not at its end");
  }
  return absl::OkStatus();
}

Status fill_context(const StepInput& input, const ModelInfo& info, KvCache& cache,
                    StepContext* step) {
  MOLE_RETURN_IF_ERROR(check_cache(info, cache.shape()));
  MOLE_RETURN_IF_ERROR(check_rows(input, info));
  step->clear();
  step->cache = &cache;
  const size_t per_sequence = static_cast<size_t>(input.blocks_per_sequence);
  for (size_t s = 0; s < input.forms.size(); ++s) {
    const int32_t first = input.sequence_starts[s], rows = input.sequence_starts[s + 1] - first;
    if (rows < 0) return refuse("sequence_starts descend");
    if (rows == 0) continue;
    const Segment segment{.first_row = first,
                          .num_rows = rows,
                          .first_position = input.positions[static_cast<size_t>(first)],
                          .form = input.forms[s],
                          .blocks = input.block_tables.subspan(s * per_sequence, per_sequence)};
    MOLE_RETURN_IF_ERROR(check_segment(input, segment, info, cache.shape().num_blocks));
    step->add(segment);
  }
  step->positions = kernels::empty_int32({static_cast<int64_t>(input.positions.size())});
  std::copy(input.positions.begin(), input.positions.end(), step->positions.data_ptr<int32_t>());
  return absl::OkStatus();
}

}  // namespace mole::model
