// The model's own sampling defaults, from generation_config.json in its folder: used where a
// request leaves a field out (as vLLM's --generation-config auto does).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/status.h"

namespace mole::server {

struct SamplingDefaults {
  double temperature = 1.0;
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  int64_t top_k = 0;
  std::optional<int64_t> max_new_tokens;  // bounds a request without max_tokens
};

/// A folder without the file gives OpenAI's defaults.
/// Errors: kInvalidArgument naming the file, the key, its value and what is accepted.
StatusOr<SamplingDefaults> load_sampling_defaults(const std::filesystem::path& model_folder);

}  // namespace mole::server
