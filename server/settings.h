// Everything an operator can set, with its defaults: the flags of mole-server.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"
#include "model/registry.h"
#include "runtime/engine.h"
#include "server/limits.h"

namespace mole::server {

struct Settings {
  std::string model_dir;  // the positional argument; --model wins
  std::string model;
  std::vector<std::string> served_model_name;  // default: the directory's name
  std::string host = "127.0.0.1";
  int64_t port = 8'000;
  std::string port_file;
  std::string dtype = "auto";
  std::string quantization = "auto";
  int64_t threads = 0;
  int64_t io_threads = 2;
  int64_t tokenizer_threads = 1;
  int64_t max_model_len = 0;
  int64_t max_num_seqs = runtime::EngineOptions{}.max_num_seqs;
  int64_t max_num_batched_tokens = runtime::EngineOptions{}.max_num_batched_tokens;
  int64_t target_itl_ms = 0;
  int64_t prefill_chunk_min = runtime::EngineOptions{}.prefill_chunk_min;
  int64_t prefill_wave_tokens = runtime::EngineOptions{}.prefill_wave_tokens;
  std::string speculative_method = "none";
  int64_t num_speculative_tokens = runtime::EngineOptions{}.num_speculative_tokens;
  int64_t prompt_lookup_min = runtime::EngineOptions{}.prompt_lookup_min;
  int64_t prompt_lookup_max = runtime::EngineOptions{}.prompt_lookup_max;
  int64_t max_queued_requests = runtime::EngineOptions{}.max_queued_requests;
  int64_t max_queued_tokens = 0;
  int64_t queue_wait_max_ms = runtime::EngineOptions{}.queue_wait_max_us / 1'000;
  int64_t kv_cache_memory_bytes = 0;
  std::string kv_swap_file;
  int64_t kv_swap_bytes = 0;
  std::string kv_cache_dtype = runtime::EngineOptions{}.kv_cache_dtype;
  bool enable_prefix_caching = true;
  int64_t step_history = runtime::EngineOptions{}.step_history;
  std::string api_key_file;
  bool insecure = false;
  std::vector<std::string> allowed_origins;
  std::string log_level = "info";
  bool version = false;
  bool print_config = false;
  bool plan = false;
  ServerLimits limits;

  const std::string& model_path() const { return model.empty() ? model_dir : model; }
};

void declare_options(Options& options, Settings* settings);

/// How `settings` ask for the model to be loaded.
model::LoadOptions load_options(const Settings& settings);

/// The engine's options that `settings` ask for.
runtime::EngineOptions engine_options(const Settings& settings);

/// The name under which a model directory is served by default: its last component.
std::string default_model_name(const std::string& model_path);

/// Whether only this machine can connect to `host`.
bool is_loopback(const std::string& host);

}  // namespace mole::server
