// What a sequence must produce, computed alone and without cache, blocks or scheduler: the oracle
// that every simulated stream is compared with, token by token.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/logprobs.h"
#include "runtime/request.h"
#include "runtime/sampler.h"
#include "tests/sim/fake_model.h"

namespace mole::sim {

class SoloRun {
 public:
  /// `request` (with a seed) and `model` must outlive the run.
  SoloRun(const runtime::GenerateRequest* request, int32_t index, const FakeModelOptions* model);

  struct Next {
    TokenId token = 0;
    runtime::TokenLogprobs logprobs;                              // if asked for
    runtime::FinishReason reason = runtime::FinishReason::kNone;  // after this token
  };
  /// The next generated token. Requires that the sequence has not ended.
  Next next();
  /// It generates nothing more.
  bool ended() const { return ended_; }
  int32_t num_generated() const { return num_generated_; }
  const std::vector<TokenId>& tokens() const { return tokens_; }

  /// Log-probabilities of the prompt tokens but the first, as kPromptToken events give them.
  static std::vector<runtime::TokenLogprobs> score_prompt(const runtime::GenerateRequest& request,
                                                          const FakeModelOptions& model);

 private:
  void look();
  void take_in(TokenId token, model::AttentionForm form);
  runtime::TokenLogprobs score(TokenId token, int32_t top) const;

  const runtime::GenerateRequest* request_;
  const int32_t index_;
  const FakeModelOptions* model_;
  std::vector<TokenId> tokens_;
  std::vector<float> logits_;  // after tokens_
  runtime::TokenCounts counts_;
  uint64_t stamp_ = 0, context_ = 0;
  int32_t num_generated_ = 0;
  bool ended_ = false;
};

}  // namespace mole::sim
