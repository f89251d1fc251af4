// The prompts that pass the model's layers together over several steps: model::WavePass, as the
// scheduler keeps book of it. Sequences join while it is before the first layer, all go on by the
// same layers, and any may leave. Pure state; once warm, no allocation. Thread: engine.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/sequence.h"
#include "runtime/step_cost.h"

namespace mole::runtime {

class PrefillWave {
 public:
  struct Member {
    Sequence* sequence = nullptr;
    int32_t first = 0;  // positions [first, first + count)
    int32_t count = 0;
    int32_t place = 0;  // of its first row among those that the model keeps; once it has begun
  };

  PrefillWave(int32_t num_layers, int32_t members_max);

  bool empty() const { return members_.empty(); }
  int32_t num_layers() const { return num_layers_; }
  /// The layer before which it stands; 0 = it has not begun.
  int32_t next_layer() const { return next_layer_; }
  const std::vector<Member>& members() const { return members_; }
  /// Tokens of all members.
  int32_t num_rows() const;
  /// What passing all layers would cost.
  WaveWork work() const;

  /// The sequence's next `count` prompt tokens come with it. Requires that it has not begun.
  void join(Sequence* sequence, int32_t count);
  /// `more` tokens of a member. Requires that it has not begun.
  void grow(const Sequence* sequence, int32_t more);
  /// A member goes no further; others don't notice.
  void leave(Sequence* sequence);
  /// Its members pass `layers` more; their places are appended. After the last layer it is empty,
  /// for the next to begin.
  void advance(int32_t layers, std::vector<int32_t>* places);

  // For checkers.
  int64_t num_begun() const { return num_begun_; }
  int64_t layers_passed() const { return layers_passed_; }

 private:
  void end();

  const int32_t num_layers_;
  std::vector<Member> members_;
  int32_t next_layer_ = 0;
  int64_t num_begun_ = 0;      // waves
  int64_t layers_passed_ = 0;  // by all waves
};

}  // namespace mole::runtime
