// What a user asked for, after validation: the only thing that crosses from the server to the
// engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"

namespace mole::runtime {

/// How tokens are chosen. Defaults are OpenAI's. Every field's range is checked by validate().
/// Order of the filters: logit_bias, penalties, temperature, top_k, top_p, min_p, then one draw.
struct SamplingParams {
  double temperature = 1.0;                           // [0, 2]; 0 = greedy (lowest id wins a tie)
  int32_t top_k = 0;                                  // 0 = off, else the k largest
  double top_p = 1.0;                                 // (0, 1]
  double min_p = 0.0;                                 // [0, 1], relative to the largest probability
  double presence_penalty = 0.0;                      // [-2, 2], over generated tokens
  double frequency_penalty = 0.0;                     // [-2, 2], over generated tokens
  double repetition_penalty = 1.0;                    // (0, 10], over prompt and generated tokens
  std::vector<std::pair<TokenId, float>> logit_bias;  // each in [-100, 100]
  std::optional<int64_t> seed;                        // absent: the engine draws one
  int32_t logprobs = -1;         // -1 none; k >= 0: the chosen token's and the k largest
  int32_t prompt_logprobs = -1;  // likewise for every prompt token but the first
  int32_t max_tokens = 16;       // generated tokens at most, >= 0 (0: only the prompt is scored)
  int32_t min_tokens = 0;        // no EOS or stop token before that many
  bool ignore_eos = false;
  std::vector<TokenId> stop_token_ids;  // end the sequence like EOS does
};

struct GenerateRequest {
  RequestId id;                 // unique in this process
  std::vector<TokenId> prompt;  // at least one token
  SamplingParams sampling;
  int32_t n = 1;           // sequences; sequence i draws with seed and stream i
  TimeUs deadline_us = 0;  // steady clock; 0 = none
  std::string cache_salt;  // prefix cache entries are shared only within one salt
  int32_t priority = 0;    // lower runs first, as in vLLM
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kDeadline, kError };

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;  // of this sequence
  int32_t cached_tokens = 0;      // prompt tokens taken from the prefix cache
  int32_t drafted_tokens = 0;     // guessed and verified, of this sequence
  int32_t accepted_tokens = 0;    // of these, right
};

}  // namespace mole::runtime
