// A model without weights for the server's tests: it keeps the token ids themselves in the KV cache
// and lets a function choose the next token from the whole context. The real engine drives it.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "model/model.h"

namespace mole::server {

/// Chooses the next token from everything before it (prompt and generated).
using ChooseToken = std::function<TokenId(const std::vector<TokenId>& context)>;

/// Any token of [first, vocab_size), the same for the same context: FNV-1a over the ids.
inline TokenId hashed_token(const std::vector<TokenId>& context, TokenId first,
                            int32_t vocab_size) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (TokenId id : context) hash = (hash ^ static_cast<uint64_t>(id)) * 0x100000001b3u;
  hash ^= hash >> 33;
  return first + static_cast<TokenId>(hash % static_cast<uint64_t>(vocab_size - first));
}

class FakeModel final : public model::Model {
 public:
  FakeModel(int32_t vocab_size, TokenId eos, int32_t context_length, ChooseToken choose)
      : choose_(std::move(choose)) {
    info_.architecture = "fake";
    info_.vocab_size = vocab_size;
    info_.num_layers = 1;
    info_.context_length = context_length;
    info_.kv_entry_elements = 1;
    info_.eos_token_ids = {eos};
  }

  const model::ModelInfo& info() const override { return info_; }

  Status forward(const model::StepInput& input, model::KvCache& cache,
                 model::StepOutput* output) override {
    const auto vocab = static_cast<size_t>(info_.vocab_size);
    logits_.assign(input.logit_rows.size() * vocab, 0.0f);
    size_t next_row = 0;
    for (size_t s = 0; s + 1 < input.sequence_starts.size(); ++s) {
      const auto table =
          input.block_tables.subspan(s * static_cast<size_t>(input.blocks_per_sequence),
                                     static_cast<size_t>(input.blocks_per_sequence));
      for (int32_t row = input.sequence_starts[s]; row < input.sequence_starts[s + 1]; ++row) {
        const auto r = static_cast<size_t>(row);
        entry(cache, table, input.positions[r]) = static_cast<float>(input.token_ids[r]);
        if (next_row < input.logit_rows.size() && input.logit_rows[next_row] == row) {
          fill_logits(cache, table, input.positions[r], logits_.data() + next_row * vocab);
          ++next_row;
        }
      }
    }
    output->logits = logits_;
    return absl::OkStatus();
  }

 private:
  static float& entry(model::KvCache& cache, std::span<const int32_t> table, int32_t position) {
    auto* data = reinterpret_cast<float*>(cache.layer(0));
    const auto block = table[static_cast<size_t>(position / model::kBlockTokens)];
    return data[int64_t{block} * model::kBlockTokens + position % model::kBlockTokens];
  }

  // The chosen token is far ahead; the others differ a little, so that every rank is defined.
  void fill_logits(model::KvCache& cache, std::span<const int32_t> table, int32_t position,
                   float* logits) const {
    std::vector<TokenId> context;
    for (int32_t p = 0; p <= position; ++p) {
      context.push_back(static_cast<TokenId>(entry(cache, table, p)));
    }
    const TokenId chosen = choose_(context);
    for (int32_t id = 0; id < info_.vocab_size; ++id) {
      logits[id] = -0.001f * static_cast<float>((id * 7919 + position) % info_.vocab_size);
    }
    logits[chosen] = 12.0f;
  }

  ChooseToken choose_;
  model::ModelInfo info_;
  std::vector<float> logits_;
};

}  // namespace mole::server
