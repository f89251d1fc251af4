// A model without weights whose next token depends on everything that a real one's would: the
// tokens before it, their positions, the attention form each was computed in, and what really lies
// in the cache memory that the block table leads to. A wrong block, a stale block or a wrong form
// gives other tokens. Costs a few nanoseconds per token and context entry.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace mole::sim {

inline uint64_t fake_mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0xD6E8FEB86659FD93u;
  return hash ^ (hash >> 32);
}

/// What the fake writes for one token: a stamp that covers the whole prefix.
inline uint64_t fake_stamp(uint64_t previous, TokenId token, int32_t position,
                           model::AttentionForm form) {
  const uint64_t key =
      (static_cast<uint64_t>(static_cast<uint32_t>(token)) << 1) | static_cast<uint64_t>(form);
  return fake_mix(fake_mix(previous, key), static_cast<uint64_t>(position) + 1);
}

/// The context of a row folds the stamps of all positions up to its own.
inline uint64_t fake_fold(uint64_t context, uint64_t stamp) { return fake_mix(context, stamp); }

/// Logits in [-8, 8) that follow from the context alone.
inline void fake_logits(uint64_t context, float* logits, int32_t vocab_size) {
  for (int32_t id = 0; id < vocab_size; ++id) {
    const uint64_t bits = fake_mix(context, static_cast<uint64_t>(id) + 0x9E37u);
    logits[id] = static_cast<float>(static_cast<double>(bits >> 40) * 0x1p-20 - 8.0);
  }
}

/// A text with habits: after `last` comes mostly one certain token, so that what stood before
/// stands again.
inline void add_habit(TokenId last, float strength, float* logits, int32_t vocab_size) {
  logits[(last * 7 + 3) % vocab_size] += strength;
}

struct FakeModelOptions {
  int32_t num_layers = 1;  // all with the same entries
  int32_t vocab_size = 97;
  int32_t context_length = 512;
  std::vector<TokenId> eos_token_ids = {1};
  int64_t fail_at_step = -1;                      // forward() gives kInternal from this call on
  TokenId nan_token = -1;                         // rows of this token give NaN logits
  std::function<void(int64_t step)> before_step;  // for tests that hold the engine at a step
  std::function<void(const model::StepInput& input)> on_forward;  // for tests that let time pass
  float habit = 0;                                                // strength of add_habit
  std::string fingerprint = "fake";
  bool mtp = false;  // has a multi-token-prediction module, which is right three times in four
};

class FakeModel final : public model::Model {
 public:
  explicit FakeModel(const FakeModelOptions& options) : options_(options) {
    info_.architecture = "fake";
    info_.fingerprint = options.fingerprint;
    info_.vocab_size = options.vocab_size;
    info_.num_layers = options.num_layers;
    info_.num_mtp_layers = options.mtp ? 1 : 0;
    info_.context_length = options.context_length;
    info_.kv_entry_elements = 2;  // one stamp of 64 bits
    info_.eos_token_ids = options.eos_token_ids;
    info_.num_experts = 2;
    info_.num_moe_layers = 1;
  }

  const model::ModelInfo& info() const override { return info_; }

  Status forward(const model::StepInput& input, model::KvCache& cache,
                 model::StepOutput* output) override {
    if (options_.before_step) options_.before_step(num_steps_);
    if (options_.fail_at_step >= 0 && num_steps_ >= options_.fail_at_step) {
      return absl::InternalError("injected failure of the fake model");
    }
    ++num_steps_;
    num_tokens_ = static_cast<int64_t>(input.token_ids.size());
    logits_.resize(input.logit_rows.size() * static_cast<size_t>(info_.vocab_size));
    written_.clear();
    next_logit_row_ = 0;
    size_t passing = input.sequence_starts.size() - 1;  // sequences that pass the last layer
    if (input.wave.num_sequences > 0 && !run_wave(input)) {
      passing -= static_cast<size_t>(input.wave.num_sequences);
    }
    for (size_t s = 0; s < passing; ++s) run_sequence(input, s, cache);
    if (next_logit_row_ != input.logit_rows.size()) complain("logit rows out of order");
    output->logits = logits_;
    last_rows_.clear();
    for (size_t row = 0; row < static_cast<size_t>(input.sequence_starts[passing]); ++row) {
      last_rows_.push_back({input.positions[row], 0, 0, false});
    }
    if (options_.on_forward) options_.on_forward(input);
    return violation_.empty() ? absl::OkStatus() : absl::InternalError(violation_);
  }

