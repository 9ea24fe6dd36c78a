//! The tokenizer of a model, whichever its kind.

use std::borrow::Cow;
use std::collections::BTreeMap;

use formats::gguf::Gguf;

use crate::TokenizerError;
use crate::bpe::Bpe;
use crate::error::shown;
use crate::merges::{MergedWord, Record, Watcher};
use crate::pipeline::Pipeline;
use crate::pretokenizer::PreTokenizer;
use crate::special::{Edges, Fragment, SpecialTokens, Wanted};
use crate::spm::Spm;
use crate::vocabulary::{Spelling, TokenKind, Trim, Vocabulary};

pub(crate) const MODEL_KEY: &str = "tokenizer.ggml.model";
pub(crate) const PRE_KEY: &str = "tokenizer.ggml.pre";

/// Text is encoded in parts of at most this size, so that positions fit in 32 bits (a space can grow to three bytes).
const PART_BYTES_MAX: usize = 1 << 30;

/// Control tokens that end an answer in the models that have them, besides those that a file's keys name.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
    "</s>",
];

/// Pairs of tokens between which models put what they think before they answer.
const REASONING_TEXTS: &[(&str, &str)] = &[("<think>", "</think>"), ("[THINK]", "[/THINK]")];

/// Text to token ids and back, as a model file describes it. Cheap to share, never changes.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    algorithm: Algorithm,
    /// Control, unknown and user-defined tokens: looked for in trusted text.
    special_tokens: SpecialTokens,
    /// User-defined tokens only: looked for in any text.
    user_defined: SpecialTokens,
    /// Control and unknown tokens: kept from arising out of messages.
    guarded: SpecialTokens,
    edges: Edges,
    settings: Settings,
    chat_template: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Algorithm {
    Bpe(Bpe),
    Spm(Box<Spm>),
    Pipeline(Box<Pipeline>),
}

#[derive(Debug)]
pub(crate) struct Settings {
    bos: Option<u32>,
    eos: Option<u32>,
    end_ids: Vec<u32>,
    /// What goes in front of a text and behind it.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    add_space_prefix: bool,
    reasoning_markers: Option<(u32, u32)>,
}

/// What a kind of tokenizer does when the file does not say.
#[derive(Clone, Copy, Debug, Default)]
struct Defaults {
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
    add_space_prefix: bool,
}

/// Where in a text a fragment stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Nothing stands before it.
    at_start: bool,
    /// Nothing, or a special token, stands before it.
    after_special: bool,
}

