#include "model/layers/rope_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mole::model {

namespace {

constexpr double kFactorMax = 1e6;
constexpr int64_t kTableElementsMax = int64_t{1} << 28;  // 1 GiB of float32

/// YaRN's temperature: 0.1 s ln(factor) + 1.
double mscale(double factor, double s) {
  return factor <= 1 ? 1.0 : 0.1 * s * std::log(factor) + 1;
}

/// The (fractional) pair that turns `rotations` times within `length` positions.
double correction_dim(double rotations, int32_t dim, double theta, double length) {
  return dim * std::log(length / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
}

struct Yarn {
  double factor, length, beta_fast, beta_slow;
};

std::vector<double> yarn_frequencies(const std::vector<double>& plain, const Yarn& yarn,
                                     int32_t dim, double theta) {
  double low = std::floor(correction_dim(yarn.beta_fast, dim, theta, yarn.length));
  double high = std::ceil(correction_dim(yarn.beta_slow, dim, theta, yarn.length));
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  std::vector<double> frequencies;
  for (size_t i = 0; i < plain.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies.push_back(ramp * plain[i] / yarn.factor + (1 - ramp) * plain[i]);
  }
  return frequencies;
}

void read_yarn(ConfigReader& scaling, const std::vector<double>& plain, int32_t dim, double theta,
               int32_t max_position_embeddings, RopeConfig* rope) {
  const Yarn yarn{scaling.number("factor", 1.0, kFactorMax),
                  static_cast<double>(scaling.integer_or("original_max_position_embeddings",
                                                         max_position_embeddings, 1, 1 << 30)),
                  scaling.number_or("beta_fast", 32, 1e-3, 1e6),
                  scaling.number_or("beta_slow", 1, 1e-3, 1e6)};
  const double s = scaling.number_or("mscale", 0, 0, 1e3);
  const double all_dim = scaling.number_or("mscale_all_dim", 0, 0, 1e3);
  rope->frequencies = yarn_frequencies(plain, yarn, dim, theta);
  // With only one of the two given transformers takes neither (DeepSeek's code would take mscale).
  const double ratio = s != 0 && all_dim != 0
                           ? mscale(yarn.factor, s) / mscale(yarn.factor, all_dim)
                           : mscale(yarn.factor, 1.0);
  rope->attention_factor = scaling.number_or("attention_factor", ratio, 1e-3, 1e3);
  if (all_dim != 0) {
    rope->softmax_factor = mscale(yarn.factor, all_dim) * mscale(yarn.factor, all_dim);
  }
}

}  // namespace

RopeConfig read_rope(ConfigReader& reader, int32_t dim, double default_theta,
                     int32_t max_position_embeddings) {
  const std::string key = reader.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json none = Json::object();
  const Json* found = reader.find(key);
  ConfigReader scaling(found != nullptr ? *found : none, "config.json: " + key);
  double theta = reader.number_or("rope_theta", default_theta, 1.0 + 1e-6, 1e12);
  theta = scaling.number_or("rope_theta", theta, 1.0 + 1e-6, 1e12);
  const std::vector<std::string> types = {"default", "linear", "yarn"};
  const std::string type =
      scaling.choice_or(scaling.has("rope_type") ? "rope_type" : "type", "default", types);
  if (int64_t{max_position_embeddings} * dim > kTableElementsMax) {
    reader.refuse("max_position_embeddings",
                  "a table of positions times rotary dimension of at most " +
                      std::to_string(kTableElementsMax) + " elements");
  }
  RopeConfig rope;
  for (int32_t i = 0; i < dim / 2; ++i) rope.frequencies.push_back(std::pow(theta, -2.0 * i / dim));
  if (type == "linear") {
    const double factor = scaling.number("factor", 1.0, kFactorMax);
    for (double& frequency : rope.frequencies) frequency /= factor;
  } else if (type == "yarn") {
    const std::vector<double> plain = rope.frequencies;
    read_yarn(scaling, plain, dim, theta, max_position_embeddings, &rope);
  }
  reader.absorb(scaling);
  return rope;
}

std::shared_ptr<const kernels::RopeTable> make_table(const RopeConfig& config,
                                                     int32_t max_positions) {
  return std::make_shared<kernels::RopeTable>(
      kernels::make_rope_table(config.frequencies, max_positions, config.attention_factor));
}

}  // namespace mole::model
