#include "tests/model/step_driver.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/torch/team.h"

namespace mole::model::testing {

StepDriver::StepDriver(Model* model, int64_t num_blocks, uint64_t seed, kernels::KvFormat format)
    : model_(model),
      cache_({.num_layers = model->info().cache_layers(),
              .num_blocks = num_blocks,
              .entry_elements = model->info().kv_entry_elements,
              .dtype = model->info().dtype,
              .format = format,
              .rope_elements = model->info().kv_rope_elements}),
      free_(static_cast<size_t>(num_blocks)) {
  std::iota(free_.begin(), free_.end(), 0);
  std::mt19937_64 random(seed);
  std::shuffle(free_.begin(), free_.end(), random);
  std::memset(cache_.layer(0), 0xff, static_cast<size_t>(cache_.shape().total_bytes()));
}

struct StepDriver::Flat {
  std::vector<TokenId> ids;
  std::vector<int32_t> positions, starts{0}, rows, counts;
  std::vector<AttentionForm> forms;
  std::vector<DrivenSequence*> sequences;
  std::vector<bool> with_logits;

  int32_t blocks_per_sequence() const {
    size_t most = 1;
    for (const DrivenSequence* sequence : sequences) most = std::max(most, sequence->blocks.size());
    return static_cast<int32_t>(most);
  }
  std::vector<int32_t> tables() const {
    std::vector<int32_t> all;
    for (const DrivenSequence* sequence : sequences) {
      all.insert(all.end(), sequence->blocks.begin(), sequence->blocks.end());
      all.resize(all.size() + static_cast<size_t>(blocks_per_sequence()) - sequence->blocks.size(),
                 -1);
    }
    return all;
  }
};

void StepDriver::add(DrivenSequence* sequence, int32_t count, bool with_logits, Flat* flat) {
  const bool prompt = sequence->done < sequence->prompt;
  count = std::min(count, sequence->left());
  if (prompt) count = std::min(count, sequence->prompt - sequence->done);
  flat->sequences.push_back(sequence);
  flat->forms.push_back(prompt ? AttentionForm::kExpanded : AttentionForm::kAbsorbed);
  for (int32_t i = 0; i < count; ++i) {
    if (with_logits) flat->rows.push_back(static_cast<int32_t>(flat->ids.size()));
    flat->ids.push_back(sequence->ids[static_cast<size_t>(sequence->done + i)]);
    flat->positions.push_back(sequence->done + i);
  }
  flat->starts.push_back(static_cast<int32_t>(flat->ids.size()));
  flat->counts.push_back(count);
  flat->with_logits.push_back(with_logits);
  while (static_cast<int32_t>(sequence->blocks.size()) * kBlockTokens < sequence->done + count) {
    MOLE_CHECK(!free_.empty());
    sequence->blocks.push_back(free_.back());
    free_.pop_back();
  }
}

bool StepDriver::step(const std::vector<std::pair<DrivenSequence*, int32_t>>& parts,
                      DrivenWave* wave, int32_t layers) {
  Flat flat;
  for (const auto& [sequence, wanted] : parts) add(sequence, wanted, true, &flat);
  WavePass pass;
  if (wave != nullptr) {
    const int32_t end = std::min(wave->next_layer + layers, model_->info().num_layers);
    pass = {static_cast<int32_t>(wave->parts.size()), wave->next_layer, end, wave->places};
    wave->next_layer = end;
    const bool last = end == model_->info().num_layers;
    for (const auto& [sequence, wanted] : wave->parts) add(sequence, wanted, last, &flat);
  }
  const std::vector<int32_t> tables = flat.tables();
  StepOutput output;
  const Status status = model_->forward({.token_ids = flat.ids,
                                         .positions = flat.positions,
                                         .sequence_starts = flat.starts,
                                         .forms = flat.forms,
                                         .block_tables = tables,
                                         .blocks_per_sequence = flat.blocks_per_sequence(),
                                         .logit_rows = flat.rows,
                                         .wave = pass},
                                        cache_, &output);
  error = std::string(status.message());
  if (!status.ok()) return false;
  const auto vocab = static_cast<std::ptrdiff_t>(model_->info().vocab_size);
  auto row = output.logits.begin();
  for (size_t i = 0; i < flat.sequences.size(); ++i) {
    if (!flat.with_logits[i]) continue;
    for (int32_t j = 0; j < flat.counts[i]; ++j, row += vocab) {
      flat.sequences[i]->logits.emplace_back(row, row + vocab);
    }
    flat.sequences[i]->done += flat.counts[i];
  }
  return true;
}

bool StepDriver::run(DrivenSequence* sequence) {
  while (sequence->left() > 0) {
    const int32_t count = sequence->done < sequence->prompt ? sequence->prompt : 1;
    if (!step({{sequence, count}})) return false;
  }
  return true;
}

void StepDriver::preempt(DrivenSequence* sequence) {
  free_.insert(free_.begin(), sequence->blocks.begin(), sequence->blocks.end());
  sequence->blocks.clear();
  sequence->logits.clear();
  sequence->done = 0;
}

float log_probability(const std::vector<float>& logits, TokenId token) {
  double logsumexp = 0;
  const int64_t vocab = static_cast<int64_t>(logits.size());
  kernels::row_logsumexp(logits.data(), 1, vocab, vocab, &logsumexp, kernels::team());
  return kernels::log_probability(logits[static_cast<size_t>(token)], logsumexp);
}

}  // namespace mole::model::testing
