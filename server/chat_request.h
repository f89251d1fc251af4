// The body of POST /v1/chat/completions, and of /tokenize with messages. Thread: any (a worker of
// the pool: it renders the template and tokenizes).
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "server/app.h"
#include "server/generation_params.h"

namespace mole::server {

struct ChatRequest {
  GenerationParams params;
  Prompt prompt;
  bool logprobs = false;
};

std::variant<ChatRequest, ApiError> read_chat_request(const Json& body, const ServedModel& model,
                                                      const ServerLimits& limits);

/// The token ids of `messages` (and chat_template_kwargs) under the model's chat template. What the
/// messages say can't become a special token: where a text spells one, it is tokenized as plain
/// text. Errors stay in `fields`, except for the template's own, which are returned.
std::variant<std::vector<TokenId>, ApiError> encode_chat(FieldReader& fields,
                                                         const ServedModel& model,
                                                         const ServerLimits& limits,
                                                         bool add_special_tokens);

}  // namespace mole::server
