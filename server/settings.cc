#include "server/settings.h"

#include <filesystem>
#include <limits>

#include "runtime/limits.h"

namespace mole::server {
namespace {

constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kInt64Max = std::numeric_limits<int64_t>::max();

void declare_model_options(Options& options, Settings* s) {
  options.add_positional("model-dir", &s->model_dir, "model directory (the same as --model)");
  options.add("model", &s->model, "model directory in Hugging Face's layout");
  options.add_list("served-model-name", &s->served_model_name,
                   "name in the API; several are all accepted [the directory's name]");
  options.add_choice("dtype", &s->dtype, {"auto", "float32", "bfloat16"},
                     "type of weights and activations");
  options.add_choice("quantization", &s->quantization,
                     {"auto", "none", "int8", "int8-g128", "int8-a16", "int4", "fp8"},
                     "format of the weights, auto = the checkpoint's own; docs/quantization.md");
  options.add("threads", &s->threads, 0, 1'024, "", "threads of the kernels, 0 = all cores");
  options.add("max-model-len", &s->max_model_len, 0, kInt32Max, "TOKENS",
              "prompt and output of a request, 0 = the model's context");
  options.add("max-num-seqs", &s->max_num_seqs, 1, kInt32Max, "", "sequences in one step");
  options.add("max-num-batched-tokens", &s->max_num_batched_tokens, 1, kInt32Max, "TOKENS",
              "tokens in one step");
  options.add("kv-cache-memory-bytes", &s->kv_cache_memory_bytes, 0, kInt64Max, "BYTES",
              "size of the KV cache, 0 = as needed, at most 1 GiB");
  options.add_choice("kv-cache-dtype", &s->kv_cache_dtype,
                     {"auto", "float32", "bfloat16", "int8", "fp8"},
                     "type of the KV cache, auto = the model's; int8 and fp8 hold more tokens");
  options.add("kv-swap-file", &s->kv_swap_file,
              "file that keeps the prefix cache's pages for which memory has no room, also across "
              "restarts [none]");
  options.add("kv-swap-bytes", &s->kv_swap_bytes, 0, kInt64Max, "BYTES",
              "size of that file, 0 = 4 times the KV cache");
  options.add("enable-prefix-caching", &s->enable_prefix_caching,
              "share the cache of equal prompt beginnings");
  options.add("step-history", &s->step_history, 0, runtime::kStepHistoryMax, "",
              "plans of the last steps that SIGUSR1, or a failure, writes to the log");
  options.add("max-queued-requests", &s->max_queued_requests, 1, kInt32Max, "",
              "requests that wait to run; more get 429");
  options.add("max-queued-tokens", &s->max_queued_tokens, 0, kInt64Max, "TOKENS",
              "prompt tokens that wait to run, 0 = 4 times the KV cache; more get 429");
  options.add("queue-wait-max-ms", &s->queue_wait_max_ms, 0, kInt32Max, "MS",
              "longest wait of a request in the queue");
}

void declare_step_options(Options& options, Settings* s) {
  options.add("target-itl-ms", &s->target_itl_ms, 0, 60'000, "MS",
              "wanted time between two tokens of a sequence: prompts are cut so that steps keep to "
              "it, 0 = off");
  options.add("prefill-chunk-min", &s->prefill_chunk_min, 1, 65'536, "TOKENS",
              "prompt tokens of a step, whatever the target");
  options.add("prefill-wave-tokens", &s->prefill_wave_tokens, 0, 1 << 20, "TOKENS",
              "with a target: prompt tokens that pass the layers together over several steps, 0 = "
              "each step computes a chunk through all layers");
  options.add_choice("speculative-method", &s->speculative_method, {"none", "ngram", "mtp"},
                     "tokens that are guessed and verified together: from what followed the same "
                     "few tokens before, or by the model's multi-token-prediction module");
  options.add("num-speculative-tokens", &s->num_speculative_tokens, 1, 16, "TOKENS",
              "most guesses of a sequence in one step");
  options.add("prompt-lookup-min", &s->prompt_lookup_min, 1, 16, "TOKENS",
              "ngram: tokens that must agree at least");
  options.add("prompt-lookup-max", &s->prompt_lookup_max, 1, 16, "TOKENS",
              "ngram: tokens that are compared at most");
}

runtime::SpeculativeMethod speculative_method(const std::string& name) {
  if (name == "ngram") return runtime::SpeculativeMethod::kNgram;
  if (name == "mtp") return runtime::SpeculativeMethod::kMtp;
  return runtime::SpeculativeMethod::kNone;
}

void declare_server_options(Options& options, Settings* s) {
  options.add("host", &s->host, "numeric address to listen on");
  options.add("port", &s->port, 0, 65'535, "", "TCP port, 0 = any free one");
  options.add("port-file", &s->port_file, "file that gets the port's number once it is open");
  options.add("io-threads", &s->io_threads, 1, 64, "", "threads of the sockets");
  options.add("tokenizer-threads", &s->tokenizer_threads, 1, 64, "",
              "threads that read and tokenize requests");
  options.add("api-key-file", &s->api_key_file, "file of API keys, one a line");
  options.add("insecure", &s->insecure, "allow other machines to connect without an API key");
  options.add_list("allowed-origins", &s->allowed_origins,
                   "web origins that may call the API (CORS), \"*\" = all");
  options.add_choice("log-level", &s->log_level, {"debug", "info", "warn", "error"},
                     "least level of log lines");
  options.add("version", &s->version, "print the version and exit");
  options.add("print-config", &s->print_config, "print the options as YAML and exit");
  options.add("plan", &s->plan,
              "print the bytes of memory that weights, cache and work will take, and exit; loads "
              "nothing");
}

}  // namespace

void declare_options(Options& options, Settings* settings) {
  declare_model_options(options, settings);
  declare_step_options(options, settings);
  declare_server_options(options, settings);
  declare_options(options, &settings->limits);
}

model::LoadOptions load_options(const Settings& settings) {
  return {.dtype = settings.dtype,
          .quantization = settings.quantization,
          .threads = static_cast<int32_t>(settings.threads),
          .mtp = settings.speculative_method == "mtp",
          .fingerprint = !settings.kv_swap_file.empty(),
          .max_step_tokens = static_cast<int32_t>(settings.max_num_batched_tokens)};
}

runtime::EngineOptions engine_options(const Settings& settings) {
  runtime::EngineOptions options;
  options.max_model_len = static_cast<int32_t>(settings.max_model_len);
  options.max_num_seqs = static_cast<int32_t>(settings.max_num_seqs);
  options.max_num_batched_tokens = static_cast<int32_t>(settings.max_num_batched_tokens);
  options.kv_cache_bytes = settings.kv_cache_memory_bytes;
  options.kv_cache_dtype = settings.kv_cache_dtype;
  options.kv_swap_file = settings.kv_swap_file;
  options.kv_swap_bytes = settings.kv_swap_bytes;
  options.max_queued_requests = static_cast<int32_t>(settings.max_queued_requests);
  options.max_queued_tokens = settings.max_queued_tokens;
  options.queue_wait_max_us = settings.queue_wait_max_ms * 1'000;
  options.enable_prefix_caching = settings.enable_prefix_caching;
  options.step_history = static_cast<int32_t>(settings.step_history);
  options.target_itl_us = settings.target_itl_ms * 1'000;
  options.prefill_chunk_min = static_cast<int32_t>(settings.prefill_chunk_min);
  options.prefill_wave_tokens = static_cast<int32_t>(settings.prefill_wave_tokens);
  options.speculative_method = speculative_method(settings.speculative_method);
  options.num_speculative_tokens = static_cast<int32_t>(settings.num_speculative_tokens);
  options.prompt_lookup_min = static_cast<int32_t>(settings.prompt_lookup_min);
  options.prompt_lookup_max = static_cast<int32_t>(settings.prompt_lookup_max);
  options.max_sequences_per_request = static_cast<int32_t>(settings.limits.n_max);
  return options;
}

std::string default_model_name(const std::string& model_path) {
  std::error_code ignored;  // a path that can't be resolved keeps its own spelling
  auto path = std::filesystem::weakly_canonical(model_path, ignored);
  if (path.empty()) path = model_path;
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

}  // namespace mole::server
