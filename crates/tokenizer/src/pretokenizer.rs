//! Cutting text into words before byte-pair merging, as models were trained. Hand-written scanners instead of regular
//! expressions: each looks at every character a bounded number of times, whatever the text.

use crate::TokenizerError;
use crate::unicode::{is_letter, is_number, is_punctuation};

/// One pass over the text; a pre-tokenizer is a list of them, each cutting the pieces of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// `\p{N}`: each digit alone.
    EachNumber,
    /// `\p{N}+`: runs of digits.
    NumberRuns,
    /// `[0-9][0-9][0-9]`: threes of digits, from the left.
    DigitTriples,
    /// ``[\p{P}\$\+<=>\^~\|]+``: runs of punctuation.
    PunctuationRuns,
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3 {
        /// Most digits in one piece: n above.
        digits: usize,
    },
}

/// How a model's text is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PreTokenizer {
    passes: &'static [Pass],
    /// A word that is a token stays whole, whatever the merges say.
    pub(crate) whole_words: bool,
    /// Whether the start token is added when the file does not say.
    pub(crate) add_bos: bool,
}

const NAMES: &[(&[&str], PreTokenizer)] = &[
    (
        &["default"],
        PreTokenizer {
            passes: &[Pass::PunctuationRuns, Pass::Gpt2, Pass::NumberRuns, Pass::DigitTriples],
            whole_words: false,
            add_bos: false,
        },
    ),
    (&["gpt-2", "phi-2", "mpt", "olmo"], PreTokenizer { passes: &[Pass::Gpt2], whole_words: false, add_bos: false }),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        PreTokenizer { passes: &[Pass::EachNumber, Pass::Gpt2], whole_words: false, add_bos: false },
    ),
    (
        &["llama-bpe", "llama3", "llama-v3"],
        PreTokenizer { passes: &[Pass::Llama3 { digits: 3 }], whole_words: true, add_bos: true },
    ),
    (
        &["qwen2", "deepseek-r1-qwen"],
        PreTokenizer { passes: &[Pass::Llama3 { digits: 1 }], whole_words: false, add_bos: false },
    ),
];

impl PreTokenizer {
    /// The one that a file names in `tokenizer.ggml.pre`.
    pub(crate) fn by_name(name: &str) -> Result<Self, TokenizerError> {
        NAMES.iter().find(|(names, _)| names.contains(&name)).map(|(_, found)| *found).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().flat_map(|(names, _)| names.iter().copied()).collect();
            TokenizerError::UnknownPreTokenizer {
                name: name.chars().take(80).flat_map(char::escape_debug).collect(),
                supported: names.join(", "),
            }
        })
    }

    /// Calls `word` with each word in order; together they are the text.
    pub(crate) fn split<'a>(&self, text: &'a str, word: &mut dyn FnMut(&'a str)) {
        split(self.passes, text, word);
    }
}

fn split<'a>(passes: &[Pass], text: &'a str, word: &mut dyn FnMut(&'a str)) {
    let Some((pass, others)) = passes.split_first() else {
        word(text);
        return;
    };
    let mut rest = text;
    while !rest.is_empty() {
        let len = pass.next(rest);
        // A scanner that stood still would never end: it takes at least one character.
        let len = if len == 0 { rest.chars().next().map_or(rest.len(), char::len_utf8) } else { len };
        let (piece, after) = rest.split_at_checked(len).unwrap_or((rest, ""));
        split(others, piece, word);
        rest = after;
    }
}

/// Bytes of the longest start of `text` whose characters all fulfil `is`.
fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|char| !is(char)).unwrap_or(text.len())
}

/// What follows the first `len` bytes.
fn after(text: &str, len: usize) -> &str {
    text.get(len..).unwrap_or_default()
}

/// Neither space, letter nor number.
fn is_other(char: char) -> bool {
    !char.is_whitespace() && !is_letter(char) && !is_number(char)
}