impl Tokenizer {
    /// Reads the tokenizer from a model file's metadata.
    ///
    /// # Errors
    /// [`TokenizerError`] when a key is missing or wrong, or names a kind of tokenizer that is not known.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let model = gguf.get_str(MODEL_KEY)?.ok_or(TokenizerError::Missing { key: MODEL_KEY })?;
        let (mut vocabulary, algorithm, defaults) = match model {
            "gpt2" => {
                let pre_tokenizer = PreTokenizer::by_name(gguf.get_str(PRE_KEY)?.unwrap_or("default"))?;
                let vocabulary = Vocabulary::from_gguf(gguf, Spelling::ByteLevel)?;
                let bpe = Bpe::from_gguf(gguf, &vocabulary, pre_tokenizer)?;
                let defaults = Defaults { add_bos: pre_tokenizer.add_bos, ..Defaults::default() };
                (vocabulary, Algorithm::Bpe(bpe), defaults)
            }
            "llama" => {
                let vocabulary = Vocabulary::from_gguf(gguf, Spelling::SentencePiece)?;
                let spm = Spm::from_gguf(gguf, &vocabulary)?;
                let defaults = Defaults { add_bos: true, add_space_prefix: true, ..Defaults::default() };
                (vocabulary, Algorithm::Spm(Box::new(spm)), defaults)
            }
            "bert" => {
                let vocabulary = Vocabulary::from_gguf(gguf, Spelling::SentencePiece)?;
                let pipeline = Pipeline::word_piece(gguf, &vocabulary)?;
                let defaults = Defaults { add_bos: true, add_sep: true, ..Defaults::default() };
                (vocabulary, Algorithm::Pipeline(Box::new(pipeline)), defaults)
            }
            "t5" => {
                let vocabulary = Vocabulary::from_gguf(gguf, Spelling::SentencePiece)?;
                let pipeline = Pipeline::unigram(gguf, &vocabulary)?;
                let defaults = Defaults { add_eos: true, ..Defaults::default() };
                (vocabulary, Algorithm::Pipeline(Box::new(pipeline)), defaults)
            }
            other => return Err(TokenizerError::UnknownModel { name: shown(other) }),
        };
        vocabulary.set_trims(trims(gguf, &vocabulary)?);
        let settings = Settings::from_gguf(gguf, &vocabulary, defaults)?;
        let chat_template = gguf.get_str("tokenizer.chat_template")?.map(str::to_owned);
        Ok(Self::new(vocabulary, algorithm, settings, chat_template))
    }

    pub(crate) fn new(
        vocabulary: Vocabulary,
        algorithm: Algorithm,
        settings: Settings,
        chat_template: Option<String>,
    ) -> Self {
        Self {
            special_tokens: SpecialTokens::new(&vocabulary, Wanted::All),
            user_defined: SpecialTokens::new(&vocabulary, Wanted::UserDefined),
            guarded: SpecialTokens::new(&vocabulary, Wanted::Guarded),
            edges: Edges::new(&vocabulary),
            vocabulary,
            algorithm,
            settings,
            chat_template,
        }
    }

    /// Text to ids. `add_special` adds the start and end tokens that the file asks for; `parse_special` reads special
    /// tokens in the text (user-defined tokens, which are ordinary text, are always read).
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        self.encode_watched(text, add_special, parse_special, &mut ())
    }

    /// How the words of a text become its tokens, merge by merge; the tokens of all of them are those that `encode` gives
    /// without start and end tokens. `None` where the encoder merges nothing, or not before our eyes: see
    /// [`Self::algorithm`]. What it takes grows with the square of the length of words.
    pub fn merges(&self, text: &str, parse_special: bool) -> Option<Vec<MergedWord>> {
        if matches!(self.algorithm, Algorithm::Pipeline(_)) {
            return None;
        }
        let mut record = Record::default();
        self.encode_watched(text, false, parse_special, &mut record);
        Some(record.words)
    }

    /// The way from text to tokens: `bpe`, `sentencepiece_bpe`, `word_piece`, `unigram` or `word_level`.
    pub fn algorithm(&self) -> &'static str {
        match &self.algorithm {
            Algorithm::Bpe(_) => "bpe",
            Algorithm::Spm(_) => "sentencepiece_bpe",
            Algorithm::Pipeline(pipeline) => pipeline.name(),
        }
    }

    fn encode_watched(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
        watcher: &mut impl Watcher,
    ) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_special {
            ids.extend(&self.settings.prefix);
        }
        let mut place = Place::START;
        let special_tokens = if parse_special { &self.special_tokens } else { &self.user_defined };
        for fragment in special_tokens.split(&self.vocabulary, text) {
            self.encode_fragment(fragment, &mut place, watcher, &mut ids);
        }
        if add_special {
            ids.extend(&self.settings.suffix);
        }
        ids
    }

    /// Ids of a text with special tokens, in which `sentinel` stands wherever text must not be taken for one. The sentinel
    /// itself leaves no trace.
    pub(crate) fn encode_guarded(&self, text: &str, sentinel: char) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        let mut place = Place::START;
        for fragment in self.special_tokens.split(&self.vocabulary, text) {
            match fragment {
                Fragment::Text(guarded) if guarded.contains(sentinel) => {
                    let plain = guarded.replace(sentinel, "");
                    for fragment in self.user_defined.split(&self.vocabulary, &plain) {
                        self.encode_fragment(fragment, &mut place, &mut (), &mut ids);
                    }
                }
                _ => self.encode_fragment(fragment, &mut place, &mut (), &mut ids),
            }
        }
        if ids.first() != self.settings.prefix.first() {
            ids.splice(0..0, self.settings.prefix.iter().copied());
        }
        ids
    }

    fn encode_fragment(
        &self,
        fragment: Fragment<'_>,
        place: &mut Place,
        watcher: &mut impl Watcher,
        ids: &mut Vec<u32>,
    ) {
        match fragment {
            Fragment::Token(id) => {
                let written = self.vocabulary.piece(id).unwrap_or_default();
                watcher.begin(written, std::iter::once(written.len()));
                watcher.end(&[id]);
                ids.push(id);
                *place = Place { at_start: false, after_special: true };
            }
            Fragment::Text(text) => {
                let prefix = self.settings.add_space_prefix && place.after_special;
                let mut rest = text;
                while !rest.is_empty() {
                    let (part, after) = rest.split_at(rest.floor_char_boundary(PART_BYTES_MAX));
                    match &self.algorithm {
                        Algorithm::Bpe(bpe) => bpe.encode(&self.vocabulary, part, watcher, ids),
                        Algorithm::Spm(spm) if prefix && rest.len() == text.len() => {
                            spm.encode(&self.vocabulary, &format!(" {part}"), watcher, ids);
                        }
                        Algorithm::Spm(spm) => spm.encode(&self.vocabulary, part, watcher, ids),
                        Algorithm::Pipeline(pipeline) => {
                            pipeline.encode(&self.vocabulary, part, place.at_start && rest.len() == text.len(), ids);
                        }
                    }
                    rest = after;
                }
                *place = Place { at_start: false, after_special: false };
            }
        }
    }

    /// The bytes of ids, special tokens in their written form. May end inside a character; ids outside the vocabulary are
    /// left out. A space that `encode` put in front is kept.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().filter_map(|&id| self.vocabulary.piece(id)).flatten().copied().collect()
    }

    /// The bytes of one id; may be part of a character.
    pub fn piece(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        self.vocabulary.piece(id).map(Cow::Borrowed)
    }

    /// The text of one id as the file writes it.
    pub fn text(&self, id: u32) -> Option<&str> {
        self.vocabulary.text(id)
    }

    /// Ids run from 0 to this, exclusive.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The model's start token.
    pub fn bos(&self) -> Option<u32> {
        self.settings.bos
    }

    /// The model's end token.
    pub fn eos(&self) -> Option<u32> {
        self.settings.eos
    }

    /// All tokens that end an answer, sorted: end of text, of turn, of message.
    pub fn end_ids(&self) -> &[u32] {
        &self.settings.end_ids
    }

    /// Whether the token is no text of its own: control and unknown tokens.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.vocabulary.kind(id), Some(TokenKind::Control | TokenKind::Unknown))
    }

    /// The id of a control, unknown or user-defined token by its written form.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocabulary.special(text.as_bytes())
    }

    /// The tokens between which the model puts its reasoning, such as `<think>` and `</think>`, if it declares both.
    pub fn reasoning_markers(&self) -> Option<(u32, u32)> {
        self.settings.reasoning_markers
    }

    /// The file's chat template, if it has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// What goes in front of a text and behind it.
    pub(crate) fn around(&self) -> (&[u32], &[u32]) {
        (&self.settings.prefix, &self.settings.suffix)
    }

    /// The ends of an answer that are not known without being named: neither the end token nor one that all models end with.
    pub(crate) fn named_ends(&self) -> Vec<u32> {
        let known = Settings::new(&self.vocabulary, self.bos(), self.eos(), self.eos().into_iter()).end_ids;
        self.end_ids().iter().copied().filter(|id| !known.contains(id)).collect()
    }

    /// The written form of a token, for templates.
    pub(crate) fn written(&self, id: Option<u32>) -> &str {
        id.and_then(|id| self.vocabulary.text(id)).unwrap_or_default()
    }

    /// Where control and unknown tokens stand in a text, whatever other tokens are around them.
    pub(crate) fn guarded_fragments<'a>(&self, text: &'a str) -> Vec<Fragment<'a>> {
        self.guarded.split(&self.vocabulary, text)
    }

    /// Starts and ends of control and unknown tokens.
    pub(crate) fn edges(&self) -> &Edges {
        &self.edges
    }
}

