// Rotary frequencies as config.json describes them: plain, linear and YaRN scaling, in the old keys
// (rope_theta, rope_scaling) and in those of transformers 5 (rope_parameters).
// Source: arXiv 2309.00071 and transformers' _compute_yarn_parameters (tests/golden/README.md, 7).
#pragma once

#include <memory>
#include <vector>

#include "kernels/rope/rope.h"
#include "model/layers/config_reader.h"

namespace mole::model {

struct RopeConfig {
  std::vector<double> frequencies;  // [dim / 2], radians per position
  double attention_factor = 1.0;    // multiplies cos and sin
  double softmax_factor = 1.0;      // multiplies the softmax scale: mscale(mscale_all_dim)^2
};

/// `dim` even. Problems go to `reader`.
RopeConfig read_rope(ConfigReader& reader, int32_t dim, double default_theta,
                     int32_t max_position_embeddings);

std::shared_ptr<const kernels::RopeTable> make_table(const RopeConfig& config,
                                                     int32_t max_positions);

}  // namespace mole::model