  Status draft(const model::DraftInput& input, model::KvCache& cache,
               model::StepOutput* output) override {
    if (!options_.mtp) return absl::UnimplementedError("no module");
    const bool chained = input.source == model::DraftSource::kDraft;
    std::vector<DraftRow> rows;
    draft_logits_.clear();
    size_t next_logits = 0;
    written_.clear();
    for (size_t s = 0; s + 1 < input.step.sequence_starts.size(); ++s) {
      for (int32_t t = input.step.sequence_starts[s]; t < input.step.sequence_starts[s + 1]; ++t) {
        const auto at = static_cast<size_t>(t), source = static_cast<size_t>(input.rows[at]);
        if (source >= last_rows_.size()) return absl::InternalError("a row of no earlier call");
        DraftRow row = last_rows_[source];
        if (input.step.positions[at] != row.position + (chained ? 1 : 0)) {
          complain("a draft at another position than its row's");
        }
        row.position = input.step.positions[at];
        const bool wanted =
            next_logits < input.step.logit_rows.size() && input.step.logit_rows[next_logits] == t;
        go_on_from(input.step, s, at, cache, &row);
        if (wanted) add_draft_logits(row, input.step.token_ids[at]), ++next_logits;
        rows.push_back(row);
      }
    }
    if (next_logits != input.step.logit_rows.size()) complain("draft rows out of order");
    last_rows_ = std::move(rows);
    output->logits = draft_logits_;
    return violation_.empty() ? absl::OkStatus() : absl::InternalError(violation_);
  }

  std::vector<int64_t> take_expert_loads() override { return {num_tokens_, 0}; }

  int64_t num_steps() const { return num_steps_; }
  int64_t last_step_tokens() const { return num_tokens_; }
  const std::string& violation() const { return violation_; }

 private:
  // What a pass of the module goes on from: the stamps of the row's sequence so far. Of a forward's
  // row they are looked up when they are needed.
  struct DraftRow {
    int32_t position = 0;
    uint64_t stamp = 0, context = 0;
    bool known = false;
  };

  // Takes in the row's token, which stands behind its position, and writes the module's entry.
  void go_on_from(const model::StepInput& step, size_t s, size_t at, model::KvCache& cache,
                  DraftRow* row) {
    if (!row->known) {
      row->context = 0;
      for (int32_t p = 0; p <= row->position; ++p) {
        std::memcpy(&row->stamp, slot(step, s, p, cache), sizeof(row->stamp));
        row->context = fake_fold(row->context, row->stamp);
      }
      row->known = true;
    }
    const int32_t next = row->position + 1;
    row->stamp = fake_stamp(row->stamp, step.token_ids[at], next, step.forms[s]);
    row->context = fake_fold(row->context, row->stamp);
    std::byte* const to = slot(step, s, row->position, cache);
    if (!written_.insert(to).second) complain("two rows of a draft write the same slot");
    std::memcpy(cache.layer(info_.num_layers) + (to - cache.layer(0)), &row->stamp,
                sizeof(row->stamp));
  }

  void add_draft_logits(const DraftRow& row, TokenId token) {
    const auto vocab = static_cast<size_t>(info_.vocab_size);
    draft_logits_.resize(draft_logits_.size() + vocab);
    float* const logits = draft_logits_.data() + draft_logits_.size() - vocab;
    const uint64_t wrong = row.context % 4 == 0 ? 1 : 0;
    fake_logits(row.context + wrong, logits, info_.vocab_size);
    add_habit(token, options_.habit, logits, info_.vocab_size);
  }

  void complain(const std::string& what) {
    if (violation_.empty()) violation_ = "fake model: " + what;
  }

  std::byte* slot(const model::StepInput& input, size_t sequence, int32_t position,
                  model::KvCache& cache) {
    const int32_t entry = position / model::kBlockTokens;
    int32_t block = -1;
    if (entry < input.blocks_per_sequence) {
      block = input.block_tables[sequence * static_cast<size_t>(input.blocks_per_sequence) +
                                 static_cast<size_t>(entry)];
    }
    if (block < 0 || block >= cache.shape().num_blocks) {
      complain("no block for position " + std::to_string(position));
      block = 0;
    }
    const int64_t offset = int64_t{block} * model::kBlockTokens + position % model::kBlockTokens;
    return cache.layer(0) + offset * static_cast<int64_t>(sizeof(uint64_t));
  }

