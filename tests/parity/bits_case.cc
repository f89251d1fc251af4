#include "tests/parity/bits_case.h"

#include <algorithm>

#include "tests/model/tiny_models.h"

namespace mole::model::testing {

namespace {

using kernels::Isa;
using runtime::SpeculativeMethod;

constexpr int32_t kRequests = 7;

Json draw_deepseek(bool v3, Draw& draw) {
  Json config = tiny_config(v3 ? "deepseek_v3" : "deepseek_v2");
  config["num_attention_heads"] = draw.of<int32_t>({2, 3, 5, 16, 17});
  config["hidden_size"] = draw.of<int32_t>({40, 64, 136});
  config["kv_lora_rank"] = draw.of<int32_t>({20, 32, 64, 132});
  config["qk_nope_head_dim"] = draw.of<int32_t>({12, 16, 32});
  config["qk_rope_head_dim"] = draw.of<int32_t>({8, 16, 32});
  config["v_head_dim"] = draw.of<int32_t>({10, 16, 32});
  config["moe_intermediate_size"] = draw.of<int32_t>({24, 32, 40});
  config["num_experts_per_tok"] = 1 + draw.below(4);
  config["n_shared_experts"] = draw.below(3);
  if (config["n_shared_experts"] == 0) config["n_shared_experts"] = nullptr;
  if (v3) {
    config["num_nextn_predict_layers"] = 1;
    if (draw.one_in(3)) config["q_lora_rank"] = nullptr;
    if (draw.one_in(2)) config.erase("rope_scaling");
  }
  return config;
}

Json draw_mixtral(Draw& draw) {
  Json config = tiny_config("mixtral");
  config["num_key_value_heads"] = draw.of<int32_t>({1, 2, 4});
  config["head_dim"] = draw.of<int32_t>({10, 16, 32});
  config["hidden_size"] = draw.of<int32_t>({36, 64});
  config["intermediate_size"] = draw.of<int32_t>({28, 64});
  return config;
}

const char* method_name(SpeculativeMethod method) {
  if (method == SpeculativeMethod::kNone) return "none";
  return method == SpeculativeMethod::kNgram ? "ngram" : "mtp";
}

void draw_drafts(const BitsModel& model, Draw& draw, runtime::EngineOptions* options) {
  std::vector<SpeculativeMethod> methods{SpeculativeMethod::kNone, SpeculativeMethod::kNgram};
  if (model.mtp()) methods.insert(methods.end(), 2, SpeculativeMethod::kMtp);
  options->speculative_method = draw.of(methods);
  options->num_speculative_tokens = 1 + draw.below(8);
  options->prompt_lookup_min = 1 + draw.below(2);
}

void draw_sampling(int32_t vocab, Draw& draw, runtime::SamplingParams* sampling) {
  sampling->seed = draw.below(1000);
  sampling->temperature = draw.of<double>({0, 0, 0.7, 1.0});
  sampling->max_tokens = draw.of<int32_t>({1, 12, 40, 70});
  sampling->ignore_eos = !draw.one_in(4);
  sampling->logprobs = 5;
  if (draw.one_in(3)) sampling->prompt_logprobs = 5;
  if (draw.one_in(3)) sampling->top_p = 0.9;
  if (draw.one_in(4)) sampling->top_k = 7;
  if (draw.one_in(3)) sampling->repetition_penalty = 1.1;
  if (draw.one_in(3)) sampling->logit_bias = {{draw.below(vocab), 2.0F}};
  // Says the same for ever, so that drafts are right.
  if (draw.one_in(4)) sampling->logit_bias = {{5 + draw.below(5), 50.0F}};
}

}  // namespace

std::string BitsFormats::describe() const {
  return std::string(dtype_name(dtype)) + ", quantization " + quantization + ", cache " + cache;
}

std::vector<BitsFormats> all_bits_formats() {
  std::vector<BitsFormats> all;
  for (const char* cache : {"auto", "int8", "fp8"}) {
    all.push_back({DType::kFloat32, "none", cache});
    for (const char* weights : {"none", "int8", "int8-g128", "int8-a16", "int4", "fp8"}) {
      all.push_back({DType::kBFloat16, weights, cache});
    }
  }
  return all;
}

BitsModel draw_model(const BitsFormats& formats, Draw& draw) {
  BitsModel model{.formats = formats, .config = {}, .stored = formats.dtype};
  const int32_t kind = draw.below(6);
  if (kind == 0 && formats.cache == "auto") {  // the only cache that mixtral has
    model.config = draw_mixtral(draw);
  } else {
    model.config = draw_deepseek(kind > 1, draw);
  }
  if (draw.one_in(2)) model.stored = DType::kFloat32;
  return model;
}

BitsWay plain_way(const BitsModel& model) {
  BitsWay way;
  way.pages = -1;
  way.options.max_model_len = kBitsModelLen;
  way.options.max_num_seqs = 8;
  way.options.kv_cache_dtype = model.formats.cache;
  way.options.enable_prefix_caching = false;
  way.options.queue_wait_max_us = 1'000'000'000;
  return way;
}

BitsWay draw_way(const BitsModel& model, int32_t index, Draw& draw) {
  BitsWay way = plain_way(model);
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
    if (isa <= kernels::isa()) isas.push_back(isa);
  }
  way.isa = isas[static_cast<size_t>(index) % isas.size()];
  way.threads = 1 + index % 4;
  way.ahead = draw.one_in(3) && model.formats.quantization != "none";
  way.together = !draw.one_in(4);
  way.again = draw.one_in(2);
  way.pages = draw.of<int32_t>({-1, 1, 4});
  runtime::EngineOptions& options = way.options;
  options.max_num_seqs = draw.of<int32_t>({1, 3, 8});
  options.max_num_batched_tokens = draw.of<int32_t>({8, 24, 65, 130, 2048});
  options.enable_prefix_caching = !draw.one_in(3);
  options.target_itl_us = draw.one_in(2) ? 3000 : 0;
  options.prefill_chunk_min = draw.of<int32_t>({1, 16});
  options.prefill_wave_tokens = draw.of<int32_t>({0, 20, 200, 1024});
  draw_drafts(model, draw, &options);
  way.swap = options.enable_prefix_caching && draw.one_in(2);
  way.restart = way.swap && draw.one_in(2);
  return way;
}

