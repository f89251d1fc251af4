// What /v1/completions and /v1/chat/completions have in common, after validation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "runtime/request.h"
#include "server/app.h"
#include "server/field_reader.h"

namespace mole::server {

struct GenerationParams {
  runtime::SamplingParams sampling;   // max_tokens is set by resolve_max_tokens()
  std::optional<int64_t> max_tokens;  // as asked for
  int32_t n = 1;
  std::vector<std::string> stop;
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  bool stream = false;
  bool include_usage = false;  // stream_options.include_usage
  bool return_token_ids = false;
  bool echo = false;  // completions only
  bool add_special_tokens = true;
  std::string cache_salt;
  int32_t priority = 0;
};

/// A prompt of a request, tokenized.
struct Prompt {
  std::vector<TokenId> ids;
  std::string text;  // only filled for echo
};

/// Reads the common fields of `fields` into `params`; the model's name is checked too. Errors stay
/// in `fields`, except for an unknown model, which is returned.
std::optional<ApiError> read_common_fields(FieldReader& fields, const ServedModel& model,
                                           const ServerLimits& limits, GenerationParams* params);

/// 404 model_not_found unless `fields` leaves the model out or names a served one.
std::optional<ApiError> check_model_name(FieldReader& fields, const ServedModel& model);

/// The tokens that a prompt of `prompt_tokens` may generate: as asked for, else what the context
/// leaves, bounded by the model's own default.
int32_t resolve_max_tokens(const GenerationParams& params, const ServedModel& model,
                           int64_t prompt_tokens);

/// Fails on the first of `keys` that is present and says something (null, false, {}, [] do not):
/// features that we don't have must not be ignored silently.
void reject_unsupported(FieldReader& fields, const std::vector<std::string>& keys);

}  // namespace mole::server
