// How well a sequence's drafts did, and so how likely the next one is to be accepted. Plain state,
// deterministic. Thread: engine.
#pragma once

#include <algorithm>
#include <cstdint>

namespace mole::runtime {

class DraftRecord {
 public:
  /// `drafted` tokens were verified, of which the first `accepted` were right. `num_generated` of
  /// the sequence by then.
  void note(int32_t drafted, int32_t accepted, int32_t num_generated) {
    // What lies behind the first wrong draft tells nothing.
    tried_ = tried_ * kKeep + std::min(drafted, accepted + 1);
    accepted_ = accepted_ * kKeep + accepted;
    last_at_ = num_generated;
  }

  /// The chance that a draft is right if those before it were. Starts at 1/2.
  double rate() const { return (accepted_ + kPrior / 2) / (tried_ + kPrior); }

  /// It did not pay for so long that it is tried again.
  bool probe_due(int32_t num_generated) const { return num_generated - last_at_ >= kProbeTokens; }

 private:
  static constexpr double kKeep = 0.9;  // remembers about ten verifications
  static constexpr double kPrior = 2;   // tokens, half of them right
  static constexpr int32_t kProbeTokens = 32;
  double tried_ = 0, accepted_ = 0;
  int32_t last_at_ = 0;  // num_generated at the last verification
};

}  // namespace mole::runtime
