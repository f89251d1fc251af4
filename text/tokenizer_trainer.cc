#include "text/tokenizer_trainer.h"

#include <cctype>
#include <fstream>
#include <memory>
#include <string_view>

#include "base/file.h"
#include "base/json.h"
#include "text/rust_border.h"

namespace mole::text {
namespace {

// Text goes to the trainer in blocks of about this size: its splitter keeps some 30 bytes for each
// byte of a block.
constexpr size_t kBlockBytes = size_t{1} << 20;

struct Free {
  void operator()(mole_text_trainer* trainer) const { mole_text_trainer_free(trainer); }
};

/// Where `text` can be cut without cutting a word or a run of spaces: before the last line that
/// starts with a word. Without such a line: before the last code point that starts.
size_t cut_position(std::string_view text) {
  for (size_t i = text.size(); i-- > 1;) {
    if (text[i - 1] == '\n' && !std::isspace(static_cast<unsigned char>(text[i]))) return i;
  }
  size_t end = text.size() - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80) --end;
  return end > 0 ? end : text.size();
}

Status feed(mole_text_trainer* trainer, std::string_view text) {
  return take_status(mole_text_trainer_feed(trainer, rust_bytes(text), text.size()));
}

Status feed_file(mole_text_trainer* trainer, const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path)) {
    return absl::NotFoundError(path.string() + ": can't be read as a text file");
  }
  std::string text;
  uint64_t offset = 0;  // of text[0] in the file
  while (in) {
    const size_t kept = text.size();
    text.resize(kept + kBlockBytes);
    in.read(text.data() + kept, static_cast<std::streamsize>(kBlockBytes));
    text.resize(kept + static_cast<size_t>(in.gcount()));
    if (text.empty()) break;
    const size_t end = in ? cut_position(text) : text.size();
    MOLE_RETURN_IF_ERROR(annotate(feed(trainer, std::string_view(text).substr(0, end)),
                                  path.string() + ", block at byte " + std::to_string(offset)));
    text.erase(0, end);
    offset += end;
  }
  if (in.bad()) return absl::InternalError(path.string() + ": reading failed");
  return absl::OkStatus();
}

}  // namespace

Status train_tokenizer(const std::vector<std::filesystem::path>& text_files,
                       const TokenizerTrainOptions& options, const std::filesystem::path& output) {
  if (options.vocab_size < 1 || options.min_frequency < 0) {
    return absl::InvalidArgumentError(
        "vocab_size " + std::to_string(options.vocab_size) + " and min_frequency " +
        std::to_string(options.min_frequency) + ": accepted are at least 1 and at least 0");
  }
  const Json json = {
      {"kind", options.kind == TokenizerKind::kUnigram ? "unigram" : "byte_level_bpe"},
      {"vocab_size", options.vocab_size},
      {"min_frequency", options.min_frequency},
      {"special_tokens", options.special_tokens},
      {"bos_token", options.bos_token}};
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  mole_text_trainer* raw = nullptr;
  MOLE_RETURN_IF_ERROR(take_status(mole_text_trainer_new(rust_bytes(text), text.size(), &raw)));
  const std::unique_ptr<mole_text_trainer, Free> trainer(raw);
  for (const std::filesystem::path& path : text_files) {
    MOLE_RETURN_IF_ERROR(feed_file(trainer.get(), path));
  }
  mole_text_bytes file{};
  MOLE_RETURN_IF_ERROR(take_status(mole_text_trainer_finish(trainer.get(), &file)));
  return write_file_atomic(output, take_bytes(file));
}

}  // namespace mole::text
