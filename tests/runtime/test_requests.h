// Small requests for the tests of the runtime.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "runtime/sequence.h"

namespace mole::runtime {

inline constexpr int32_t kTestVocab = 97;
inline constexpr int32_t kTestDrafts = 4;

struct TestRequest {
  uint64_t id = 1;
  std::vector<TokenId> prompt = {5, 6, 7};
  int32_t max_tokens = 8;
  int32_t n = 1;
  int32_t priority = 0;
  int32_t prompt_logprobs = -1;
  TimeUs deadline_us = 0;
  TimeUs now_us = 0;
  bool enable_prefix_caching = true;
  const char* salt = "";
};

inline std::unique_ptr<RequestState> make_test_request(const TestRequest& wanted) {
  GenerateRequest request;
  request.id = RequestId{wanted.id};
  request.prompt = wanted.prompt;
  request.sampling.max_tokens = wanted.max_tokens;
  request.sampling.prompt_logprobs = wanted.prompt_logprobs;
  request.n = wanted.n;
  request.priority = wanted.priority;
  request.deadline_us = wanted.deadline_us;
  request.cache_salt = wanted.salt;
  const RequestStateOptions options{.seed = wanted.id,
                                    .enable_prefix_caching = wanted.enable_prefix_caching,
                                    .vocab_size = kTestVocab,
                                    .now_us = wanted.now_us,
                                    .stream_events_max = 64,
                                    .draft_tokens_max = kTestDrafts,
                                    .ngram = {.min = 1, .max = 3}};
  return make_request_state(std::move(request), options);
}

/// 0, 1, 2, … as token ids, from `first`.
inline std::vector<TokenId> counting(int32_t count, TokenId first = 0) {
  std::vector<TokenId> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back((first + i) % kTestVocab);
  return tokens;
}

}  // namespace mole::runtime
