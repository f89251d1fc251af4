#include "server/generation_params.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace mole::server {
namespace {

constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kModelNameBytesMax = 1'024;

void read_stop(FieldReader& fields, const ServerLimits& limits, GenerationParams* params) {
  const Json* stop = fields.find("stop");
  if (stop == nullptr) return;
  if (!stop->is_string() && !stop->is_array()) {
    fields.fail("stop",
                "is " + describe_type(*stop) + "; accepted: a string or an array of strings");
    return;
  }
  const Json list = stop->is_string() ? Json::array({*stop}) : *stop;
  if (static_cast<int64_t>(list.size()) > limits.stop_max) {
    fields.fail_past("stop", "has " + std::to_string(list.size()) + " entries", limits.stop_max,
                     "stop-max");
    return;
  }
  for (const Json& entry : list) {
    if (!entry.is_string()) {
      fields.fail("stop", "holds " + describe_type(entry) + "; accepted: strings");
      return;
    }
    const auto& text = entry.get_ref<const std::string&>();
    if (text.empty()) {
      fields.fail("stop", "holds an empty string; accepted: strings of at least one byte");
      return;
    }
    if (static_cast<int64_t>(text.size()) > limits.stop_bytes_max) {
      fields.fail_past("stop", "holds a string of " + std::to_string(text.size()) + " bytes",
                       limits.stop_bytes_max, "stop-bytes-max");
      return;
    }
    params->stop.push_back(text);
  }
}

void read_logit_bias(FieldReader& fields, const ServerLimits& limits, int32_t vocab_size,
                     runtime::SamplingParams* sampling) {
  const Json* bias = fields.find("logit_bias");
  if (bias == nullptr) return;
  const std::string accepted = "; accepted: an object of token ids (as strings, 0 to " +
                               std::to_string(vocab_size - 1) + ") and numbers from -100 to 100";
  if (!bias->is_object()) {
    fields.fail("logit_bias", "is " + describe_type(*bias) + accepted);
    return;
  }
  if (static_cast<int64_t>(bias->size()) > limits.logit_bias_max) {
    fields.fail_past("logit_bias", "has " + std::to_string(bias->size()) + " entries",
                     limits.logit_bias_max, "logit-bias-max");
    return;
  }
  for (const auto& [key, value] : bias->items()) {
    TokenId id = -1;
    const char* end = key.data() + key.size();
    const auto [stop, code] = std::from_chars(key.data(), end, id);
    if (stop != end || code != std::errc() || id < 0 || id >= vocab_size) {
      fields.fail("logit_bias", "has the key \"" + key + "\"" + accepted);
      return;
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 100)) {
      fields.fail("logit_bias", "has a wrong value for token " + key + accepted);
      return;
    }
    sampling->logit_bias.emplace_back(id, value.get<float>());
  }
}

void read_stream_options(FieldReader& fields, GenerationParams* params) {
  params->stream = fields.boolean("stream", false);
  const Json* options = fields.find("stream_options");
  if (options == nullptr) return;
  if (!params->stream) {
    fields.fail("stream_options", "is only accepted with stream: true");
    return;
  }
  if (!options->is_object()) {
    fields.fail("stream_options", "is " + describe_type(*options) + "; accepted: an object");
    return;
  }
  FieldReader inner(*options);
  params->include_usage = inner.boolean("include_usage", false);
  if (inner.failed()) {
    fields.fail("stream_options", inner.error()->message);
  }
}

