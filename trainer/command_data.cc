#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>

#include "base/options.h"
#include "text/tokenizer_trainer.h"
#include "trainer/commands.h"
#include "trainer/data/corpus.h"
#include "trainer/data/tokenize.h"

namespace mole::trainer {
namespace {

namespace fs = std::filesystem;

/// The tokenizer's trainer reads plain text, so the documents of JSON-lines files are written out
/// beside the output first; `*scratch` is then the folder to remove.
StatusOr<std::vector<fs::path>> plain_text_files(const std::vector<std::string>& inputs,
                                                 const fs::path& output, fs::path* scratch) {
  MOLE_ASSIGN_OR_RETURN(std::vector<fs::path> files, list_text_files(inputs));
  for (size_t i = 0; i < files.size(); ++i) {
    if (files[i].extension() != ".jsonl") continue;
    *scratch = output / "plain-text.tmp";
    fs::create_directories(*scratch);
    const fs::path plain = *scratch / (std::to_string(i) + ".txt");
    std::ofstream out(plain, std::ios::binary);
    MOLE_RETURN_IF_ERROR(for_each_document(files[i], [&](const std::string& text) {
      out << text << '\n';
      return absl::OkStatus();
    }));
    if (!out.flush()) return absl::InternalError(plain.string() + ": cannot write");
    files[i] = plain;
  }
  return files;
}

Status train(const std::vector<std::string>& inputs, const fs::path& output,
             const text::TokenizerTrainOptions& options) {
  std::error_code error;
  fs::create_directories(output, error);
  if (error) return absl::InternalError(output.string() + ": " + error.message());
  fs::path scratch;
  const auto files = plain_text_files(inputs, output, &scratch);
  Status status = files.status();
  if (status.ok()) status = text::train_tokenizer(*files, options, output / "tokenizer.json");
  if (!scratch.empty()) fs::remove_all(scratch, error);
  return status;
}

}  // namespace

int run_tokenizer_train(int argc, const char* const* argv) {
  std::vector<std::string> inputs, special_tokens;
  std::string output, kind = "bpe", bos_token = "<|bos|>";
  int64_t vocab_size = 4096, min_frequency = 2;
  Options options("trainer tokenizer train", "Trains a tokenizer.json from text.");
  options.add_list("input", &inputs, "text: .txt, .jsonl with \"text\", or folders of them");
  options.add("output", &output, "folder for tokenizer.json");
  options.add_choice("kind", &kind, {"bpe", "unigram"}, "byte-level BPE or Unigram");
  options.add("vocab-size", &vocab_size, 258, 1 << 20, "tokens", "special tokens included");
  options.add("min-frequency", &min_frequency, 1, 1 << 20, "", "of a pair that is merged");
  options.add_list("special-token", &special_tokens,
                   "gets the ids 0, 1, …; default <|bos|>, <|eos|>, <|pad|>");
  options.add("bos-token", &bos_token, "put before every text when encoding; \"\" for none");
  int exit_code = kExitOk;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (output.empty()) {
    return report("tokenizer train", absl::InvalidArgumentError("--output: must be given"));
  }
  if (special_tokens.empty()) special_tokens = {"<|bos|>", "<|eos|>", "<|pad|>"};
  const Status status = train(
      inputs, output,
      {.kind = kind == "bpe" ? text::TokenizerKind::kByteLevelBpe : text::TokenizerKind::kUnigram,
       .vocab_size = static_cast<int32_t>(vocab_size),
       .min_frequency = static_cast<int32_t>(min_frequency),
       .special_tokens = special_tokens,
       .bos_token = bos_token});
  return status.ok() ? kExitOk : report("tokenizer train", status);
}

int run_data_tokenize(int argc, const char* const* argv) {
  TokenizeOptions tokenize;
  std::string tokenizer, output;
  Options options(
      "trainer data tokenize",
      "Turns text into token shards and a manifest; the same input gives the same bytes.");
  options.add_list("input", &tokenize.inputs,
                   "text: .txt, .jsonl with \"text\", or folders of them");
  options.add_list("heldout-input", &tokenize.heldout_inputs, "text held out whole");
  options.add("heldout-fraction", &tokenize.heldout_fraction, 0.0, 0.5, "",
              "part of --input that is held out");
  options.add_choice("heldout-by", &tokenize.heldout_by, {"document", "tail"},
                     "whole documents by a hash of their text, or the end of each");
  options.add("tokenizer", &tokenizer, "folder with tokenizer.json");
  options.add("output", &output, "folder for shards and manifest.json");
  options.add("bos-token", &tokenize.bos_token, "stands before each document");
  options.add("eos-token", &tokenize.eos_token, "stands after each document");
  options.add("shard-tokens", &tokenize.shard_tokens_max, 1, int64_t{1} << 32, "tokens",
              "a shard ends with the document that passes this");
  int exit_code = kExitOk;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (tokenizer.empty() || output.empty()) {
    return report("data tokenize",
                  absl::InvalidArgumentError("--tokenizer and --output: must be given"));
  }
  tokenize.tokenizer = tokenizer;
  tokenize.output = output;
  const StatusOr<Json> manifest = tokenize_corpus(tokenize);
  if (!manifest.ok()) return report("data tokenize", manifest.status());
  Json summary = (*manifest)["splits"];
  for (auto& [name, split] : summary.items()) split["shards"] = split["shards"].size();
  std::cout << summary.dump(2) << "\n";
  return kExitOk;
}

}  // namespace mole::trainer
