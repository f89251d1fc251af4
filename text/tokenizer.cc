#include "text/tokenizer.h"

#include <utility>

#include "base/file.h"
#include "text/rust_border.h"
#include "text/token_table.h"

namespace mole::text {
namespace {

constexpr size_t kFileBytesMax = size_t{64} << 20;

std::string to_string(const uint8_t* data, size_t size) {
  return std::string(reinterpret_cast<const char*>(data), size);
}

TokenTable read_table(const mole_text_tokenizer* rust) {
  const mole_text_shape shape = mole_text_tokenizer_shape(rust);
  TokenTable table;
  table.join = static_cast<mole_text_join>(shape.join);
  table.strip = to_string(shape.strip, shape.strip_size);
  table.strip_count = shape.strip_count;
  table.tokens.resize(shape.vocab_size);
  for (uint32_t id = 0; id < shape.vocab_size; ++id) {
    const mole_text_token from = mole_text_tokenizer_token(rust, id);
    TokenTable::Token& token = table.tokens[id];
    token.spelling = to_string(from.spelling, from.spelling_size);
    token.text = to_string(from.text, from.text_size);
    token.text_at_start = to_string(from.text_at_start, from.text_at_start_size);
    token.known = (from.flags & MOLE_TEXT_TOKEN_KNOWN) != 0;
    token.special = (from.flags & MOLE_TEXT_TOKEN_SPECIAL) != 0;
    token.is_byte = (from.flags & MOLE_TEXT_TOKEN_BYTE) != 0;
  }
  return table;
}

}  // namespace

struct Tokenizer::Impl {
  struct Free {
    void operator()(mole_text_tokenizer* rust) const { mole_text_tokenizer_free(rust); }
  };
  std::unique_ptr<mole_text_tokenizer, Free> rust;
  TokenTable table;
  std::string none;  // what an unknown id has for text

  const TokenTable::Token* token(TokenId id) const {
    const auto index = static_cast<size_t>(id);
    return id >= 0 && index < table.tokens.size() ? &table.tokens[index] : nullptr;
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::load(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "tokenizer.json";
  MOLE_ASSIGN_OR_RETURN(const std::string json, read_file(path, kFileBytesMax));
  mole_text_tokenizer* rust = nullptr;
  const Status status = take_status(mole_text_tokenizer_load(rust_bytes(json), json.size(), &rust));
  MOLE_RETURN_IF_ERROR(annotate(status, path.string()));
  auto impl = std::make_unique<Impl>();
  impl->rust.reset(rust);
  impl->table = read_table(rust);
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

StatusOr<std::vector<TokenId>> Tokenizer::encode(std::string_view text,
                                                 const EncodeOptions& options) const {
  mole_text_ids ids{};
  MOLE_RETURN_IF_ERROR(take_status(
      mole_text_tokenizer_encode(impl_->rust.get(), rust_bytes(text), text.size(),
                                 options.add_special_tokens, options.parse_special_tokens, &ids)));
  return take_ids(ids);
}

StatusOr<std::string> Tokenizer::decode(const std::vector<TokenId>& ids,
                                        bool skip_special_tokens) const {
  // A negative id becomes one above every vocabulary, which the library refuses.
  const std::vector<uint32_t> raw(ids.begin(), ids.end());
  mole_text_bytes text{};
  MOLE_RETURN_IF_ERROR(take_status(mole_text_tokenizer_decode(
      impl_->rust.get(), raw.data(), raw.size(), skip_special_tokens, &text)));
  return take_bytes(text);
}

const std::string& Tokenizer::token_bytes(TokenId id) const {
  const TokenTable::Token* token = impl_->token(id);
  return token ? token->text : impl_->none;
}

bool Tokenizer::is_special(TokenId id) const {
  const TokenTable::Token* token = impl_->token(id);
  return token && token->special;
}

std::optional<TokenId> Tokenizer::token_to_id(std::string_view token) const {
  uint32_t id = 0;
  if (!mole_text_tokenizer_token_to_id(impl_->rust.get(), rust_bytes(token), token.size(), &id)) {
    return std::nullopt;
  }
  return static_cast<TokenId>(id);
}

const std::string& Tokenizer::token_spelling(TokenId id) const {
  const TokenTable::Token* token = impl_->token(id);
  return token ? token->spelling : impl_->none;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(impl_->table.tokens.size()); }

const TokenTable& Tokenizer::table() const { return impl_->table; }

const mole_text_tokenizer* Tokenizer::rust() const { return impl_->rust.get(); }

}  // namespace mole::text
