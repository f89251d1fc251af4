// What a tokenizer knows about each of its tokens, computed once at load. Inside of text/ only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/mole_text.h"

namespace mole::text {

struct TokenTable {
  struct Token {
    std::string spelling;       // as tokenizer.json writes it: "Ġthe"
    std::string text;           // bytes anywhere but at the start: " the"
    std::string text_at_start;  // bytes as the first decoded token: "the" under Metaspace
    bool known = false;         // the id has a token; otherwise decode passes it over
    bool special = false;
    bool is_byte = false;  // byte fallback: decoded together with its neighbours of the same kind
  };

  std::vector<Token> tokens;  // by id
  mole_text_join join = MOLE_TEXT_JOIN_WHOLE;
  std::string strip;         // one code point that is cut from the start of the whole text …
  uint32_t strip_count = 0;  // … at most so often
};

}  // namespace mole::text
