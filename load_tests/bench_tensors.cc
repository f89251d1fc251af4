// Which tensors a checkpoint of the DeepSeek families holds, by Hugging Face's names.
#include <cmath>

#include "load_tests/bench_models.h"

namespace mole::load_tests {

namespace {

class Lister {
 public:
  explicit Lister(const Json& config)
      : config_(config),
        hidden_(value("hidden_size")),
        layers_(value("num_hidden_layers")),
        deviation_(config.at("initializer_range").get<double>()),
        residual_(deviation_ / std::sqrt(2.0 * static_cast<double>(layers_))) {}

  std::vector<TensorSpec> list() {
    const int64_t vocab = value("vocab_size");
    matrix("model.embed_tokens.weight", vocab, hidden_, 1.0);
    for (int64_t i = 0; i < layers_; ++i) layer("model.layers." + std::to_string(i) + ".", i);
    const int64_t modules = config_.value("num_nextn_predict_layers", int64_t{0});
    for (int64_t i = layers_; i < layers_ + modules; ++i) mtp_module(i, vocab);
    norm("model.norm.weight", hidden_);
    matrix("lm_head.weight", vocab, hidden_, deviation_);
    return std::move(tensors_);
  }

 private:
  int64_t value(const char* key) const { return config_.at(key).get<int64_t>(); }

  void matrix(const std::string& name, int64_t rows, int64_t columns, double deviation) {
    tensors_.push_back({name, {rows, columns}, Fill::kNormal, deviation});
  }
  void norm(const std::string& name, int64_t n) { tensors_.push_back({name, {n}, Fill::kOnes}); }

  void attention(const std::string& prefix) {
    const int64_t heads = value("num_attention_heads"), latent = value("kv_lora_rank");
    const int64_t nope = value("qk_nope_head_dim"), rope = value("qk_rope_head_dim");
    const int64_t v = value("v_head_dim");
    if (config_.at("q_lora_rank").is_null()) {
      matrix(prefix + "q_proj.weight", heads * (nope + rope), hidden_, deviation_);
    } else {
      const int64_t low = value("q_lora_rank");
      matrix(prefix + "q_a_proj.weight", low, hidden_, deviation_);
      norm(prefix + "q_a_layernorm.weight", low);
      matrix(prefix + "q_b_proj.weight", heads * (nope + rope), low, deviation_);
    }
    matrix(prefix + "kv_a_proj_with_mqa.weight", latent + rope, hidden_, deviation_);
    norm(prefix + "kv_a_layernorm.weight", latent);
    matrix(prefix + "kv_b_proj.weight", heads * (nope + v), latent, deviation_);
    matrix(prefix + "o_proj.weight", hidden_, heads * v, residual_);
  }

  void feed_forward(const std::string& prefix, int64_t width) {
    matrix(prefix + "gate_proj.weight", width, hidden_, deviation_);
    matrix(prefix + "up_proj.weight", width, hidden_, deviation_);
    matrix(prefix + "down_proj.weight", hidden_, width, residual_);
  }

  void layer(const std::string& prefix, int64_t index) {
    norm(prefix + "input_layernorm.weight", hidden_);
    attention(prefix + "self_attn.");
    norm(prefix + "post_attention_layernorm.weight", hidden_);
    const std::string mlp = prefix + "mlp.";
    if (index < value("first_k_dense_replace")) {
      feed_forward(mlp, value("intermediate_size"));
      return;
    }
    const int64_t experts = value("n_routed_experts"), width = value("moe_intermediate_size");
    matrix(mlp + "gate.weight", experts, hidden_, deviation_);
    if (config_.at("model_type") == "deepseek_v3") {
      tensors_.push_back({mlp + "gate.e_score_correction_bias", {experts}, Fill::kZeros, 0, true});
    }
    for (int64_t e = 0; e < experts; ++e) {
      feed_forward(mlp + "experts." + std::to_string(e) + ".", width);
    }
    const int64_t shared = value("n_shared_experts");
    if (shared > 0) feed_forward(mlp + "shared_experts.", shared * width);
  }

  // Source: DeepSeek-V3's README_WEIGHTS.md, "Multi-Token Prediction (MTP) Modules".
  void mtp_module(int64_t index, int64_t vocab) {
    const std::string prefix = "model.layers." + std::to_string(index) + ".";
    matrix(prefix + "embed_tokens.weight", vocab, hidden_, 1.0);
    norm(prefix + "enorm.weight", hidden_);
    norm(prefix + "hnorm.weight", hidden_);
    matrix(prefix + "eh_proj.weight", hidden_, 2 * hidden_, deviation_);
    layer(prefix, index);
    norm(prefix + "shared_head.norm.weight", hidden_);
    matrix(prefix + "shared_head.head.weight", vocab, hidden_, deviation_);
  }

  const Json& config_;
  int64_t hidden_, layers_;
  double deviation_, residual_;
  std::vector<TensorSpec> tensors_;
};

}  // namespace

int64_t TensorSpec::num_elements() const {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

std::vector<TensorSpec> tensors_of(const Json& config) { return Lister(config).list(); }

}  // namespace mole::load_tests
