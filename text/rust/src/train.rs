//! Trains a byte-level BPE or a Unigram vocabulary. The algorithms are the crate's; around them stands
//! what makes the result a function of text and options alone: words in a fixed order, floats summed
//! in a fixed number of parts, ties settled by spelling.

use ahash::AHashMap;
use compact_str::CompactString;
use serde::Deserialize;
use serde_json::{json, Value};
use tokenizers::models::bpe::{BpeTrainer, BPE};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Model, OffsetReferential, OffsetType, PreTokenizer};

use crate::border::{Failure, Outcome};

const VOCAB_SIZE_MAX: usize = 1 << 20;
const UNK_TOKEN: &str = "<unk>";
/// The lattice of a longer word loses its probabilities to rounding; such words are hashes and base64.
const WORD_CHARS_MAX: usize = 1000;
/// Pieces that training starts from, for each that it shall keep. It drops a quarter of them per round,
/// so this sets its time: from the crate's million, 4,000 pieces of 9.5 MB of text took 195 s.
const SEED_FACTOR: usize = 20;
const SEED_MAX: usize = 1_000_000;
/// Threads of Unigram training. The crate sums floats in one part per thread and adds the parts in any
/// order: two parts have only one sum.
const UNIGRAM_THREADS: usize = 2;
/// The crate's step between the scores of characters that training dropped and that are put back.
const PENALTY_STEP: f64 = 0.0001;

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ByteLevelBpe,
    Unigram,
}

#[derive(Deserialize)]
struct Options {
    kind: Kind,
    vocab_size: usize,
    min_frequency: u64,
    special_tokens: Vec<String>,
    bos_token: String,
}

impl Options {
    /// Tokens that every vocabulary of this kind has, whatever the text.
    fn fixed_tokens(&self) -> usize {
        let unk = self.kind == Kind::Unigram && !self.special_tokens.iter().any(|t| t == UNK_TOKEN);
        self.special_tokens.len() + 256 + usize::from(unk)
    }

    fn check(&self) -> Outcome<()> {
        for (index, token) in self.special_tokens.iter().enumerate() {
            if token.is_empty() {
                return Err(Failure::invalid("special_tokens holds an empty string"));
            }
            if self.special_tokens[..index].contains(token) {
                return Err(Failure::invalid(format!("special_tokens holds {token:?} twice")));
            }
        }
        if !self.bos_token.is_empty() && !self.special_tokens.contains(&self.bos_token) {
            return Err(Failure::invalid(format!(
                "bos_token {:?} is not among special_tokens",
                self.bos_token
            )));
        }
        let least = self.fixed_tokens() + 1;
        if self.vocab_size < least || self.vocab_size > VOCAB_SIZE_MAX {
            return Err(Failure::invalid(format!(
                "vocab_size {} is outside [{least}, {VOCAB_SIZE_MAX}]: 256 bytes, special tokens and \
                 at least one learned token need room",
                self.vocab_size
            )));
        }
        Ok(())
    }

    fn special(&self) -> Vec<AddedToken> {
        self.special_tokens.iter().map(|t| AddedToken::from(t.as_str(), true)).collect()
    }
}

pub struct Trainer {
    options: Options,
    /// Cuts text into words as the finished tokenizer will.
    splitter: tokenizers::Tokenizer,
    counts: AHashMap<CompactString, u64>,
}

impl Trainer {
    pub fn new(options: &str) -> Outcome<Self> {
        let options: Options = serde_json::from_str(options)
            .map_err(|e| Failure::invalid(format!("training options: {e}")))?;
        options.check()?;
        let empty = json!({"type": "BPE", "vocab": {}, "merges": []});
        let file = tokenizer_json(&options, &[], &Value::Null, empty);
        let mut splitter: tokenizers::Tokenizer =
            file.to_string().parse().map_err(|e| Failure::internal(format!("{e}")))?;
        // Text may hold special tokens (document ends); no word may grow across or out of them.
        splitter.add_special_tokens(&options.special());
        Ok(Trainer { options, splitter, counts: AHashMap::new() })
    }

