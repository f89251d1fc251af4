//! Control tokens that a user types are plain text. The crate's own switch for that
//! (`set_encode_special_tokens`) is not enough: it needs `&mut`, it lets a Unigram or WordLevel model
//! find the control token as an ordinary piece, and it keeps control tokens that files declare as
//! not special (DeepSeek's "<｜User｜>"). So user text is encoded by a second tokenizer, read from
//! the same file with every control token renamed to something that nobody can type. Ids stay.
//!
//! A conversation mixes both: the template's control tokens count, a client's don't. There the client's
//! are marked before the template runs (`Guard`), and the marks decide after it.

use std::collections::hash_map::RandomState;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Map, Value};

use crate::border::{Failure, Outcome};

/// A noncharacter, which no text has for its own sake: put behind the first character of what looks
/// like a control token, it keeps the tokenizer from finding one there.
pub const GUARD: char = '\u{FDD1}';

/// Special tokens, and tokens of the form <|name|> or <｜name｜> whatever the file says of them.
fn is_control(token: &Value) -> bool {
    let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
    let content = token.get("content").and_then(Value::as_str).unwrap_or("");
    let barred = |open: &str, close: &str| {
        content.len() > open.len() + close.len()
            && content.starts_with(open)
            && content.ends_with(close)
    };
    !content.is_empty() && (special || barred("<|", "|>") || barred("<｜", "｜>"))
}

/// A prefix that no user can guess: a noncharacter and 128 random bits of this process.
fn unguessable_prefix() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("\u{FDD0}{:016x}{:016x}", random(), random())
}

struct Renaming {
    control: HashSet<String>,
    prefix: String,
}

impl Renaming {
    fn rename(&self, name: &mut String) {
        if self.control.contains(name.as_str()) {
            name.insert_str(0, &self.prefix);
        }
    }

    fn rename_value(&self, value: &mut Value) {
        if let Value::String(name) = value {
            self.rename(name);
        }
    }

    /// True for a merge that builds a control token or needs one.
    fn touches(&self, merge: &Value, subword_prefix: &str) -> bool {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(two) => match two.as_slice() {
                [Value::String(left), Value::String(right)] => {
                    Some((left.as_str(), right.as_str()))
                }
                _ => None,
            },
            _ => None,
        };
        pair.is_some_and(|(left, right)| {
            let bare = right.strip_prefix(subword_prefix).unwrap_or(right);
            self.control.contains(left)
                || self.control.contains(right)
                || self.control.contains(&format!("{left}{bare}"))
        })
    }

    fn apply_to_model(&self, model: &mut Value) {
        match model.get_mut("vocab") {
            Some(Value::Object(vocab)) => {
                *vocab = std::mem::take(vocab)
                    .into_iter()
                    .map(|(mut name, id)| {
                        self.rename(&mut name);
                        (name, id)
                    })
                    .collect();
            }
            Some(Value::Array(pieces)) => {
                for piece in pieces {
                    if let Some(name) = piece.get_mut(0) {
                        self.rename_value(name);
                    }
                }
            }
            _ => {}
        }
        if let Some(unk_token) = model.get_mut("unk_token") {
            self.rename_value(unk_token);
        }
        let subword_prefix = model
            .get("continuing_subword_prefix")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_string();
        if let Some(Value::Array(merges)) = model.get_mut("merges") {
            merges.retain(|merge| !self.touches(merge, &subword_prefix));
        }
    }
}

/// The contents of all control tokens of a tokenizer.json.
pub fn control_tokens(root: &Value) -> HashSet<String> {
    root.get("added_tokens")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|token| is_control(token))
        .filter_map(|token| token.get("content")?.as_str().map(str::to_string))
        .collect()
}

/// The tokenizer.json of user text; None if the file has no control tokens.
pub fn without_control_tokens(root: &Value, control: &HashSet<String>) -> Option<String> {
    if control.is_empty() {
        return None;
    }
    let renaming = Renaming { control: control.clone(), prefix: unguessable_prefix() };
    let mut plain = root.clone();
    for token in plain.get_mut("added_tokens")?.as_array_mut()? {
        if let Some(content) = token.get_mut("content") {
            renaming.rename_value(content);
        }
    }
    renaming.apply_to_model(plain.get_mut("model")?);
    Some(plain.to_string())
}

/// Marks control tokens in a client's text.
pub struct Guard {
    finder: Option<AhoCorasick>,
}

impl Guard {
    pub fn new(control: &HashSet<String>) -> Outcome<Self> {
        if control.is_empty() {
            return Ok(Guard { finder: None });
        }
        // Standard matching reports overlapping tokens too: marking one must not free the next.
        let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(control);
        let finder = finder.map_err(|e| Failure::invalid(format!("\"added_tokens\": {e}")))?;
        Ok(Guard { finder: Some(finder) })
    }

    fn mark_text(&self, text: &mut String) {
        let Some(finder) = &self.finder else { return };
        let mut starts: Vec<usize> =
            finder.find_overlapping_iter(text.as_str()).map(|found| found.start()).collect();
        starts.sort_unstable();
        starts.dedup();
        for start in starts.into_iter().rev() {
            let first = text[start..].chars().next().map_or(0, char::len_utf8);
            text.insert(start + first, GUARD);
        }
    }

    /// Marks every string of a JSON value, names of keys included.
    pub fn mark(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.mark_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark(item)),
            Value::Object(object) => self.mark_object(object),
            _ => {}
        }
    }

    pub fn mark_object(&self, object: &mut Map<String, Value>) {
        *object = std::mem::take(object)
            .into_iter()
            .map(|(mut name, mut value)| {
                self.mark_text(&mut name);
                self.mark(&mut value);
                (name, value)
            })
            .collect();
    }
}

pub fn without_guards(text: &str) -> String {
    text.replace(GUARD, "")
}
