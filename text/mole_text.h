/* The one C header between our C++ and the Rust library of text/rust (tokenizers, minijinja).
 *
 * Ownership: an object from a `_load`, `_parse` or `_new` function is freed with its `_free`; bytes
 * and ids that a function fills in are freed with mole_text_bytes_free / mole_text_ids_free; a view
 * of a token lives as long as its tokenizer. Every other pointer is only read during the call.
 * Every function may be called from any thread; a tokenizer and a template may be used by several
 * threads at once, a trainer by one at a time. No panic leaves the library: it becomes
 * MOLE_TEXT_INTERNAL. An output is written only if the code is MOLE_TEXT_OK.
 * Tables shared with the Rust side: text/rust/src/border.rs holds the same structs field by field.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mole_text_code {
  MOLE_TEXT_OK = 0,
  MOLE_TEXT_INVALID_ARGUMENT = 1,
  MOLE_TEXT_INTERNAL = 2,
  MOLE_TEXT_OUT_OF_FUEL = 3 /* a template ran longer than its fuel */
};

typedef struct {
  uint8_t* data; /* may be NULL if size is 0 */
  size_t size;
} mole_text_bytes;

typedef struct {
  uint32_t* data; /* may be NULL if size is 0 */
  size_t size;
} mole_text_ids;

typedef struct {
  int32_t code;            /* mole_text_code */
  mole_text_bytes message; /* UTF-8; the caller frees it; empty if code is MOLE_TEXT_OK */
} mole_text_status;

void mole_text_bytes_free(mole_text_bytes bytes);
void mole_text_ids_free(mole_text_ids ids);

/* ---- Tokenizer ------------------------------------------------------------------------------- */

typedef struct mole_text_tokenizer mole_text_tokenizer;

/* How the tokens' texts join to the decoded text. */
enum mole_text_join {
  MOLE_TEXT_JOIN_BYTES = 0, /* bytes, then one lossy UTF-8 decoding of them all */
  MOLE_TEXT_JOIN_TEXT = 1,  /* texts; runs of byte-fallback tokens are decoded together */
  MOLE_TEXT_JOIN_WHOLE = 2  /* the decoder looks at all tokens at once: no text before the end */
};

enum mole_text_token_flag {
  MOLE_TEXT_TOKEN_KNOWN = 1,   /* the id has a token */
  MOLE_TEXT_TOKEN_SPECIAL = 2, /* left out by decode when special tokens are skipped */
  MOLE_TEXT_TOKEN_BYTE = 4     /* byte fallback: `text` and `text_at_start` are one byte */
};

typedef struct {
  const uint8_t* spelling;
  size_t spelling_size;
  const uint8_t* text; /* anywhere but at the start */
  size_t text_size;
  const uint8_t* text_at_start; /* as the first token that is decoded */
  size_t text_at_start_size;
  uint32_t flags; /* mole_text_token_flag */
} mole_text_token;

typedef struct {
  uint32_t vocab_size;  /* largest id + 1 */
  uint32_t join;        /* mole_text_join */
  const uint8_t* strip; /* one code point, cut from the start of the decoded text … */
  size_t strip_size;    /* … 0 if nothing is cut … */
  uint32_t strip_count; /* … at most so many times */
} mole_text_shape;

/* `json`: the contents of a tokenizer.json. */
mole_text_status mole_text_tokenizer_load(const uint8_t* json, size_t json_size,
                                          mole_text_tokenizer** out);
void mole_text_tokenizer_free(mole_text_tokenizer* tokenizer);
mole_text_shape mole_text_tokenizer_shape(const mole_text_tokenizer* tokenizer);
/* All zero for an id without a token. */
mole_text_token mole_text_tokenizer_token(const mole_text_tokenizer* tokenizer, uint32_t id);
/* Returns 1 and sets `*id`, or returns 0. */
int32_t mole_text_tokenizer_token_to_id(const mole_text_tokenizer* tokenizer, const uint8_t* token,
                                        size_t token_size, uint32_t* id);
/* Flags are 0 or 1. INVALID_ARGUMENT if `text` is not UTF-8. */
mole_text_status mole_text_tokenizer_encode(const mole_text_tokenizer* tokenizer,
                                            const uint8_t* text, size_t text_size,
                                            int32_t add_special_tokens,
                                            int32_t parse_special_tokens, mole_text_ids* out);
/* INVALID_ARGUMENT for an id outside [0, vocab_size). */
mole_text_status mole_text_tokenizer_decode(const mole_text_tokenizer* tokenizer,
                                            const uint32_t* ids, size_t ids_size,
                                            int32_t skip_special_tokens, mole_text_bytes* out);

/* ---- Chat template --------------------------------------------------------------------------- */

typedef struct mole_text_template mole_text_template;

typedef struct { /* JSON texts */
  const uint8_t* messages;
  size_t messages_size;
  const uint8_t* tools;
  size_t tools_size;
  const uint8_t* kwargs; /* an object or null: extra variables */
  size_t kwargs_size;
  int32_t add_generation_prompt; /* 0 or 1 */
} mole_text_template_input;

/* `special_tokens`: a JSON object {"bos_token": "<s>", …} or null. */
mole_text_status mole_text_template_parse(const uint8_t* source, size_t source_size,
                                          const uint8_t* special_tokens, size_t special_tokens_size,
                                          mole_text_template** out);
void mole_text_template_free(mole_text_template* chat_template);
/* `fuel`: template instructions; `output_max`: bytes. */
mole_text_status mole_text_template_render(const mole_text_template* chat_template,
                                           const mole_text_template_input* input, uint64_t fuel,
                                           uint64_t output_max, mole_text_bytes* out);

typedef struct {
  mole_text_bytes text;
  mole_text_ids ids;
} mole_text_prompt;

/* Renders and encodes: control tokens that the template writes become control tokens, those in the
 * input are plain text. With `add_special_tokens` (0 or 1) the post-processor adds its own. The
 * caller frees both members of `out`. */
mole_text_status mole_text_template_encode(const mole_text_template* chat_template,
                                           const mole_text_tokenizer* tokenizer,
                                           const mole_text_template_input* input,
                                           int32_t add_special_tokens, uint64_t fuel,
                                           uint64_t output_max, mole_text_prompt* out);

/* ---- Training -------------------------------------------------------------------------------- */

typedef struct mole_text_trainer mole_text_trainer;

/* `options`: a JSON object {"kind": "byte_level_bpe" | "unigram", "vocab_size": n,
 * "min_frequency": n, "special_tokens": [...], "bos_token": "" or one of special_tokens}. */
mole_text_status mole_text_trainer_new(const uint8_t* options, size_t options_size,
                                       mole_text_trainer** out);
void mole_text_trainer_free(mole_text_trainer* trainer);
/* One piece of text, cut where words end. */
mole_text_status mole_text_trainer_feed(mole_text_trainer* trainer, const uint8_t* text,
                                        size_t text_size);
/* Trains on all that was fed; `out` is the tokenizer.json. */
mole_text_status mole_text_trainer_finish(mole_text_trainer* trainer, mole_text_bytes* out);

#ifdef __cplusplus
}
#endif
