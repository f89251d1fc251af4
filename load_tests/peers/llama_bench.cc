// llama.cpp through its C interface, without server: decode at several batch sizes and prefill,
// medians of several runs, as JSON lines; or a GGUF file made again with 8-bit weights. Built by
// peers.sh against the llama.cpp that it fetched; no part of the project.
//   llama_bench FILE.gguf THREADS REPEATS          llama_bench quantize FROM.gguf TO.gguf THREADS
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "llama.h"

namespace {

constexpr int kSequences = 32, kContext = 1024 * kSequences, kBatch = 2048, kPromptTokens = 32,
              kVocab = 4096;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Ids as the other drivers draw them: any below 4096.
llama_token draw() {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return static_cast<llama_token>(2 + (state >> 8) % (kVocab - 2));
}

class Bench {
 public:
  Bench(llama_context* context, int repeats)
      : context_(context), repeats_(repeats), batch_(llama_batch_init(kBatch, 0, 1)) {}
  ~Bench() { llama_batch_free(batch_); }

  void decode(int sequences) {
    llama_memory_clear(llama_get_memory(context_), true);
    for (int s = 0; s < sequences; ++s) run(s, s + 1, 0, kPromptTokens);
    std::vector<double> seconds;
    for (int i = 0; i < repeats_; ++i) seconds.push_back(run(0, sequences, kPromptTokens + i, 1));
    const double step = median(seconds);
    std::printf("{\"what\": \"decode\", \"batch\": %d, \"step_s\": %.6f, \"tokens_per_s\": %.2f}\n",
                sequences, step, sequences / step);
    std::fflush(stdout);
  }

  void prefill(int tokens) {
    std::vector<double> seconds;
    for (int i = 0; i < repeats_; ++i) {
      llama_memory_clear(llama_get_memory(context_), true);
      seconds.push_back(run(0, 1, 0, tokens));
    }
    const double took = median(seconds);
    std::printf("{\"what\": \"prefill\", \"tokens\": %d, \"s\": %.6f, \"tokens_per_s\": %.2f}\n",
                tokens, took, tokens / took);
    std::fflush(stdout);
  }

 private:
  // `tokens` each of the sequences [first, last) from `position` on, logits of the last ones.
  double run(int first, int last, int position, int tokens) {
    batch_.n_tokens = 0;
    for (int s = first; s < last; ++s) {
      for (int t = 0; t < tokens; ++t) {
        const int i = batch_.n_tokens++;
        batch_.token[i] = draw();
        batch_.pos[i] = position + t;
        batch_.n_seq_id[i] = 1;
        batch_.seq_id[i][0] = s;
        batch_.logits[i] = t + 1 == tokens;
      }
    }
    const double begin = seconds_now();
    if (llama_decode(context_, batch_) != 0) {
      std::fprintf(stderr, "llama_decode failed\n");
      std::exit(1);
    }
    llama_synchronize(context_);
    return seconds_now() - begin;
  }

  llama_context* context_;
  int repeats_;
  llama_batch batch_;
};

int quantize(const char* from, const char* to, int threads) {
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.nthread = threads;
  params.ftype = LLAMA_FTYPE_MOSTLY_Q8_0;
  // The absorbed projections stay bfloat16: they are what latent attention is sensitive to.
  const llama_model_tensor_override kept[] = {
      {"attn_k_b", GGML_TYPE_BF16}, {"attn_v_b", GGML_TYPE_BF16}, {nullptr, GGML_TYPE_COUNT}};
  params.tt_overrides = kept;
  return static_cast<int>(llama_model_quantize(from, to, &params));
}

int bench(const char* file, int threads, int repeats) {
  llama_model_params model_params = llama_model_default_params();
  llama_model* model = llama_model_load_from_file(file, model_params);
  if (model == nullptr) return 1;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = kContext;
  params.n_batch = kBatch;
  params.n_ubatch = 512;
  params.n_seq_max = kSequences;
  params.n_threads = params.n_threads_batch = threads;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) return 1;
  Bench run(context, repeats);
  for (const int sequences : {1, 8, 32}) run.decode(sequences);
  run.prefill(512);
  llama_free(context);
  llama_model_free(model);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) return 2;
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level >= GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  if (std::strcmp(argv[1], "quantize") == 0) return quantize(argv[2], argv[3], std::atoi(argv[4]));
  return bench(argv[1], std::atoi(argv[2]), std::atoi(argv[3]));
}
