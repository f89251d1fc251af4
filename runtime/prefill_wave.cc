#include "runtime/prefill_wave.h"

#include <algorithm>

#include "base/check.h"

namespace mole::runtime {

PrefillWave::PrefillWave(int32_t num_layers, int32_t members_max) : num_layers_(num_layers) {
  MOLE_CHECK_GE(num_layers, 1);
  members_.reserve(static_cast<size_t>(members_max));
}

int32_t PrefillWave::num_rows() const {
  int32_t rows = 0;
  for (const Member& member : members_) rows += member.count;
  return rows;
}

WaveWork PrefillWave::work() const {
  WaveWork work{.share = 1};
  for (const Member& member : members_) work.add(member.first, member.count);
  return work;
}

void PrefillWave::join(Sequence* sequence, int32_t count) {
  MOLE_CHECK_EQ(next_layer_, 0);
  MOLE_CHECK(!sequence->in_wave);
  members_.push_back({sequence, sequence->num_computed, count, 0});
  sequence->in_wave = true;
}

void PrefillWave::grow(const Sequence* sequence, int32_t more) {
  MOLE_CHECK_EQ(next_layer_, 0);
  for (Member& member : members_) {
    if (member.sequence == sequence) member.count += more;
  }
}

void PrefillWave::leave(Sequence* sequence) {
  sequence->in_wave = false;
  std::erase_if(members_, [&](const Member& member) { return member.sequence == sequence; });
  if (members_.empty()) end();
}

void PrefillWave::advance(int32_t layers, std::vector<int32_t>* places) {
  MOLE_CHECK(layers > 0 && next_layer_ + layers <= num_layers_);
  if (next_layer_ == 0) {
    ++num_begun_;
    int32_t place = 0;
    for (Member& member : members_) {
      member.place = place;
      place += member.count;
    }
  }
  for (const Member& member : members_) places->push_back(member.place);
  next_layer_ += layers;
  layers_passed_ += layers;
  if (next_layer_ == num_layers_) end();
}

void PrefillWave::end() {
  for (const Member& member : members_) member.sequence->in_wave = false;
  members_.clear();
  next_layer_ = 0;
}

}  // namespace mole::runtime
