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

bool StepDriver::step(const std::vector<std::pair<DrivenSequence*, int32_t>>& parts) {
  std::vector<TokenId> ids;
  std::vector<int32_t> positions, starts{0}, rows;
  std::vector<AttentionForm> forms;
  std::vector<int32_t> counts;
  int32_t per_sequence = 1;
  for (const auto& [sequence, wanted] : parts) {
    int32_t count = std::min(wanted, sequence->left());
    if (sequence->done < sequence->prompt) {
      count = std::min(count, sequence->prompt - sequence->done);
    }
    forms.push_back(sequence->done < sequence->prompt ? AttentionForm::kExpanded
                                                      : AttentionForm::kAbsorbed);
    for (int32_t i = 0; i < count; ++i) {
      ids.push_back(sequence->ids[static_cast<size_t>(sequence->done + i)]);
      positions.push_back(sequence->done + i);
      rows.push_back(static_cast<int32_t>(rows.size()));
    }
    starts.push_back(static_cast<int32_t>(ids.size()));
    counts.push_back(count);
    while (static_cast<int32_t>(sequence->blocks.size()) * kBlockTokens < sequence->done + count) {
      MOLE_CHECK(!free_.empty());
      sequence->blocks.push_back(free_.back());
      free_.pop_back();
    }
    per_sequence = std::max(per_sequence, static_cast<int32_t>(sequence->blocks.size()));
  }
  std::vector<int32_t> tables;
  for (const auto& [sequence, wanted] : parts) {
    tables.insert(tables.end(), sequence->blocks.begin(), sequence->blocks.end());
    tables.resize(tables.size() + static_cast<size_t>(per_sequence) - sequence->blocks.size(), -1);
  }
  StepOutput output;
  const Status status = model_->forward({.token_ids = ids,
                                         .positions = positions,
                                         .sequence_starts = starts,
                                         .forms = forms,
                                         .block_tables = tables,
                                         .blocks_per_sequence = per_sequence,
                                         .logit_rows = rows},
                                        cache_, &output);
  error = std::string(status.message());
  if (!status.ok()) return false;
  const size_t vocab = static_cast<size_t>(model_->info().vocab_size);
  size_t row = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    DrivenSequence& sequence = *parts[i].first;
    for (int32_t j = 0; j < counts[i]; ++j, ++row) {
      const auto first = output.logits.begin() + static_cast<std::ptrdiff_t>(row * vocab);
      sequence.logits.emplace_back(first, first + static_cast<std::ptrdiff_t>(vocab));
    }
    sequence.done += counts[i];
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
