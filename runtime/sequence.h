// What the engine runs: a request on its way through the steps, and its n sequences. Plain state;
// the scheduler moves it, the engine core reads it. Thread: engine (built by the submitting
// thread).
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "model/model.h"
#include "runtime/block_key.h"
#include "runtime/draft_record.h"
#include "runtime/ngram_index.h"
#include "runtime/output_stream.h"
#include "runtime/request.h"
#include "runtime/swap_wait.h"
#include "runtime/token_counts.h"

namespace mole::runtime {

struct RequestState;

enum class SequenceState : uint8_t {
  kHeld,      // waits until another sequence of its request has computed the prompt they share
  kWaiting,   // has no blocks; wants to run
  kRunning,   // has blocks for all its tokens
  kFinished,  // has no blocks
};

/// Who goes first: lower priority value, then earlier arrival, then lower index.
struct Rank {
  int32_t priority = 0;
  uint64_t arrival = 0;
  int32_t index = 0;
  auto operator<=>(const Rank&) const = default;
};

/// The token at position p is computed when its entry lies in slot p % 64 of block p / 64. The last
/// token of a sequence that generates was sampled but not yet computed.
struct Sequence {
  RequestState* request = nullptr;
  int32_t index = 0;
  Rank rank;
  SequenceState state = SequenceState::kHeld;
  FinishReason finish_reason = FinishReason::kNone;

  std::vector<TokenId> tokens;  // the prompt, then what was generated
  int32_t num_prompt = 0;
  int32_t num_computed = 0;  // tokens whose entries lie in `blocks`
  int32_t num_scored = 0;    // prompt positions whose logits were turned into log-probabilities
  bool in_wave = false;      // its next prompt tokens are between two layers of the model
  int32_t passed_over = 0;   // sequences that started before this one although they rank behind it

  std::vector<BlockId> blocks;
  KeyChain keys;              // of our full blocks
  SwapWait swap_wait;         // while it waits
  int32_t num_published = 0;  // so many of our first blocks lie in the prefix cache, or equal ones
  TokenCounts counts;         // only when a penalty needs them

  std::vector<TokenId>
      drafts;         // guesses at what follows `tokens`; never part of them until sampled
  NgramIndex ngrams;  // of `tokens`, if drafts come from there
  DraftRecord draft_record;
  int32_t drafted_tokens = 0;   // computed to be verified
  int32_t accepted_tokens = 0;  // of these, equal to what was sampled
  TimeUs last_token_us = 0;

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_generated() const { return num_tokens() - num_prompt; }
  /// All but the last sampled token are computed: the next step is one token.
  bool decoding() const { return num_computed >= num_prompt && num_tokens() - num_computed == 1; }
  /// Which arithmetic the next token to compute needs, and where the run of that form ends.
  model::AttentionForm next_form() const {
    return num_computed < num_prompt ? model::AttentionForm::kExpanded
                                     : model::AttentionForm::kAbsorbed;
  }
  int32_t form_end() const { return num_computed < num_prompt ? num_prompt : num_tokens(); }
  /// Prompt positions [0, scored_end()) must be scored; position p scores the token at p + 1.
  int32_t scored_end() const;
  /// Of [first, end) so many positions must still be scored.
  int32_t scored_in(int32_t first, int32_t end) const;
};

/// A request that was accepted.
struct RequestState {
  GenerateRequest request;
  uint64_t seed = 0;  // the user's, or drawn
  BlockKey salt;
  bool share_prompt = false;  // publishes its blocks: the prefix cache is on, or n > 1
  TimeUs submitted_us = 0;
  TimeUs started_us = -1;  // first time a sequence ran; -1 = not yet
  TimeUs first_token_us = -1;
  bool prompt_computed = false;
  int32_t cached_tokens = 0;        // of the prompt, when it was first looked up
  int32_t num_live = 0;             // sequences that have not finished
  bool left_queue = false;          // the engine core has told that it started or ended
  bool prompt_echoed = false;       // the event of the first prompt token was sent
  std::vector<Sequence> sequences;  // never resized after creation: others point into it
  std::shared_ptr<OutputStream> stream;
};

struct RequestStateOptions {
  uint64_t seed = 0;  // used when the request names none
  bool enable_prefix_caching = true;
  int32_t vocab_size = 0;
  TimeUs now_us = 0;
  size_t stream_events_max = 0;
  int32_t draft_tokens_max = 0;  // at once; 0 = no speculation
  NgramOptions ngram{};          // min 0: drafts don't come from n-grams
};
/// Makes the state of a validated request, with its stream. All memory that its steps need is
/// reserved.
std::unique_ptr<RequestState> make_request_state(GenerateRequest request,
                                                 const RequestStateOptions& options);

}  // namespace mole::runtime
