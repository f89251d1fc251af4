// Sequences of equal length that a model runs in lock step, without server and scheduler.
#pragma once

#include <cstdint>
#include <vector>

#include "model/kv_cache.h"
#include "model/model.h"

namespace mole::load_tests {

/// Sequence s gets the same tokens in every batch: all share the context that `prefill` makes, and
/// have tokens of their own after it, so that their routing differs as that of users does.
/// Thread: one.
class LockstepBatch {
 public:
  /// A cache for `sequences` of at most `context` tokens. `model` must outlive it.
  LockstepBatch(model::Model& model, kernels::KvFormat cache_format, int32_t sequences,
                int32_t context);

  /// Empties all sequences.
  void rewind() { position_ = 0; }
  /// Empties all, then computes `tokens` of sequence 0 in chunks of `chunk` and copies its pages to
  /// the others. Returns the seconds of sequence 0's forwards. Errors: those of Model::forward.
  StatusOr<double> prefill(int32_t tokens, int32_t chunk);
  /// One token of each sequence; returns the forward's seconds.
  StatusOr<double> decode();

  int32_t sequences() const { return sequences_; }
  int32_t position() const { return position_; }
  int64_t entry_bytes() const { return cache_.shape().entry_bytes(); }
  /// Of the last call.
  std::vector<float> logits_of(int32_t sequence) const;

 private:
  StatusOr<double> step(int32_t sequences, int32_t tokens, model::AttentionForm form);
  void fill(int32_t sequences, int32_t tokens);
  void copy_pages();

  model::Model& model_;
  int32_t sequences_, blocks_per_sequence_;
  model::KvCache cache_;
  model::StepOutput output_;
  int32_t position_ = 0;
  std::vector<int32_t> block_tables_, positions_, starts_, rows_;
  std::vector<TokenId> ids_;
  std::vector<model::AttentionForm> forms_;
};

}  // namespace mole::load_tests
