#include "trainer/data/tokenize.h"

#include <cstdio>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "text/tokenizer.h"
#include "trainer/data/corpus.h"
#include "trainer/data/shard.h"

namespace mole::trainer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTokenizerBytesMax = 64u << 20;

/// Collects the documents of one split and writes a shard whenever enough have come together.
class SplitWriter {
 public:
  SplitWriter(const TokenizeOptions& options, std::string name, int32_t id_bytes)
      : options_(options), name_(std::move(name)), id_bytes_(id_bytes) {}

  Status add(TokenId bos, const std::vector<TokenId>& ids, TokenId eos, size_t text_bytes) {
    pending_.push_back(bos);
    pending_.insert(pending_.end(), ids.begin(), ids.end());
    pending_.push_back(eos);
    ++documents_;
    bytes_ += static_cast<int64_t>(text_bytes);
    if (static_cast<int64_t>(pending_.size()) < options_.shard_tokens_max) return absl::OkStatus();
    return flush();
  }

  Status flush() {
    if (pending_.empty()) return absl::OkStatus();
    char number[16];
    std::snprintf(number, sizeof(number), "%05zu", shards_.size());
    const std::string file = name_ + "-" + number + ".tokens";
    MOLE_ASSIGN_OR_RETURN(const std::string digest,
                          write_shard(options_.output / file, pending_, id_bytes_));
    shards_.push_back({{"file", file}, {"tokens", pending_.size()}, {"sha256", digest}});
    tokens_ += static_cast<int64_t>(pending_.size());
    pending_.clear();
    return absl::OkStatus();
  }

  Json summary() const {
    return {{"documents", documents_}, {"tokens", tokens_}, {"bytes", bytes_}, {"shards", shards_}};
  }

 private:
  const TokenizeOptions& options_;
  std::string name_;
  int32_t id_bytes_;
  std::vector<TokenId> pending_;
  int64_t documents_ = 0, tokens_ = 0, bytes_ = 0;
  Json shards_ = Json::array();
};

/// Held out or not, by the text alone: the same document always falls on the same side.
bool held_out(const std::string& document, double fraction) {
  const std::string hex = sha256_hex(std::as_bytes(std::span(document)));
  const double draw = static_cast<double>(std::stoull(hex.substr(0, 8), nullptr, 16));
  return draw < fraction * 0x1.0p32;
}

struct Job {
  const TokenizeOptions& options;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  TokenId bos = -1, eos = -1;
  SplitWriter train, heldout;

  Status add(SplitWriter* writer, const std::string& text) {
    if (text.empty()) return absl::OkStatus();
    // A corpus that spells out "<|eos|>" means the characters, not the end of a document.
    MOLE_ASSIGN_OR_RETURN(
        const std::vector<TokenId> ids,
        tokenizer->encode(text, {.add_special_tokens = false, .parse_special_tokens = false}));
    return writer->add(bos, ids, eos, text.size());
  }

  Status add_document(const std::string& document) {
    if (options.heldout_by == "tail" && options.heldout_fraction > 0) {
      const size_t cut = tail_begin(document, options.heldout_fraction);
      MOLE_RETURN_IF_ERROR(add(&train, document.substr(0, cut)));
      return add(&heldout, document.substr(cut));
    }
    return add(held_out(document, options.heldout_fraction) ? &heldout : &train, document);
  }
};

Status check(const TokenizeOptions& options) {
  if (options.heldout_by != "document" && options.heldout_by != "tail") {
    return absl::InvalidArgumentError("heldout-by: '" + options.heldout_by +
                                      "', accepted: document, tail");
  }
  if (!(options.heldout_fraction >= 0.0 && options.heldout_fraction <= 0.5)) {
    return absl::InvalidArgumentError(
        "heldout-fraction: " + std::to_string(options.heldout_fraction) + ", accepted: 0 to 0.5");
  }
  return absl::OkStatus();
}

