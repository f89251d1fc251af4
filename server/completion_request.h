// The body of POST /v1/completions. Thread: any (a worker of the pool: it tokenizes).
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "server/app.h"
#include "server/generation_params.h"

namespace mole::server {

struct CompletionRequest {
  GenerationParams params;
  std::vector<Prompt> prompts;
};

std::variant<CompletionRequest, ApiError> read_completion_request(const Json& body,
                                                                  const ServedModel& model,
                                                                  const ServerLimits& limits);

}  // namespace mole::server
