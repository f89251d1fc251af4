// Log-probabilities of tokens under the model's raw logits (before bias, penalties and
// temperature), the same bits as the trainer's. Thread: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "runtime/output_stream.h"

namespace mole::kernels {
class ThreadTeam;
}

namespace mole::runtime {

class LogprobScorer {
 public:
  LogprobScorer();
  ~LogprobScorer();

  /// Of `token` and the `top` largest of `logits` [vocab_size] float32.
  /// Errors: kInternal if the row holds a NaN or +inf.
  StatusOr<TokenLogprobs> score(std::span<const float> logits, TokenId token, int32_t top);

 private:
  std::unique_ptr<kernels::ThreadTeam> team_;  // one thread: a row is too small to share
  std::vector<float> maxima_;
  std::vector<TokenId> largest_;
};

}  // namespace mole::runtime
