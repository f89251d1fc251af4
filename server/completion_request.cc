#include "server/completion_request.h"

#include <algorithm>
#include <limits>

namespace mole::server {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;  // OpenAI's

bool all_are(const Json& list, bool (Json::*is)() const noexcept) {
  for (const Json& entry : list) {
    if (!(entry.*is)()) return false;
  }
  return true;
}

class PromptReader {
 public:
  PromptReader(FieldReader& fields, const ServedModel& model, const ServerLimits& limits,
               const GenerationParams& params)
      : fields_(fields), model_(model), limits_(limits), params_(params) {}

  std::vector<Prompt> read() {
    const Json* prompt = fields_.find("prompt");
    if (prompt == nullptr) {
      fields_.fail("prompt", "is missing; " + accepted());
    } else if (prompt->is_string()) {
      add_text(*prompt);
    } else if (!prompt->is_array() || prompt->empty()) {
      fields_.fail("prompt",
                   std::string(prompt->is_array() ? "is an empty array; " : "has a wrong type; ") +
                       accepted());
    } else if (all_are(*prompt, &Json::is_number)) {
      add_tokens(*prompt);
    } else if (all_are(*prompt, &Json::is_string) || all_are(*prompt, &Json::is_array)) {
      add_list(*prompt);
    } else {
      fields_.fail("prompt", "mixes types; " + accepted());
    }
    return std::move(prompts_);
  }

 private:
  static std::string accepted() {
    return "accepted: a string, an array of strings, of token ids, or of arrays of token ids";
  }

  void add_list(const Json& list) {
    if (static_cast<int64_t>(list.size()) > limits_.prompts_max) {
      fields_.fail_past("prompt", "has " + std::to_string(list.size()) + " entries",
                        limits_.prompts_max, "prompts-max");
      return;
    }
    for (const Json& entry : list) {
      if (fields_.failed()) return;
      entry.is_string() ? add_text(entry) : add_tokens(entry);
    }
  }

  void add_text(const Json& text) {
    // A raw prompt is the whole text of the model's input: special tokens in it are meant.
    const text::EncodeOptions options{.add_special_tokens = params_.add_special_tokens,
                                      .parse_special_tokens = true};
    const auto& source = text.get_ref<const std::string&>();
    auto ids = model_.tokenizer->encode(source, options);
    if (!ids.ok()) {
      fields_.fail("prompt", std::string(ids.status().message()));
      return;
    }
    add({std::move(*ids), params_.echo ? source : std::string()});
  }

  void add_tokens(const Json& list) {
    Prompt prompt;
    const int32_t vocab_size = model_.engine->model_info().vocab_size;
    prompt.ids.reserve(list.size());
    for (const Json& entry : list) {
      std::string why;
      const auto id = whole_number(entry, 0, vocab_size - 1, &why);
      if (!id.has_value()) {
        fields_.fail("prompt", "token " + std::to_string(prompt.ids.size()) + " " + why);
        return;
      }
      prompt.ids.push_back(static_cast<TokenId>(*id));
    }
    if (params_.echo) {
      prompt.text = model_.tokenizer->decode(prompt.ids, params_.skip_special_tokens).value_or("");
    }
    add(std::move(prompt));
  }

  void add(Prompt prompt) {
    if (prompt.ids.empty()) {
      fields_.fail("prompt", "gives no token; accepted: at least one");
      return;
    }
    prompts_.push_back(std::move(prompt));
  }

  FieldReader& fields_;
  const ServedModel& model_;
  const ServerLimits& limits_;
  const GenerationParams& params_;
  std::vector<Prompt> prompts_;
};

void read_logprobs(FieldReader& fields, const ServerLimits& limits, GenerationParams* params) {
  auto& sampling = params->sampling;
  sampling.logprobs = static_cast<int32_t>(fields.integer("logprobs", -1, 0, limits.logprobs_max));
  // An echoed prompt carries log-probabilities like generated text.
  if (params->echo && sampling.logprobs >= 0) {
    sampling.prompt_logprobs = std::max(sampling.prompt_logprobs, sampling.logprobs);
  }
}

}  // namespace

std::variant<CompletionRequest, ApiError> read_completion_request(const Json& body,
                                                                  const ServedModel& model,
                                                                  const ServerLimits& limits) {
  FieldReader fields(body);
  CompletionRequest request;
  GenerationParams& params = request.params;
  if (auto error = read_common_fields(fields, model, limits, &params)) return *error;
  params.echo = fields.boolean("echo", false);
  params.add_special_tokens = fields.boolean("add_special_tokens", true);
  constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
  params.max_tokens = fields.integer("max_tokens", kDefaultMaxTokens, 0, kInt32Max);
  read_logprobs(fields, limits, &params);
  reject_unsupported(fields, {"suffix", "prompt_embeds", "response_format", "use_beam_search"});
  if (fields.failed()) return *fields.error();
  request.prompts = PromptReader(fields, model, limits, params).read();
  const int64_t choices = static_cast<int64_t>(request.prompts.size()) * params.n;
  if (choices > kChoicesHardMax) {
    fields.fail("n", "times the number of prompts is " + std::to_string(choices) +
                         "; accepted: at most " + std::to_string(kChoicesHardMax));
  }
  if (fields.failed()) return *fields.error();
  return request;
}

}  // namespace mole::server
