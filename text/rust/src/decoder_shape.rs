//! What a decoder does to one token by itself, so that a stream can be decoded token by token and
//! still be what decoding the whole would give. Covered are decoders that work token by token up to
//! one joining step, and at most a cut at the start after it:
//!
//!     (Replace | Metaspace | WordPiece | Strip)*  [ByteFallback]  [Fuse | ByteLevel]  [Strip]
//!
//! That is every decoder that published language models use. Any other is "whole": its text is known
//! only once all tokens are.

use tokenizers::{Decoder, DecoderWrapper};

use crate::border::{Failure, Outcome};

/// mole_text_join of the C header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Join {
    Bytes = 0,
    Text = 1,
    Whole = 2,
}

pub struct DecoderShape {
    pub join: Join,
    /// The code point cut from the start of the joined text, and how often at most.
    pub strip: String,
    pub strip_count: u32,
    byte_fallback: bool,
    /// No decoder at all: tokens are joined by spaces.
    spaced: bool,
    /// The steps before the joining one; for Join::Whole the whole decoder.
    per_token: Vec<DecoderWrapper>,
}

pub struct TokenTexts {
    pub inside: Vec<u8>,
    pub at_start: Vec<u8>,
    pub is_byte: bool,
}

impl DecoderShape {
    pub fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let mut steps = Vec::new();
        if let Some(decoder) = decoder {
            flatten(decoder, &mut steps);
        }
        let whole = DecoderShape {
            join: Join::Whole,
            strip: String::new(),
            strip_count: 0,
            byte_fallback: false,
            spaced: decoder.is_none(),
            per_token: steps.clone(),
        };
        Self::streamable(&steps, decoder.is_none()).unwrap_or(whole)
    }

    fn streamable(steps: &[DecoderWrapper], spaced: bool) -> Option<Self> {
        let mut shape = DecoderShape {
            join: Join::Text,
            strip: String::new(),
            strip_count: 0,
            byte_fallback: false,
            spaced,
            per_token: Vec::new(),
        };
        let mut joined = false;
        for step in steps {
            match step {
                DecoderWrapper::Strip(cut) if joined => {
                    if cut.stop != 0 || shape.strip_count != 0 {
                        return None;
                    }
                    shape.strip = cut.content.to_string();
                    shape.strip_count = u32::try_from(cut.start).ok()?;
                }
                DecoderWrapper::Fuse(_) if joined => {}
                _ if joined => return None,
                DecoderWrapper::Fuse(_) => joined = true,
                DecoderWrapper::ByteLevel(_) if !shape.byte_fallback => {
                    joined = true;
                    shape.join = Join::Bytes;
                }
                DecoderWrapper::ByteFallback(_) if !shape.byte_fallback => {
                    shape.byte_fallback = true;
                }
                DecoderWrapper::Replace(_)
                | DecoderWrapper::Metaspace(_)
                | DecoderWrapper::WordPiece(_)
                | DecoderWrapper::Strip(_)
                    if !shape.byte_fallback =>
                {
                    shape.per_token.push(step.clone());
                }
                _ => return None,
            }
        }
        Some(shape)
    }

    /// The texts of one token. A decoder that fails or panics on a token fails the load.
    pub fn texts(&self, spelling: &str) -> Outcome<TokenTexts> {
        if self.join == Join::Whole {
            let text = self.run(vec![spelling.to_string()])?.concat().into_bytes();
            return Ok(TokenTexts { inside: text.clone(), at_start: text, is_byte: false });
        }
        // The first of two equal tokens shows the token at the start, the second shows it inside.
        let pair = self.run(vec![spelling.to_string(), spelling.to_string()])?;
        let [at_start, inside] = pair.as_slice() else {
            return Err(Failure::internal("a per-token decoder changed the number of tokens"));
        };
        if self.spaced {
            let inside = format!(" {inside}").into_bytes();
            return Ok(TokenTexts { inside, at_start: spelling.into(), is_byte: false });
        }
        if self.byte_fallback {
            // The two can differ only by a leading space rule, which no byte token has.
            if let (Some(byte), Some(byte_at_start)) =
                (fallback_byte(inside), fallback_byte(at_start))
            {
                return Ok(TokenTexts {
                    inside: vec![byte],
                    at_start: vec![byte_at_start],
                    is_byte: true,
                });
            }
        }
        Ok(TokenTexts {
            inside: self.to_bytes(inside),
            at_start: self.to_bytes(at_start),
            is_byte: false,
        })
    }

    fn run(&self, mut tokens: Vec<String>) -> Outcome<Vec<String>> {
        for step in &self.per_token {
            tokens = step
                .decode_chain(tokens)
                .map_err(|e| Failure::invalid(format!("\"decoder\" fails: {e}")))?;
        }
        Ok(tokens)
    }

    fn to_bytes(&self, token: &str) -> Vec<u8> {
        match self.join {
            Join::Bytes => byte_level_bytes(token),
            _ => token.as_bytes().to_vec(),
        }
    }
}

fn flatten(decoder: &DecoderWrapper, steps: &mut Vec<DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().for_each(|step| flatten(step, steps));
        }
        step => steps.push(step.clone()),
    }
}

/// The byte of a token like "<0x0A>", by the rule of the crate's ByteFallback.
fn fallback_byte(token: &str) -> Option<u8> {
    if token.len() == 6 && token.starts_with("<0x") && token.ends_with('>') {
        u8::from_str_radix(&token[3..5], 16).ok()
    } else {
        None
    }
}

/// The bytes that a token of a byte-level vocabulary spells: GPT-2's alphabet writes printable
/// Latin-1 as itself and the other 68 bytes as U+0100…. A token with any other character (an added
/// token) stands for itself.
fn byte_level_bytes(token: &str) -> Vec<u8> {
    let byte_of = |c: char| -> Option<u8> {
        let code = c as u32;
        match code {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(code as u8),
            0x100..=0x120 => Some((code - 0x100) as u8), // 0x00..=0x20
            0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8), // 0x7F..=0xA0
            0x143 => Some(0xAD),
            _ => None,
        }
    };
    token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.into())
}
