#include <algorithm>
#include <fstream>
#include <iostream>

#include "base/options.h"
#include "model/registry.h"
#include "model/trainable.h"
#include "text/tokenizer.h"
#include "trainer/commands.h"
#include "trainer/data/corpus.h"
#include "trainer/data/dataset.h"
#include "trainer/evaluate.h"
#include "trainer/serving_score.h"

namespace mole::trainer {
namespace {

struct EvalArguments {
  std::string model, tokenizer, data, split = "heldout", dtype = "bfloat16", log_probs;
  std::string quantization;  // "" = the trainer's forward
  std::vector<std::string> inputs;
  int64_t window_tokens = 0, tokens_max = 0, batch_sequences = 8, threads = 0;
};

/// The ids of the inputs, document by document.
Status add_text(const EvalArguments& arguments, const text::Tokenizer& tokenizer,
                int64_t window_tokens, Evaluator* evaluator) {
  MOLE_ASSIGN_OR_RETURN(const auto files, list_text_files(arguments.inputs));
  int64_t left = arguments.tokens_max > 0 ? arguments.tokens_max : INT64_MAX;
  for (const auto& file : files) {
    MOLE_RETURN_IF_ERROR(for_each_document(file, [&](const std::string& text) -> Status {
      MOLE_ASSIGN_OR_RETURN(
          const std::vector<TokenId> ids,
          tokenizer.encode(text, {.add_special_tokens = false, .parse_special_tokens = false}));
      const auto size = std::min(static_cast<int64_t>(ids.size()), left);
      left -= size;
      return evaluator->add_tokens(std::span(ids).first(static_cast<size_t>(size)), window_tokens);
    }));
  }
  return absl::OkStatus();
}

Status add_shards(const EvalArguments& arguments, int64_t window_tokens, Evaluator* evaluator) {
  MOLE_ASSIGN_OR_RETURN(const TokenDataset data, TokenDataset::open(arguments.data, true));
  const TokenStream& stream = arguments.split == "train" ? data.train() : data.heldout();
  int64_t count = stream.count();
  if (arguments.tokens_max > 0) count = std::min(count, arguments.tokens_max);
  std::vector<TokenId> ids(static_cast<size_t>(count));
  stream.read(0, ids);
  return evaluator->add_tokens(ids, window_tokens);
}

/// The model in the form that scores: the trainer's, or with --quantization the server's.
struct ScoredModel {
  std::unique_ptr<model::Trainable> trainable;
  std::unique_ptr<model::Model> served;
  std::unique_ptr<ServingScorer> scorer;
  model::ModelInfo info;

  Evaluator::Score score() {
    return [this](const model::SequenceBatch& batch, std::span<float> log_probs) {
      return scorer == nullptr ? trainable->score(batch, {}, log_probs)
                               : scorer->score(batch, log_probs);
    };
  }
};

StatusOr<ScoredModel> load(const EvalArguments& arguments) {
  ScoredModel out;
  const auto threads = static_cast<int32_t>(arguments.threads);
  if (arguments.quantization.empty()) {
    const DType dtype = arguments.dtype == "float32" ? DType::kFloat32 : DType::kBFloat16;
    MOLE_ASSIGN_OR_RETURN(
        out.trainable,
        model::Trainable::load(arguments.model, {.dtype = dtype, .threads = threads}));
    out.info = out.trainable->info();
    return out;
  }
  MOLE_ASSIGN_OR_RETURN(out.served,
                        model::load_model(arguments.model, {.dtype = arguments.dtype,
                                                            .quantization = arguments.quantization,
                                                            .threads = threads}));
  out.info = out.served->info();
  out.scorer = std::make_unique<ServingScorer>(out.served.get(), out.info.context_length);
  return out;
}

StatusOr<Json> evaluate(const EvalArguments& arguments) {
  MOLE_ASSIGN_OR_RETURN(ScoredModel model, load(arguments));
  MOLE_ASSIGN_OR_RETURN(auto tokenizer, text::Tokenizer::load(arguments.tokenizer));
  const int64_t context = model.info.context_length;
  const int64_t window =
      arguments.window_tokens > 0 ? std::min(arguments.window_tokens, context) : context;
  Evaluator evaluator(model.score(), *tokenizer, model.info.bos_token_id,
                      arguments.batch_sequences);
  std::ofstream log_probs;
  if (!arguments.log_probs.empty()) {
    log_probs.open(arguments.log_probs);
    evaluator.set_listener([&](auto targets, auto values) {
      Json line = {{"targets", std::vector<TokenId>(targets.begin(), targets.end())},
                   {"log_probs", std::vector<float>(values.begin(), values.end())}};
      log_probs << line.dump() << "\n";
    });
  }
  MOLE_RETURN_IF_ERROR(arguments.data.empty() ? add_text(arguments, *tokenizer, window, &evaluator)
                                              : add_shards(arguments, window, &evaluator));
  MOLE_ASSIGN_OR_RETURN(const EvalResult result, evaluator.finish());
  if (log_probs.is_open() && !log_probs.flush()) {
    return absl::InternalError(arguments.log_probs + ": cannot write");
  }
  Json out = result.to_json();
  out["model"] = arguments.model;
  out["dtype"] = arguments.dtype;
  if (!arguments.quantization.empty()) {
    out["quantization"] = model.info.quantization;
    out["weight_bytes"] = model.info.weight_bytes;
  }
  out["window_tokens"] = window;
  return out;
}

}  // namespace

int run_eval(int argc, const char* const* argv) {
  EvalArguments arguments;
  Options options("trainer eval",
                  "Perplexity of a model per token and per byte, as JSON. Each token is predicted "
                  "once, in windows that begin with BOS.");
  options.add("model", &arguments.model, "model directory");
  options.add("tokenizer", &arguments.tokenizer, "folder with tokenizer.json; default: --model");
  options.add_list("input", &arguments.inputs, "text: .txt, .jsonl with \"text\", or folders");
  options.add("data", &arguments.data, "token shards instead of --input");
  options.add_choice("split", &arguments.split, {"heldout", "train"}, "of --data");
  options.add_choice("dtype", &arguments.dtype, {"float32", "bfloat16"}, "to compute in");
  options.add_choice("quantization", &arguments.quantization,
                     {"", "auto", "none", "int8", "int8-g128", "int8-a16", "int4", "fp8"},
                     "score with the server's forward and weights of this format");
  options.add("window-tokens", &arguments.window_tokens, 0, 1 << 20, "tokens",
              "0 = the model's context");
  options.add("max-tokens", &arguments.tokens_max, 0, INT64_MAX, "tokens", "0 = all");
  options.add("batch-sequences", &arguments.batch_sequences, 1, 4096, "windows", "scored at once");
  options.add("threads", &arguments.threads, 0, 1024, "threads", "0 = all cores");
  options.add("log-probs", &arguments.log_probs,
              "file for each window's targets and log-probabilities, as JSON lines");
  int exit_code = kExitOk;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (arguments.model.empty() || arguments.inputs.empty() == arguments.data.empty()) {
    return report("eval",
                  absl::InvalidArgumentError("accepted: --model, and either --input or --data"));
  }
  if (arguments.tokenizer.empty()) arguments.tokenizer = arguments.model;
  const StatusOr<Json> result = evaluate(arguments);
  if (!result.ok()) return report("eval", result.status());
  std::cout << result->dump(2) << "\n";
  return kExitOk;
}

}  // namespace mole::trainer