std::string BitsWay::describe() const {
  const auto flag = [](const char* name, bool set) { return set ? std::string(name) : ""; };
  return std::string(kernels::isa_name(isa)) + ", threads " + std::to_string(threads) +
         ", step tokens " + std::to_string(options.max_num_batched_tokens) + ", sequences " +
         std::to_string(options.max_num_seqs) + ", drafts " +
         method_name(options.speculative_method) + " " +
         std::to_string(options.num_speculative_tokens) + ", pages " + std::to_string(pages) +
         flag(", quantised ahead", ahead) + flag(", together", together) + flag(", twice", again) +
         flag(", prefix cache", options.enable_prefix_caching) + flag(", swap file", swap) +
         flag(", restart", restart) +
         (options.target_itl_us > 0
              ? ", pace with waves of " + std::to_string(options.prefill_wave_tokens)
              : "");
}

std::vector<runtime::GenerateRequest> draw_requests(const BitsModel& model, Draw& draw) {
  const auto vocab = model.config["vocab_size"].get<int32_t>();
  // Few different tokens: n-grams come back.
  const int32_t kinds = draw.of<int32_t>({4, vocab});
  std::vector<TokenId> shared(280);
  for (TokenId& id : shared) id = draw.below(kinds);
  std::vector<runtime::GenerateRequest> requests(kRequests);
  for (size_t i = 0; i < requests.size(); ++i) {
    runtime::GenerateRequest& request = requests[i];
    request.id = RequestId{i + 1};
    draw_sampling(vocab, draw, &request.sampling);
    if (draw.one_in(2)) {
      const auto length = draw.of<int32_t>({10, 64, 130, 280});
      request.prompt.assign(shared.begin(), shared.begin() + length);
    }
    for (int32_t more = draw.of<int32_t>({1, 7, 62, 64, 96}); more > 0; --more) {
      request.prompt.push_back(draw.below(kinds));
    }
    request.n = draw.one_in(4) ? 2 : 1;
    request.priority = draw.below(2);
  }
  return requests;
}

}  // namespace mole::model::testing
