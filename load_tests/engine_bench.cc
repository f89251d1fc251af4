// mole-engine-bench: prefill and decode speed of a checkpoint through Model::forward, without
// server and scheduler, beside the bytes that a decode step must at least read. With --short it
// runs few steps and checks instead that a sequence's logits are the same bits alone and in every
// batch it was timed in.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <numeric>
#include <vector>

#include "base/options.h"
#include "base/philox.h"
#include "model/registry.h"

namespace mole {
namespace {

struct BenchOptions {
  std::string model = "models/demo";
  std::string dtype = "auto";
  int64_t threads = 0;
  int64_t prompt_tokens = 256;
  int64_t steps = 32;
  bool short_form = false;
};

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

// Sequences of equal length in lock step: the same prompt tokens for sequence s in every batch.
class Batch {
 public:
  Batch(model::Model& model, int32_t sequences, int32_t context)
      : model_(model),
        sequences_(sequences),
        blocks_per_sequence_((context + model::kBlockTokens - 1) / model::kBlockTokens),
        cache_({.num_layers = model.info().num_layers,
                .num_blocks = int64_t{sequences} * blocks_per_sequence_,
                .entry_elements = model.info().kv_entry_elements,
                .dtype = model.info().dtype}),
        block_tables_(static_cast<size_t>(sequences * blocks_per_sequence_)) {
    std::iota(block_tables_.begin(), block_tables_.end(), 0);
  }

  /// Runs `tokens` further tokens of every sequence in one step; returns seconds.
  double step(int32_t tokens, model::AttentionForm form) {
    fill(tokens, form);
    const model::StepInput input{.token_ids = ids_,
                                 .positions = positions_,
                                 .sequence_starts = starts_,
                                 .forms = forms_,
                                 .block_tables = block_tables_,
                                 .blocks_per_sequence = blocks_per_sequence_,
                                 .logit_rows = rows_};
    const double begin = seconds_now();
    const Status status = model_.forward(input, cache_, &output_);
    const double took = seconds_now() - begin;
    if (!status.ok()) {
      std::cerr << "forward failed: " << status << "\n";
      std::exit(kExitFailure);
    }
    position_ += tokens;
    return took;
  }

  std::vector<float> logits_of(int32_t sequence) const {
    const auto vocab = static_cast<size_t>(model_.info().vocab_size);
    const float* row = output_.logits.data() + static_cast<size_t>(sequence) * vocab;
    return {row, row + vocab};
  }

 private:
  void fill(int32_t tokens, model::AttentionForm form) {
    ids_.clear();
    positions_.clear();
    starts_.assign(1, 0);
    rows_.clear();
    forms_.assign(static_cast<size_t>(sequences_), form);
    for (int32_t s = 0; s < sequences_; ++s) {
      for (int32_t t = 0; t < tokens; ++t) {
        const uint64_t draw = philox4x32(static_cast<uint64_t>(s), position_ + t, 0)[0];
        ids_.push_back(
            static_cast<TokenId>(draw % static_cast<uint64_t>(model_.info().vocab_size)));
        positions_.push_back(position_ + t);
      }
      starts_.push_back(static_cast<int32_t>(ids_.size()));
      rows_.push_back(static_cast<int32_t>(ids_.size()) - 1);
    }
  }

  model::Model& model_;
  int32_t sequences_;
  int32_t blocks_per_sequence_;
  model::KvCache cache_;
  model::StepOutput output_;
  int32_t position_ = 0;
  std::vector<int32_t> block_tables_, positions_, starts_, rows_;
  std::vector<TokenId> ids_;
  std::vector<model::AttentionForm> forms_;
};

// Prefill in one step, then decode; returns the last logits of sequence 0.
std::vector<float> run(model::Model& model, int32_t sequences, const BenchOptions& options) {
  const auto prompt = static_cast<int32_t>(options.prompt_tokens);
  const auto steps = static_cast<int32_t>(options.steps);
  Batch batch(model, sequences, prompt + steps);
  const double prefill = batch.step(prompt, model::AttentionForm::kExpanded);
  std::vector<double> decode;
  for (int32_t i = 0; i < steps; ++i) {
    decode.push_back(batch.step(1, model::AttentionForm::kAbsorbed));
  }
  const double step = median(decode);
  std::printf("%8d %14.1f %12.3f %14.1f\n", sequences, sequences * prompt / prefill, step * 1e3,
              sequences / step);
  return batch.logits_of(0);
}

int bench(const BenchOptions& options) {
  auto model = model::load_model(
      options.model, {.dtype = options.dtype, .threads = static_cast<int32_t>(options.threads)});
  if (!model.ok()) {
    std::cerr << "mole-engine-bench: " << model.status().message() << "\n";
    return kExitModel;
  }
  const model::ModelInfo& info = (*model)->info();
  std::printf(
      "%s, %s, %lld parameters (%lld active), %.1f MB of weights, prompt %lld, %lld steps\n",
      info.architecture.c_str(), std::string(dtype_name(info.dtype)).c_str(),
      static_cast<long long>(info.num_parameters),
      static_cast<long long>(info.num_active_parameters),
      static_cast<double>(info.weight_bytes) / 1e6, static_cast<long long>(options.prompt_tokens),
      static_cast<long long>(options.steps));
  std::printf("%8s %14s %12s %14s\n", "batch", "prefill tok/s", "decode ms", "decode tok/s");
  std::vector<float> alone;
  for (const int32_t sequences : {1, 2, 8, 32}) {
    std::vector<float> logits = run(**model, sequences, options);
    if (sequences == 1) alone = logits;
    if (std::memcmp(alone.data(), logits.data(), alone.size() * sizeof(float)) != 0) {
      std::cerr << "logits of a sequence differ between alone and a batch of " << sequences << "\n";
      return kExitFailure;
    }
  }
  std::printf("bits: equal alone and in every batch\n");
  return kExitOk;
}

}  // namespace
}  // namespace mole

int main(int argc, char** argv) {
  mole::BenchOptions bench;
  mole::Options options("mole-engine-bench", "Prefill and decode speed of a checkpoint.");
  options.add("model", &bench.model, "Checkpoint folder");
  options.add_choice("dtype", &bench.dtype, {"auto", "float32", "bfloat16"}, "Compute type");
  options.add("threads", &bench.threads, 0, 1024, "threads", "Of the kernels; 0 = all cores");
  options.add("prompt-tokens", &bench.prompt_tokens, 1, 1 << 20, "tokens", "Prefilled in one step");
  options.add("steps", &bench.steps, 1, 1 << 20, "steps", "Decode steps, the median counts");
  options.add("short", &bench.short_form, "Few steps: checks results, not speed");
  int exit_code = 0;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (bench.short_form) {
    bench.prompt_tokens = 70;
    bench.steps = 3;
  }
  return mole::bench(bench);
}
