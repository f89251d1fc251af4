//! A tokenizer.json of any kind the `tokenizers` crate knows, with a table of its tokens.

use serde_json::Value;
use tokenizers::{Encoding, OffsetReferential, OffsetType, Token};

use crate::border::{caught, Failure, Outcome, ShapeView, TokenView};
use crate::decoder_shape::DecoderShape;
use crate::plain_text::{self, Guard, GUARD};

/// No published vocabulary is larger than some hundred thousand; a file that claims more is broken,
/// and the table of its tokens would take all memory.
const VOCAB_SIZE_MAX: u32 = 1 << 22;

const FLAG_KNOWN: u32 = 1;
const FLAG_SPECIAL: u32 = 2;
const FLAG_BYTE: u32 = 4;

#[derive(Clone, Default)]
struct TokenEntry {
    spelling: String,
    text: Vec<u8>,
    text_at_start: Vec<u8>,
    flags: u32,
}

pub struct Tokenizer {
    full: tokenizers::Tokenizer,
    /// The same vocabulary without its control tokens, for text of users; None if there are none.
    plain: Option<tokenizers::Tokenizer>,
    guard: Guard,
    shape: DecoderShape,
    tokens: Vec<TokenEntry>,
}

impl Tokenizer {
    pub fn load(json: &str) -> Outcome<Self> {
        let root: Value =
            serde_json::from_str(json).map_err(|e| Failure::invalid(format!("not JSON: {e}")))?;
        if !root.get("model").is_some_and(Value::is_object) {
            return Err(Failure::invalid("\"model\" is missing or not an object"));
        }
        // A crate's panic while it reads a file means that the file is wrong, not that we are.
        caught(|| Self::build(json, &root)).map_err(|e| Failure::invalid(e.message))
    }

