// The order in which a run sees its training windows. A stream of N tokens is cut into windows of
// L; each epoch shifts the cut by its own offset and visits the windows in its own order, both pure
// functions of (seed, epoch). So the whole state of the data is one number, the count of windows
// already used, and a resumed run is at its place in O(1).
#pragma once

#include <cstdint>

namespace mole::trainer {

class WindowSampler {
 public:
  /// `num_tokens` >= 2 * `window_tokens`, so that every shifted epoch has at least one window.
  WindowSampler(int64_t num_tokens, int64_t window_tokens, uint64_t seed);

  /// First token of the `cursor`-th window of the run, in [0, num_tokens - window_tokens].
  int64_t window_begin(int64_t cursor) const;

  int64_t windows_per_epoch() const { return windows_; }

 private:
  int64_t window_tokens_;
  int64_t windows_;
  int32_t half_bits_;  // of the Feistel network's domain, 2^(2 half_bits_) >= windows_
  uint64_t seed_;
};

/// A permutation of [0, count) chosen by (seed, epoch): four Feistel rounds keyed by Philox, walked
/// until the value lies inside. `half_bits` as above. Pure.
int64_t permute(int64_t value, int64_t count, int32_t half_bits, uint64_t seed, uint64_t epoch);

}  // namespace mole::trainer
