// Drives model::Model as the runtime does: sequences with pages from a shuffled pool, steps that
// mix them, every row's logits kept. Torch-free.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/kv_cache.h"
#include "model/model.h"

namespace mole::model::testing {

struct DrivenSequence {
  std::vector<TokenId> ids;
  int32_t prompt = 0;                      // ids before it are the prompt: expanded form
  int32_t done = 0;                        // rows computed
  std::vector<int32_t> blocks;             // pages
  std::vector<std::vector<float>> logits;  // by position

  int32_t left() const { return static_cast<int32_t>(ids.size()) - done; }
};

/// Prompt tokens that pass the layers over several steps (WavePass in model/model.h).
struct DrivenWave {
  std::vector<std::pair<DrivenSequence*, int32_t>>
      parts;                    // the next `second` prompt tokens of each
  std::vector<int32_t> places;  // [parts]
  int32_t next_layer = 0;
};

class StepDriver {
 public:
  /// `num_blocks` pages, handed out in an order shuffled by `seed`; their contents start as NaN, so
  /// that reading an entry which was never written shows.
  StepDriver(Model* model, int64_t num_blocks, uint64_t seed,
             kernels::KvFormat format = kernels::KvFormat::kModel);

  /// Computes the next `second` tokens of each sequence in one step, cut at the end of the prompt.
  /// False if the model reported an error (kept in `error`).
  /// Behind them `layers` more layers of a wave, if one is given; its sequences are not in `parts`.
  /// In the step of the last layer its logits are kept.
  bool step(const std::vector<std::pair<DrivenSequence*, int32_t>>& parts,
            DrivenWave* wave = nullptr, int32_t layers = 0);
  /// All tokens of one sequence: the prompt in one step, then token by token.
  bool run(DrivenSequence* sequence);
  /// Gives the pages back and starts over, as after pre-emption.
  void preempt(DrivenSequence* sequence);

  std::string error;

 private:
  struct Flat;  // a step's arrays
  void add(DrivenSequence* sequence, int32_t count, bool with_logits, Flat* flat);

  Model* model_;
  KvCache cache_;
  std::vector<int32_t> free_;
};

/// log-softmax of `logits` at `token`, by the one way in which log-probabilities are computed.
float log_probability(const std::vector<float>& logits, TokenId token);

}  // namespace mole::model::testing