    pub fn feed(&mut self, text: &str) -> Outcome<()> {
        let mut words = self
            .splitter
            .get_added_vocabulary()
            .extract_and_normalize(self.splitter.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.splitter.get_pre_tokenizer() {
            pre_tokenizer
                .pre_tokenize(&mut words)
                .map_err(|e| Failure::internal(format!("the text can't be split: {e}")))?;
        }
        for (word, _, token) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if token.is_some() || word.is_empty() {
                continue;
            }
            match self.counts.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    self.counts.insert(word.into(), 1);
                }
            }
        }
        Ok(())
    }

    pub fn finish(&mut self) -> Outcome<String> {
        if self.counts.is_empty() {
            return Err(Failure::invalid("the text files hold no text"));
        }
        let file = match self.options.kind {
            Kind::ByteLevelBpe => self.train_bpe()?,
            Kind::Unigram => self.train_unigram()?,
        };
        let text = format!("{file}\n");
        // What we write, we can read.
        crate::tokenizer::Tokenizer::load(&text)
            .map_err(|e| Failure::internal(format!("the trained tokenizer: {}", e.message)))?;
        Ok(text)
    }

    fn train_bpe(&self) -> Outcome<Value> {
        let options = &self.options;
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(options.vocab_size)
            .min_frequency(options.min_frequency)
            .special_tokens(options.special())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut model = BPE::default();
        trainer
            .do_train(&self.counts, &mut model)
            .map_err(|e| Failure::invalid(format!("BPE training: {e}")))?;
        let bos_id = model.token_to_id(&options.bos_token);
        let model = serde_json::to_value(&model).map_err(|e| Failure::internal(e.to_string()))?;
        Ok(tokenizer_json(options, &options.special_tokens, &json!(bos_id), model))
    }

    fn train_unigram(&self) -> Outcome<Value> {
        let options = &self.options;
        let budget = options.vocab_size - options.fixed_tokens();
        let pieces = learn_pieces(&self.counts, budget)?;
        let score_min = pieces.iter().map(|(_, score)| *score).fold(0.0, f64::min);
        let mut names = options.special_tokens.clone();
        if !names.iter().any(|name| name == UNK_TOKEN) {
            names.push(UNK_TOKEN.to_string());
        }
        let unk_id = names.iter().position(|name| name == UNK_TOKEN);
        let mut vocab: Vec<(String, f64)> = names.iter().map(|name| (name.clone(), 0.0)).collect();
        // Below the score of any way to spell "<0x41>" with letters: a byte token stands for a byte
        // that no piece covers, never for those six characters in a text.
        let byte_score = 8.0 * score_min - 100.0;
        vocab.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), byte_score)));
        let taken: std::collections::HashSet<String> =
            vocab.iter().map(|(name, _)| name.clone()).collect();
        vocab.extend(pieces.into_iter().filter(|(piece, _)| !taken.contains(piece)));
        let bos_id = names.iter().position(|name| *name == options.bos_token);
        let model = Unigram::from(vocab, unk_id, true)
            .map_err(|e| Failure::internal(format!("the trained Unigram model: {e}")))?;
        let model = serde_json::to_value(&model).map_err(|e| Failure::internal(e.to_string()))?;
        Ok(tokenizer_json(options, &names, &json!(bos_id), model))
    }
}

/// Learns at most `budget` pieces with their log-probabilities, best first.
fn learn_pieces(
    counts: &AHashMap<CompactString, u64>,
    budget: usize,
) -> Outcome<Vec<(String, f64)>> {
    let mut sentences = sentences_of(counts, budget.div_ceil(2));
    split_evenly(&mut sentences);
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(u32::try_from(budget).unwrap_or(u32::MAX))
        .seed_size((budget * SEED_FACTOR).min(SEED_MAX))
        .build()
        .map_err(|e| Failure::internal(e.to_string()))?;
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(UNIGRAM_THREADS)
        .build()
        .map_err(|e| Failure::internal(format!("no thread for training: {e}")))?;
    let mut model = Unigram::default();
    threads
        .install(|| trainer.do_train(sentences, &mut model))
        .map_err(|e| Failure::invalid(format!("Unigram training: {e}")))?;
    let mut pieces: Vec<(String, f64)> = model.iter().cloned().collect();
    // Characters that training dropped come back with scores just above the lowest, in the order of a
    // hash table. They are all equally unlikely; give them one score.
    let score_min = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let score_put_back = score_min + PENALTY_STEP * pieces.len() as f64;
    for (piece, score) in &mut pieces {
        if *score <= score_put_back && piece.chars().count() == 1 {
            *score = score_min;
        }
    }
    pieces.sort_by(|(a, a_score), (b, b_score)| b_score.total_cmp(a_score).then_with(|| a.cmp(b)));
    Ok(pieces)
}