impl Place {
    const START: Self = Self { at_start: true, after_special: true };
}

/// Phi-3 was trained with the spaces behind its special tokens taken away. Its GGUF files do not say so: llama.cpp knows it by
/// the name, and leaves out the tokens that stand in plain text.
fn trims(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<BTreeMap<u32, Trim>, TokenizerError> {
    let name = gguf.get_str("general.name")?.unwrap_or_default().to_lowercase();
    if !["phi-3", "phi3"].iter().any(|part| name.contains(part)) {
        return Ok(BTreeMap::new());
    }
    let plain = ["<unk>", "<s>", "<|endoftext|>"];
    let swallowing = vocabulary.specials().filter(|(_, text, _)| !plain.contains(text));
    Ok(swallowing.map(|(id, _, _)| (id, Trim { left: false, right: true })).collect())
}

impl Settings {
    /// Ends of an answer are the tokens of `ends`, and control tokens that are known to be such.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        bos: Option<u32>,
        eos: Option<u32>,
        ends: impl Iterator<Item = u32>,
    ) -> Self {
        let is_control = |id: &u32| vocabulary.kind(*id) == Some(TokenKind::Control);
        let known = END_TEXTS.iter().filter_map(|text| vocabulary.special(text.as_bytes())).filter(is_control);
        let mut end_ids: Vec<u32> = ends.chain(known).collect();
        end_ids.sort_unstable();
        end_ids.dedup();
        let reasoning_markers = REASONING_TEXTS.iter().find_map(|(start, end)| {
            Some((vocabulary.special(start.as_bytes())?, vocabulary.special(end.as_bytes())?))
        });
        let (prefix, suffix) = (Vec::new(), Vec::new());
        Self { bos, eos, end_ids, prefix, suffix, add_space_prefix: false, reasoning_markers }
    }

    /// Has these put in front of a text and behind it.
    pub(crate) fn around(self, prefix: Vec<u32>, suffix: Vec<u32>) -> Self {
        Self { prefix, suffix, ..self }
    }

    fn from_gguf(gguf: &Gguf, vocabulary: &Vocabulary, defaults: Defaults) -> Result<Self, TokenizerError> {
        let id = |key: &'static str| -> Result<Option<u32>, TokenizerError> {
            match gguf.get_u32(key)? {
                Some(id) if id as usize >= vocabulary.len() => Err(TokenizerError::Invalid {
                    key,
                    reason: format!("{id} is not an id of the {} tokens", vocabulary.len()),
                }),
                id => Ok(id),
            }
        };
        let flag = |key: &str, default: bool| gguf.get_bool(key).map(|flag| flag.unwrap_or(default));
        let mut bos = id("tokenizer.ggml.bos_token_id")?;
        let eos = id("tokenizer.ggml.eos_token_id")?;
        let mut sep = None;
        if defaults.add_sep {
            // BERT's names for what stands around a text.
            bos = bos.or(id("tokenizer.ggml.cls_token_id")?).or_else(|| vocabulary.special(b"[CLS]"));
            sep = id("tokenizer.ggml.seperator_token_id")?.or_else(|| vocabulary.special(b"[SEP]"));
        }
        let ends = [eos, id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?];
        let added = |token: Option<u32>, wanted: bool| token.filter(|_| wanted);
        let prefix = Vec::from_iter(added(bos, flag("tokenizer.ggml.add_bos_token", defaults.add_bos)?));
        let mut suffix = Vec::from_iter(added(eos, flag("tokenizer.ggml.add_eos_token", defaults.add_eos)?));
        suffix.extend(added(sep, flag("tokenizer.ggml.add_sep_token", defaults.add_sep)?));
        let add_space_prefix = flag("tokenizer.ggml.add_space_prefix", defaults.add_space_prefix)?;
        let settings = Self::new(vocabulary, bos, eos, ends.into_iter().flatten()).around(prefix, suffix);
        Ok(Self { add_space_prefix, ..settings })
    }
}
