#include <string>
#include <vector>

#include "base/check.h"
#include "load_tests/checkpoint_writer.h"

namespace mole::load_tests {

namespace {

std::string utf8(int32_t code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

/// The printable character that stands for each byte in byte-level vocabularies: printable Latin-1
/// stands for itself, the others follow from U+0100 on. Source: GPT-2's byte-to-unicode table.
std::vector<std::string> byte_symbols() {
  std::vector<std::string> symbols;
  int32_t next = 0x100;
  for (int32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    symbols.push_back(utf8(printable ? byte : next++));
  }
  return symbols;
}

Json special(int64_t id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

}  // namespace

Json filler_tokenizer(int64_t vocab_size, int64_t bos, int64_t eos) {
  std::vector<std::string> words = byte_symbols();
  MOLE_CHECK_LE(static_cast<int64_t>(words.size()) + 2, vocab_size);
  const std::string space = words[' '];
  Json vocab = Json::object();
  size_t next = 0;
  for (int64_t id = 0; id < vocab_size; ++id) {
    if (id == bos || id == eos) {
      vocab[id == bos ? "<|bos|>" : "<|eos|>"] = id;
    } else if (next < words.size()) {
      vocab[words[next++]] = id;
    } else {
      vocab[space + "t" + std::to_string(id)] = id;
    }
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", false},
                           {"use_regex", true}};
  const Json template_bos = {{"SpecialToken", {{"id", "<|bos|>"}, {"type_id", 0}}}};
  const auto sequence = [](const char* id, int type) -> Json {
    return {{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", {special(bos, "<|bos|>"), special(eos, "<|eos|>")}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {template_bos, sequence("A", 0)}},
            {"pair", {template_bos, sequence("A", 0), sequence("B", 1)}},
            {"special_tokens",
             {{"<|bos|>", {{"id", "<|bos|>"}, {"ids", {bos}}, {"tokens", {"<|bos|>"}}}}}}}},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", Json::array()}}}};
}

}  // namespace mole::load_tests