  // Rows of a wave carry their token, position and page from layer to layer. True if they have
  // passed the last one.
  bool run_wave(const model::StepInput& input) {
    const model::WavePass& wave = input.wave;
    const size_t sequences = input.forms.size();
    const size_t first = sequences - static_cast<size_t>(wave.num_sequences);
    if (wave.places.size() != static_cast<size_t>(wave.num_sequences)) complain("places of a wave");
    if (wave.begin_layer != (wave.begin_layer == 0 ? 0 : wave_layer_) ||
        wave.end_layer <= wave.begin_layer || wave.end_layer > info_.num_layers) {
      complain("a wave's layers");
    }
    if (wave.begin_layer == 0) wave_rows_.clear();
    std::set<int32_t> places;
    for (size_t s = first; s < sequences; ++s) {
      if (input.forms[s] != model::AttentionForm::kExpanded) complain("a wave is not of prompts");
      for (int32_t row = input.sequence_starts[s]; row < input.sequence_starts[s + 1]; ++row) {
        const int32_t place = wave.places[s - first] + row - input.sequence_starts[s];
        if (!places.insert(place).second) complain("two rows of a wave in one place");
        const auto at = static_cast<size_t>(row);
        const int32_t page = input.positions[at] / model::kBlockTokens;
        const bool known = page < input.blocks_per_sequence;
        if (!known) complain("no page for a row of a wave");
        const WaveRow now = {
            input.token_ids[at], input.positions[at],
            !known ? -1
                   : input.block_tables[s * static_cast<size_t>(input.blocks_per_sequence) +
                                        static_cast<size_t>(page)]};
        if (wave.begin_layer == 0) wave_rows_[place] = now;
        if (wave_rows_.count(place) == 0 || wave_rows_[place] != now) {
          complain("a row of a wave is another in the next layer");
        }
      }
    }
    wave_layer_ = wave.end_layer;
    return wave.end_layer == info_.num_layers;
  }

  void run_sequence(const model::StepInput& input, size_t s, model::KvCache& cache) {
    const int32_t begin = input.sequence_starts[s], end = input.sequence_starts[s + 1];
    for (int32_t row = begin; row < end; ++row) {
      const auto at = static_cast<size_t>(row);
      const TokenId token = input.token_ids[at];
      const int32_t position = input.positions[at];
      if (token < 0 || token >= info_.vocab_size) complain("token outside the vocabulary");
      if (row > begin && position != input.positions[at - 1] + 1) complain("positions with a gap");
      uint64_t previous = 0;
      if (position > 0) {
        std::memcpy(&previous, slot(input, s, position - 1, cache), sizeof(previous));
      }
      const uint64_t stamp = fake_stamp(previous, token, position, input.forms[s]);
      std::byte* const to = slot(input, s, position, cache);
      if (!written_.insert(to).second) complain("two rows of a step write the same slot");
      for (int32_t layer = 0; layer < info_.num_layers; ++layer) {
        std::memcpy(cache.layer(layer) + (to - cache.layer(0)), &stamp, sizeof(stamp));
      }
      if (next_logit_row_ < input.logit_rows.size() && input.logit_rows[next_logit_row_] == row) {
        write_logits(input, s, position, token, cache);
      }
    }
  }

  void write_logits(const model::StepInput& input, size_t s, int32_t position, TokenId token,
                    model::KvCache& cache) {
    uint64_t context = 0;
    for (int32_t p = 0; p <= position; ++p) {
      uint64_t stamp = 0;
      std::memcpy(&stamp, slot(input, s, p, cache), sizeof(stamp));
      context = fake_fold(context, stamp);
    }
    float* const row = logits_.data() + next_logit_row_ * static_cast<size_t>(info_.vocab_size);
    fake_logits(context, row, info_.vocab_size);
    add_habit(token, options_.habit, row, info_.vocab_size);
    if (token == options_.nan_token) row[0] = std::numeric_limits<float>::quiet_NaN();
    ++next_logit_row_;
  }

  const FakeModelOptions options_;
  model::ModelInfo info_;
  std::vector<float> logits_, draft_logits_;
  using WaveRow = std::array<int32_t, 3>;  // token, position, block
  std::map<int32_t, WaveRow> wave_rows_;   // by place
  int32_t wave_layer_ = 0;                 // layers that they have passed
  std::vector<DraftRow> last_rows_;        // of the last forward or draft
  std::set<const std::byte*> written_;     // slots of this step
  size_t next_logit_row_ = 0;
  int64_t num_steps_ = 0;
  int64_t num_tokens_ = 0;  // of the last step
  std::string violation_;
};

}  // namespace mole::sim
