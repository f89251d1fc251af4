#include "model/layers/wave.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/torch/tensors.h"
#include "model/layers/step_check.h"

namespace mole::model {

namespace {

/// The wave's sequences are numbers [first_sequence, S) of the step.
size_t first_sequence(const StepInput& input) {
  return input.forms.size() - static_cast<size_t>(input.wave.num_sequences);
}

/// to's first `count` rows <- from's. (Copies, since a view would be a new object in every step.)
void copy_first_rows(const at::Tensor& from, int64_t count, const at::Tensor& to) {
  std::memcpy(to.data_ptr(), from.data_ptr(),
              static_cast<size_t>(count * from.size(1)) * from.element_size());
}

/// How many rows the places of a wave take in all.
int64_t places_needed(const StepInput& input) {
  const size_t first = first_sequence(input);
  int64_t end = 0;
  for (size_t s = first; s < input.forms.size(); ++s) {
    const int32_t rows = input.sequence_starts[s + 1] - input.sequence_starts[s];
    end = std::max<int64_t>(end, int64_t{input.wave.places[s - first]} + rows);
  }
  return end;
}

}  // namespace

Status Wave::begin_or_go_on(const StepInput& input, const Decoder& decoder) {
  MOLE_RETURN_IF_ERROR(check_wave(input, decoder.info()));
  const int64_t needed = places_needed(input);
  if (input.wave.begin_layer == 0) {
    states_.reset();  // so that its memory is the first choice for the new ones
    states_ = kernels::empty({needed, decoder.hidden_size()}, decoder.info().dtype);
  } else if (input.wave.begin_layer != next_layer_ || needed > states_.size(0)) {
    return refuse_step("a wave does not go on where it was left");
  }
  next_layer_ = input.wave.end_layer == decoder.info().num_layers ? 0 : input.wave.end_layer;
  return absl::OkStatus();
}

void Wave::move_states(const StepInput& input, const at::Tensor& x, bool keep) const {
  const size_t first = first_sequence(input);
  const size_t row_bytes = static_cast<size_t>(x.size(1)) * x.element_size();
  for (size_t s = first; s < input.forms.size(); ++s) {
    const int32_t row = input.sequence_starts[s], rows = input.sequence_starts[s + 1] - row;
    std::byte* in_step = kernels::element(x, row, 0);
    std::byte* kept = kernels::element(states_, input.wave.places[s - first], 0);
    std::memcpy(keep ? kept : in_step, keep ? in_step : kept,
                static_cast<size_t>(rows) * row_bytes);
  }
}

StatusOr<at::Tensor> Wave::forward(const StepInput& input, KvCache& cache, Decoder& decoder,
                                   StepContext& all) {
  MOLE_RETURN_IF_ERROR(begin_or_go_on(input, decoder));
  const int32_t begin = input.wave.begin_layer, end = input.wave.end_layer;
  const int32_t layers = decoder.info().num_layers;
  const StepInput steady_input = without_wave(input);
  const auto steady_rows = static_cast<int64_t>(steady_input.token_ids.size());
  if (steady_rows > 0) {
    MOLE_RETURN_IF_ERROR(fill_context(steady_input, decoder.info(), cache, &steady_));
  }
  at::Tensor x;
  if (begin == 0) {
    x = decoder.embed(input.token_ids);
  } else {
    const auto rows = static_cast<int64_t>(input.token_ids.size());
    x = kernels::empty({rows, decoder.hidden_size()}, decoder.info().dtype);
    move_states(input, x, /*keep=*/false);
    if (steady_rows == 0) {
      decoder.pass_over(0, begin, all);
    } else {
      at::Tensor before = decoder.embed(steady_input.token_ids);
      decoder.run_layers(0, begin, before, steady_);
      copy_first_rows(before, steady_rows, x);
      all.expert_loads.swap(steady_.expert_loads);
    }
  }
  decoder.run_layers(begin, end, x, all);
  if (end == layers) return x;
  move_states(input, x, /*keep=*/true);
  if (steady_rows == 0) {
    decoder.pass_over(end, layers, all);
    return at::Tensor();
  }
  at::Tensor after = kernels::empty({steady_rows, decoder.hidden_size()}, decoder.info().dtype);
  copy_first_rows(x, steady_rows, after);
  steady_.expert_loads.swap(all.expert_loads);
  decoder.run_layers(end, layers, after, steady_);
  all.expert_loads.swap(steady_.expert_loads);
  return after;
}

}  // namespace mole::model
