// llama.cpp through its C interface, without server: decode at several batch sizes and prefill,
// medians of several runs, as JSON lines; or a GGUF file made again with 8-bit weights. Built by
// peers.sh against the llama.cpp that it fetched; no part of the project.
//   llama_bench FILE.gguf THREADS REPEATS [ROW_SECONDS [BATCHES [PROMPTS]]]
//   llama_bench quantize FROM.gguf TO.gguf THREADS
// A prompt is not repeated any more after ROW_SECONDS [60]; BATCHES and PROMPTS are lists [1,8,32
// and 512].
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
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
  Bench(llama_context* context, int repeats, double row_seconds)
      : context_(context),
        repeats_(repeats),
        row_seconds_(row_seconds),
        batch_(llama_batch_init(kBatch, 0, 1)) {}
  ~Bench() { llama_batch_free(batch_); }

  // All share the first one's context, as in our own bench, and have tokens of their own after it.
  void decode(int sequences) {
    llama_memory_t memory = llama_get_memory(context_);
    llama_memory_clear(memory, true);
    run(0, 1, 0, kPromptTokens);
    for (int s = 1; s < sequences; ++s) llama_memory_seq_cp(memory, 0, s, -1, -1);
    run(0, sequences, kPromptTokens, 1);  // copies the contexts
    std::vector<double> seconds;
    for (int i = 1; i <= repeats_; ++i) {
      seconds.push_back(run(0, sequences, kPromptTokens + i, 1));
    }
    const double step = median(seconds);
    std::printf(
        "{\"what\": \"decode\", \"batch\": %d, \"step_s\": %.6f, \"tokens_per_s\": %.2f, "
        "\"repeats\": %zu}\n",
        sequences, step, sequences / step, seconds.size());
    std::fflush(stdout);
  }

  void prefill(int tokens) {
    std::vector<double> seconds;
    const double begin = seconds_now();
    do {
      llama_memory_clear(llama_get_memory(context_), true);
      seconds.push_back(run(0, 1, 0, tokens));
    } while (static_cast<int>(seconds.size()) < repeats_ && seconds_now() - begin < row_seconds_);
    const double took = median(seconds);
    std::printf(
        "{\"what\": \"prefill\", \"tokens\": %d, \"s\": %.6f, \"tokens_per_s\": %.2f, "
        "\"repeats\": %zu}\n",
        tokens, took, tokens / took, seconds.size());
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
  double row_seconds_;
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

std::vector<int> parse_list(const char* text) {
  std::vector<int> values;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) values.push_back(std::stoi(part));
  return values;
}

struct Work {
  int threads = 0, repeats = 0;
  double row_seconds = 60;
  std::vector<int> batches = {1, 8, 32}, prompts = {512};
};

int bench(const char* file, const Work& work) {
  const double begin = seconds_now();
  llama_model* model = llama_model_load_from_file(file, llama_model_default_params());
  if (model == nullptr) return 1;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = kContext;
  params.n_batch = kBatch;
  params.n_ubatch = 512;
  params.n_seq_max = kSequences;
  params.n_threads = params.n_threads_batch = work.threads;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) return 1;
  std::printf("{\"what\": \"ready\", \"s\": %.3f}\n", seconds_now() - begin);
  Bench run(context, work.repeats, work.row_seconds);
  for (const int tokens : work.prompts) run.prefill(tokens);
  for (const int sequences : work.batches) run.decode(sequences);
  llama_free(context);
  llama_model_free(model);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || argc > 7) return 2;
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level >= GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  if (std::strcmp(argv[1], "quantize") == 0) return quantize(argv[2], argv[3], std::atoi(argv[4]));
  Work work{.threads = std::atoi(argv[2]), .repeats = std::atoi(argv[3])};
  if (argc > 4) work.row_seconds = std::atof(argv[4]);
  if (argc > 5) work.batches = parse_list(argv[5]);
  if (argc > 6) work.prompts = parse_list(argv[6]);
  return bench(argv[1], work);
}