impl Pass {
    /// Bytes of the first piece of a text that is not empty.
    fn next(self, text: &str) -> usize {
        match self {
            Self::EachNumber => match text.chars().next() {
                Some(first) if is_number(first) => first.len_utf8(),
                _ => run(text, |char| !is_number(char)),
            },
            Self::NumberRuns => either_run(text, is_number),
            Self::PunctuationRuns => either_run(text, |char| {
                is_punctuation(char) || matches!(char, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
            }),
            Self::DigitTriples => digit_triples(text),
            Self::Gpt2 => gpt2(text),
            Self::Llama3 { digits } => llama3(text, digits),
        }
    }
}

/// A run of characters that fulfil `is`, or a run of those that do not.
fn either_run(text: &str, is: impl Fn(char) -> bool) -> usize {
    match run(text, &is) {
        0 => run(text, |char| !is(char)),
        len => len,
    }
}

/// Three digits, or all up to the next three digits.
fn digit_triples(text: &str) -> usize {
    let is_triple = |window: &[u8]| window.iter().all(u8::is_ascii_digit);
    match text.as_bytes().windows(3).position(is_triple) {
        Some(0) => 3,
        Some(start) => start,
        None => text.len(),
    }
}

fn gpt2(text: &str) -> usize {
    if let Some(len) = contraction(text, false) {
        return len;
    }
    let space = usize::from(text.starts_with(' '));
    let word = after(text, space);
    for class in [is_letter, is_number, is_other] {
        let len = run(word, class);
        if len > 0 {
            return space + len;
        }
    }
    spaces(text)
}

fn llama3(text: &str, digits: usize) -> usize {
    if let Some(len) = contraction(text, true) {
        return len;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    // One character of any other kind goes with the letters behind it.
    if is_letter(first) {
        return run(text, is_letter);
    }
    if !matches!(first, '\r' | '\n') && !is_number(first) {
        let len = run(chars.as_str(), is_letter);
        if len > 0 {
            return first.len_utf8() + len;
        }
    }
    if is_number(first) {
        return text.chars().take(digits).take_while(|&char| is_number(char)).map(char::len_utf8).sum();
    }
    let space = usize::from(first == ' ');
    let others = run(after(text, space), is_other);
    if others > 0 {
        let len = space + others;
        return len + run(after(text, len), |char| matches!(char, '\r' | '\n'));
    }
    let blank = run(text, char::is_whitespace);
    match text.get(..blank).and_then(|blank| blank.rfind(['\r', '\n'])) {
        Some(last) => last + 1,
        None => spaces(text),
    }
}

/// `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d` at the start.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let rest = text.strip_prefix('\'')?.as_bytes();
    let is = |ending: &&[u8]| {
        rest.get(..ending.len())
            .is_some_and(|start| start == *ending || (any_case && start.eq_ignore_ascii_case(ending)))
    };
    let endings: [&[u8]; 7] = [b"s", b"t", b"re", b"ve", b"m", b"ll", b"d"];
    endings.iter().find(|ending| is(ending)).map(|ending| 1 + ending.len())
}

/// `\s+(?!\S)|\s+`: all spaces, but the last is left for the word behind them if there is more than one.
fn spaces(text: &str) -> usize {
    let len = run(text, char::is_whitespace);
    if len == text.len() {
        return len;
    }
    let last = text.get(..len).and_then(|blank| blank.chars().next_back()).map_or(0, char::len_utf8);
    if len > last { len - last } else { len }
}

#[cfg(test)]
mod tests {
    use fancy_regex::Regex;
    use proptest::prelude::*;

    use super::*;

    fn words<'a>(name: &str, text: &'a str) -> Vec<&'a str> {
        let mut words = Vec::new();
        PreTokenizer::by_name(name).unwrap().split(text, &mut |word| words.push(word));
        words
    }

    #[test]
    fn words_are_cut_as_trained() {
        assert_eq!(words("gpt-2", "I'll go  to 123 x's"), ["I", "'ll", " go", " ", " to", " 123", " x", "'s"]);
        assert_eq!(words("smollm", "a 12  3"), ["a", " ", "1", "2", "  ", "3"]);
        assert_eq!(
            words("llama-bpe", "I'LL (see) 1234\n\n x"),
            ["I", "'LL", " (", "see", ")", " ", "123", "4", "\n\n", " x"]
        );
        assert_eq!(words("qwen2", "a.b 12"), ["a", ".b", " ", "1", "2"]);
        assert_eq!(words("default", "ab, 12345"), ["ab", ",", " ", "123", "45"]);
        assert_eq!(words("gpt-2", ""), [""; 0]);
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let message = PreTokenizer::by_name("tekken").unwrap_err().to_string();
        assert!(message.contains("\"tekken\"") && message.contains("smollm"), "{message}");
    }

    #[test]
    fn a_megabyte_of_one_kind_is_no_trouble() {
        for (names, _) in NAMES {
            for unit in [" ", "a", "1", "'", "\n", "é", " \u{301}"] {
                let text = unit.repeat(1 << 20);
                let mut len = 0;
                PreTokenizer::by_name(names[0]).unwrap().split(&text, &mut |word| len += word.len());
                assert_eq!(len, text.len());
            }
        }
    }

    /// The regular expression itself, as an independent witness; text between matches is a piece as well.
    fn by_regex<'a>(regex: &Regex, text: &'a str) -> Vec<&'a str> {
        let mut pieces = Vec::new();
        let mut end = 0;
        for found in regex.find_iter(text) {
            let found = found.unwrap();
            pieces.extend([&text[end..found.start()], found.as_str()]);
            end = found.end();
        }
        pieces.push(&text[end..]);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    #[test]
    fn scanners_agree_with_their_expressions() {
        let [gpt2, llama3, qwen2, punctuation, number, numbers, triple] = [
            GPT2,
            LLAMA3,
            &LLAMA3.replace("{1,3}", ""),
            r"[\p{P}\$\+<=>\^~\|]+",
            r"\p{N}",
            r"\p{N}+",
            "[0-9][0-9][0-9]",
        ]
        .map(|expression| Regex::new(expression).unwrap());
        let texts = prop_oneof!["[a-zA-Z0-9 '\\n\\r\\tséⅧ½黑\u{301}\u{a0}.$!]{0,40}", "\\PC{0,40}", any::<String>()];
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) };
        let agree = |text: String| {
            prop_assert_eq!(words("gpt-2", &text), by_regex(&gpt2, &text));
            prop_assert_eq!(words("llama-bpe", &text), by_regex(&llama3, &text));
            prop_assert_eq!(words("qwen2", &text), by_regex(&qwen2, &text));
            let smollm = by_regex(&number, &text).into_iter().flat_map(|piece| by_regex(&gpt2, piece));
            prop_assert_eq!(words("smollm", &text), smollm.collect::<Vec<_>>());
            let default = by_regex(&punctuation, &text)
                .into_iter()
                .flat_map(|piece| by_regex(&gpt2, piece))
                .flat_map(|piece| by_regex(&numbers, piece))
                .flat_map(|piece| by_regex(&triple, piece));
            prop_assert_eq!(words("default", &text), default.collect::<Vec<_>>());
            Ok(())
        };
        proptest::test_runner::TestRunner::new(config).run(&texts, agree).unwrap();
    }
}