StatusOr<TokenId> special_id(const text::Tokenizer& tokenizer, const std::string& option,
                             const std::string& token) {
  const auto id = tokenizer.token_to_id(token);
  if (id.has_value()) return *id;
  return absl::InvalidArgumentError(option + ": '" + token + "' is not in the tokenizer");
}

StatusOr<Json> describe_input(const fs::path& file) {
  MOLE_ASSIGN_OR_RETURN(const std::string contents, read_file(file, kTextFileBytesMax));
  return Json{{"file", file.filename().string()},
              {"bytes", contents.size()},
              {"sha256", sha256_hex(std::as_bytes(std::span(contents)))}};
}

}  // namespace

size_t tail_begin(const std::string& document, double heldout_fraction) {
  const size_t wanted =
      static_cast<size_t>(static_cast<double>(document.size()) * (1.0 - heldout_fraction));
  const size_t line_end = document.find('\n', wanted);
  if (line_end != std::string::npos) return line_end + 1;
  size_t cut = wanted;  // no line break: at least between code points
  while (cut < document.size() && (static_cast<unsigned char>(document[cut]) & 0xC0) == 0x80) ++cut;
  return cut;
}

StatusOr<Json> tokenize_corpus(const TokenizeOptions& options) {
  MOLE_RETURN_IF_ERROR(check(options));
  MOLE_ASSIGN_OR_RETURN(const std::string tokenizer_json,
                        read_file(options.tokenizer / "tokenizer.json", kTokenizerBytesMax));
  MOLE_ASSIGN_OR_RETURN(auto tokenizer, text::Tokenizer::load(options.tokenizer));
  MOLE_ASSIGN_OR_RETURN(const TokenId bos, special_id(*tokenizer, "bos-token", options.bos_token));
  MOLE_ASSIGN_OR_RETURN(const TokenId eos, special_id(*tokenizer, "eos-token", options.eos_token));
  std::error_code error;
  fs::create_directories(options.output, error);
  if (error) return absl::InternalError(options.output.string() + ": " + error.message());

  const int32_t id_bytes = tokenizer->vocab_size() <= 65536 ? 2 : 4;
  Job job{options,
          tokenizer,
          bos,
          eos,
          SplitWriter(options, "train", id_bytes),
          SplitWriter(options, "heldout", id_bytes)};
  Json inputs = Json::array();
  MOLE_ASSIGN_OR_RETURN(const auto files, list_text_files(options.inputs));
  for (const fs::path& file : files) {
    log::info("tokenize", {{"file", file.string()}});
    MOLE_RETURN_IF_ERROR(
        for_each_document(file, [&](const std::string& text) { return job.add_document(text); }));
    MOLE_ASSIGN_OR_RETURN(Json input, describe_input(file));
    inputs.push_back(std::move(input));
  }
  if (!options.heldout_inputs.empty()) {
    MOLE_ASSIGN_OR_RETURN(const auto heldout_files, list_text_files(options.heldout_inputs));
    for (const fs::path& file : heldout_files) {
      MOLE_RETURN_IF_ERROR(for_each_document(
          file, [&](const std::string& text) { return job.add(&job.heldout, text); }));
      MOLE_ASSIGN_OR_RETURN(Json input, describe_input(file));
      inputs.push_back(std::move(input));
    }
  }
  MOLE_RETURN_IF_ERROR(job.train.flush());
  MOLE_RETURN_IF_ERROR(job.heldout.flush());

  Json manifest = {
      {"format", "mole-tokens"},
      {"version", 1},
      {"tokenizer_sha256", sha256_hex(std::as_bytes(std::span(tokenizer_json)))},
      {"vocab_size", tokenizer->vocab_size()},
      {"id_bytes", id_bytes},
      {"bos_token_id", bos},
      {"eos_token_id", eos},
      {"inputs", inputs},
      {"splits", {{"train", job.train.summary()}, {"heldout", job.heldout.summary()}}}};
  MOLE_RETURN_IF_ERROR(
      write_file_atomic(options.output / "manifest.json", manifest.dump(2) + "\n"));
  return manifest;
}

}  // namespace mole::trainer