    fn build(json: &str, root: &Value) -> Outcome<Self> {
        let control = plain_text::control_tokens(root);
        let guard = Guard::new(&control)?;
        let plain_json = plain_text::without_control_tokens(root, &control);
        let (full, plain) = std::thread::scope(|scope| {
            let plain = plain_json
                .as_deref()
                .map(|plain_json| scope.spawn(move || caught(|| parse(plain_json))));
            let full = parse(json);
            let plain = plain.map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Failure::internal("a thread panicked")))
            });
            (full, plain.transpose())
        });
        let (full, plain) = (full?, plain?);
        let shape = DecoderShape::of(full.get_decoder());
        let tokens = token_table(&full, &shape)?;
        let tokenizer = Tokenizer { full, plain, guard, shape, tokens };
        tokenizer.try_out()?;
        Ok(tokenizer)
    }

    /// Finds at load what would otherwise fail at the first request: an unknown token without a
    /// stand-in, a decoder that panics.
    fn try_out(&self) -> Outcome<()> {
        let ids = self.encode("Hello, world.\n", true, true)?;
        self.encode("Hello, world.\n", false, false)?;
        if ids.iter().any(|id| *id as usize >= self.tokens.len()) {
            return Err(Failure::invalid("the post-processor adds ids that have no token"));
        }
        self.decode(&ids, true).map(|_| ())
    }

    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Outcome<Vec<u32>> {
        let tokenizer = match &self.plain {
            Some(plain) if !parse_special => plain,
            _ => &self.full,
        };
        let encoding = tokenizer
            .encode_fast(text, add_special)
            .map_err(|e| Failure::invalid(format!("the text can't be encoded: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Ids of a rendered conversation, where guards mark the control tokens that are a client's text.
    /// The crate handles the text between added tokens piece by piece anyway, so encoding the pieces
    /// apart changes nothing, but for a Metaspace whose prepending is "first": there a piece with a
    /// guard starts as the text starts.
    pub fn encode_guarded(&self, text: &str, add_special: bool) -> Outcome<Vec<u32>> {
        if !text.contains(GUARD) {
            return self.encode(text, add_special, true);
        }
        let mut ids = Vec::new();
        let pieces = self
            .full
            .get_added_vocabulary()
            .extract_and_normalize(None::<&tokenizers::NormalizerWrapper>, text);
        for (piece, _, token) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            match token {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => {
                    ids.extend(self.encode(&plain_text::without_guards(piece), false, false)?)
                }
            }
        }
        if add_special {
            ids = self.post_process(ids)?;
        }
        Ok(ids)
    }

    /// Adds the post-processor's tokens to what is encoded already.
    fn post_process(&self, ids: Vec<u32>) -> Outcome<Vec<u32>> {
        let spelled = |id: u32| self.full.id_to_token(id).unwrap_or_default();
        let tokens = ids.into_iter().map(|id| Token::new(id, spelled(id), (0, 0))).collect();
        let encoding = self
            .full
            .post_process(Encoding::from_tokens(tokens, 0), None, true)
            .map_err(|e| Failure::invalid(format!("the text can't be encoded: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Outcome<String> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.tokens.len()) {
            return Err(Failure::invalid(format!(
                "token id {} is outside [0, {})",
                *id as i32,
                self.tokens.len()
            )));
        }
        self.full
            .decode(ids, skip_special_tokens)
            .map_err(|e| Failure::internal(format!("the ids can't be decoded: {e}")))
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.full.token_to_id(token)
    }

    pub fn shape(&self) -> ShapeView {
        ShapeView {
            vocab_size: self.tokens.len() as u32,
            join: self.shape.join as u32,
            strip: self.shape.strip.as_ptr(),
            strip_size: self.shape.strip.len(),
            strip_count: self.shape.strip_count,
        }
    }

    pub fn token(&self, id: u32) -> TokenView {
        static NONE: TokenEntry = TokenEntry {
            spelling: String::new(),
            text: Vec::new(),
            text_at_start: Vec::new(),
            flags: 0,
        };
        let entry = self.tokens.get(id as usize).unwrap_or(&NONE);
        TokenView {
            spelling: entry.spelling.as_ptr(),
            spelling_size: entry.spelling.len(),
            text: entry.text.as_ptr(),
            text_size: entry.text.len(),
            text_at_start: entry.text_at_start.as_ptr(),
            text_at_start_size: entry.text_at_start.len(),
            flags: entry.flags,
        }
    }
}

fn parse(json: &str) -> Outcome<tokenizers::Tokenizer> {
    let mut tokenizer: tokenizers::Tokenizer =
        json.parse().map_err(|e| Failure::invalid(format!("{e}")))?;
    // The file may carry the limits of a training run. Nobody wants a prompt cut or padded silently;
    // transformers resets both as well.
    tokenizer
        .with_truncation(None)
        .map_err(|e| Failure::internal(format!("truncation can't be reset: {e}")))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn token_table(
    tokenizer: &tokenizers::Tokenizer,
    shape: &DecoderShape,
) -> Outcome<Vec<TokenEntry>> {
    let vocab = tokenizer.get_vocab(true);
    let Some(id_max) = vocab.values().max() else {
        return Err(Failure::invalid("\"model\".\"vocab\" is empty"));
    };
    if *id_max >= VOCAB_SIZE_MAX {
        return Err(Failure::invalid(format!(
            "\"vocab\" has the id {id_max}; accepted are ids below {VOCAB_SIZE_MAX}"
        )));
    }
    let mut tokens = vec![TokenEntry::default(); *id_max as usize + 1];
    for (id, entry) in tokens.iter_mut().enumerate() {
        let Some(spelling) = tokenizer.id_to_token(id as u32) else {
            continue;
        };
        let texts = shape.texts(&spelling)?;
        entry.flags = FLAG_KNOWN;
        if tokenizer.get_added_vocabulary().is_special_token(&spelling) {
            entry.flags |= FLAG_SPECIAL;
        }
        if texts.is_byte {
            entry.flags |= FLAG_BYTE;
        }
        entry.spelling = spelling;
        entry.text = texts.inside;
        entry.text_at_start = texts.at_start;
    }
    Ok(tokens)
}