void read_sampling(FieldReader& fields, const SamplingDefaults& defaults,
                   const ServerLimits& limits, int32_t vocab_size,
                   runtime::SamplingParams* sampling) {
  sampling->temperature = fields.number("temperature", defaults.temperature, 0, 2);
  sampling->top_p = fields.number_above("top_p", defaults.top_p, 0, 1);
  sampling->min_p = fields.number("min_p", defaults.min_p, 0, 1);
  // vLLM writes "off" as -1, Hugging Face as 0.
  sampling->top_k = static_cast<int32_t>(
      std::max<int64_t>(0, fields.integer("top_k", defaults.top_k, -1, kInt32Max)));
  sampling->presence_penalty = fields.number("presence_penalty", 0, -2, 2);
  sampling->frequency_penalty = fields.number("frequency_penalty", 0, -2, 2);
  sampling->repetition_penalty =
      fields.number_above("repetition_penalty", defaults.repetition_penalty, 0, 10);
  if (fields.find("seed") != nullptr) {
    sampling->seed = fields.integer("seed", 0, std::numeric_limits<int64_t>::min(),
                                    std::numeric_limits<int64_t>::max());
  }
  sampling->min_tokens = static_cast<int32_t>(fields.integer("min_tokens", 0, 0, kInt32Max));
  sampling->ignore_eos = fields.boolean("ignore_eos", false);
  sampling->stop_token_ids = fields.integers("stop_token_ids", 0, vocab_size - 1,
                                             limits.stop_token_ids_max, "stop-token-ids-max");
  sampling->prompt_logprobs =
      static_cast<int32_t>(fields.integer("prompt_logprobs", -1, 0, limits.logprobs_max));
  read_logit_bias(fields, limits, vocab_size, sampling);
}

bool says_something(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_array() || value.is_object()) return !value.empty();
  return true;
}

}  // namespace

std::optional<ApiError> check_model_name(FieldReader& fields, const ServedModel& model) {
  const std::string name = fields.text("model", model.name(), kModelNameBytesMax);
  if (fields.failed() ||
      std::find(model.names.begin(), model.names.end(), name) != model.names.end()) {
    return std::nullopt;
  }
  ApiError error = not_found(
      "the model \"" + name + "\" is not served here; this server has \"" + model.name() + "\"",
      "model_not_found");
  error.param = "model";
  return error;
}

std::optional<ApiError> read_common_fields(FieldReader& fields, const ServedModel& model,
                                           const ServerLimits& limits, GenerationParams* params) {
  if (auto error = check_model_name(fields, model)) return error;
  const int32_t vocab_size = model.engine->model_info().vocab_size;
  read_sampling(fields, model.defaults, limits, vocab_size, &params->sampling);
  params->n = static_cast<int32_t>(fields.integer("n", 1, 1, limits.n_max));
  const auto best_of = fields.integer("best_of", params->n, 1, kChoicesHardMax);
  if (best_of != params->n) {
    fields.fail("best_of", std::to_string(best_of) +
                               " is not supported; accepted: the value of n (" +
                               std::to_string(params->n) + ")");
  }
  read_stop(fields, limits, params);
  read_stream_options(fields, params);
  params->include_stop_str_in_output = fields.boolean("include_stop_str_in_output", false);
  params->skip_special_tokens = fields.boolean("skip_special_tokens", true);
  params->return_token_ids = fields.boolean("return_token_ids", false);
  params->cache_salt =
      fields.text("cache_salt", "", limits.cache_salt_bytes_max, "cache-salt-bytes-max");
  params->priority = static_cast<int32_t>(
      fields.integer("priority", 0, std::numeric_limits<int32_t>::min(), kInt32Max));
  if (params->stream && params->sampling.prompt_logprobs >= 0) {
    fields.fail("prompt_logprobs", "is not accepted with stream: true");
  }
  return std::nullopt;
}

int32_t resolve_max_tokens(const GenerationParams& params, const ServedModel& model,
                           int64_t prompt_tokens) {
  if (params.max_tokens.has_value()) return static_cast<int32_t>(*params.max_tokens);
  // At least one, so that a prompt that fills the context is refused as too long, not as odd.
  const int64_t room = std::max<int64_t>(1, model.engine->options().max_model_len - prompt_tokens);
  return static_cast<int32_t>(std::min(room, model.defaults.max_new_tokens.value_or(room)));
}

void reject_unsupported(FieldReader& fields, const std::vector<std::string>& keys) {
  for (const auto& key : keys) {
    const Json* value = fields.find(key);
    if (value != nullptr && says_something(*value)) {
      fields.fail(key, "is not supported by this server");
    }
  }
}

}  // namespace mole::server
