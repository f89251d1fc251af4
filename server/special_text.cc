#include "server/special_text.h"

#include <algorithm>
#include <charconv>

namespace mole::server {
namespace {

// Stands before and after the number of a hidden text. No template or tokenizer gives a meaning to
// this code point of a private plane; where a user writes it, it is hidden too.
constexpr std::string_view kMarker = "\xf4\x8f\xbf\xbd";  // U+10FFFD

}  // namespace

std::string_view longest_prefix(const std::vector<std::string>& spellings, std::string_view text) {
  auto begin = spellings.begin(),
       end = spellings.end();  // those that share text's first `depth` bytes
  std::string_view longest;
  for (size_t depth = 0; begin != end; ++depth) {
    if (begin->size() == depth) {
      longest = *begin;  // sorted: the shortest comes first
      if (++begin == end) break;
    }
    if (depth == text.size()) break;
    const auto next = static_cast<unsigned char>(text[depth]);
    const auto at = [depth](const std::string& s) { return static_cast<unsigned char>(s[depth]); };
    begin = std::partition_point(begin, end, [&](const std::string& s) { return at(s) < next; });
    end = std::partition_point(begin, end, [&](const std::string& s) { return at(s) == next; });
  }
  return longest;
}

void SpecialText::hide(Json* value) {
  if (value->is_string()) {
    hide_in(&value->get_ref<std::string&>());
  } else if (value->is_structured()) {
    for (Json& inner : *value) hide(&inner);
  }
}

void SpecialText::hide_in(std::string* text) {
  const auto found_at = [&](size_t at) {
    const std::string_view rest = std::string_view(*text).substr(at);
    return rest.substr(0, kMarker.size()) == kMarker ? kMarker.size()
                                                     : longest_prefix(spellings_, rest).size();
  };
  std::string replaced;
  for (size_t i = 0; i < text->size();) {
    size_t end = i;  // of a run of spellings
    while (end < text->size()) {
      const size_t length = found_at(end);
      if (length == 0) break;
      end += length;
    }
    if (end == i) {
      replaced += (*text)[i++];
      continue;
    }
    replaced += kMarker;
    replaced += std::to_string(hidden_.size());
    replaced += kMarker;
    hidden_.push_back(text->substr(i, end - i));
    i = end;
  }
  *text = std::move(replaced);
}

// What `number` stands for. A template that tears a marker apart leaves it as it is: plain text.
std::string_view SpecialText::original(std::string_view number) const {
  size_t index = 0;
  const char* end = number.data() + number.size();
  const auto [stop, code] = std::from_chars(number.data(), end, index);
  const bool known = stop == end && code == std::errc() && index < hidden_.size();
  return known ? std::string_view(hidden_[index]) : number;
}

StatusOr<std::vector<TokenId>> SpecialText::encode(const text::Tokenizer& tokenizer,
                                                   std::string_view rendered,
                                                   bool add_special_tokens,
                                                   size_t tokens_max) const {
  std::vector<TokenId> ids;
  bool first = true;
  const auto append = [&](std::string_view piece, bool parse) -> Status {
    if (piece.empty()) return absl::OkStatus();
    const text::EncodeOptions options{.add_special_tokens = first && add_special_tokens,
                                      .parse_special_tokens = parse};
    MOLE_ASSIGN_OR_RETURN(const auto part, tokenizer.encode(piece, options));
    ids.insert(ids.end(), part.begin(), part.end());
    first = false;
    if (ids.size() <= tokens_max) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "context_length_exceeded: the prompt has more tokens than the context; accepted: at most " +
        std::to_string(tokens_max));
  };
  while (!rendered.empty()) {
    const size_t begin = rendered.find(kMarker);
    MOLE_RETURN_IF_ERROR(append(rendered.substr(0, begin), true));
    if (begin == std::string_view::npos) break;
    rendered.remove_prefix(begin + kMarker.size());
    const size_t end = std::min(rendered.find(kMarker), rendered.size());
    MOLE_RETURN_IF_ERROR(append(original(rendered.substr(0, end)), false));
    rendered.remove_prefix(std::min(rendered.size(), end + kMarker.size()));
  }
  return ids;
}

}  // namespace mole::server