/// Makes the number of sentences even, so that two threads get exactly two parts: the most frequent
/// sentence is counted once apart.
fn split_evenly(sentences: &mut Vec<(String, u32)>) {
    if sentences.len() % UNIGRAM_THREADS == 0 {
        return;
    }
    let most =
        sentences.iter().enumerate().max_by_key(|(at, (_, count))| (*count, usize::MAX - at));
    let Some((at, _)) = most else { return };
    sentences[at].1 = sentences[at].1.saturating_sub(1).max(1);
    let again = (sentences[at].0.clone(), 1);
    sentences.push(again);
}

/// Words in a fixed order, of at most `alphabet_max` different characters: the most frequent ones. The
/// others are left to byte fallback and cut the words they stand in.
fn sentences_of(counts: &AHashMap<CompactString, u64>, alphabet_max: usize) -> Vec<(String, u32)> {
    let mut char_counts: AHashMap<char, u64> = AHashMap::new();
    for (word, count) in counts {
        for c in word.chars() {
            *char_counts.entry(c).or_default() += count;
        }
    }
    let mut chars: Vec<(char, u64)> = char_counts.into_iter().collect();
    chars.sort_by_key(|(c, count)| (std::cmp::Reverse(*count), *c));
    chars.truncate(alphabet_max);
    let alphabet: std::collections::HashSet<char> = chars.into_iter().map(|(c, _)| c).collect();
    let mut parts: std::collections::BTreeMap<&str, u64> = Default::default();
    for (word, count) in counts {
        // NUL separates sentences inside the trainer.
        for part in word.split(|c: char| c == '\0' || !alphabet.contains(&c)) {
            if !part.is_empty() && part.chars().count() <= WORD_CHARS_MAX {
                *parts.entry(part).or_default() += count;
            }
        }
    }
    parts
        .into_iter()
        .map(|(part, count)| (part.to_string(), u32::try_from(count).unwrap_or(u32::MAX)))
        .collect()
}

/// The whole file. `names` are the special tokens in the order of their ids, from 0.
fn tokenizer_json(options: &Options, names: &[String], bos_id: &Value, model: Value) -> Value {
    let added: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(id, name)| {
            json!({"id": id, "content": name, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let (normalizer, pre_tokenizer, decoder) = match options.kind {
        Kind::ByteLevelBpe => {
            let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                                    "trim_offsets": false, "use_regex": true});
            (Value::Null, byte_level.clone(), byte_level)
        }
        Kind::Unigram => unigram_steps(),
    };
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
           "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
           "post_processor": post_processor(&options.bos_token, bos_id), "decoder": decoder,
           "model": model})
}

/// A space becomes "▁" and one more goes to the front, which decoding takes away again: so leading
/// spaces survive, which Metaspace's own prepending would merge.
fn unigram_steps() -> (Value, Value, Value) {
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let pre_tokenizer = json!({"type": "Metaspace", "replacement": "▁",
                               "prepend_scheme": "never", "split": true});
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    (normalizer, pre_tokenizer, decoder)
}

fn post_processor(bos_token: &str, bos_id: &Value) -> Value {
    if bos_token.is_empty() || bos_id.is_null() {
        return Value::Null;
    }
    let bos = json!({"SpecialToken": {"id": bos_token, "type_id": 0}});
    let first = json!({"Sequence": {"id": "A", "type_id": 0}});
    let second = json!({"Sequence": {"id": "B", "type_id": 1}});
    json!({"type": "TemplateProcessing", "single": [bos, first], "pair": [bos, first, second],
           "special_tokens": {bos_token: {"id": bos_token, "ids": [bos_id], "tokens": [bos_token]}}})
}
