//! Cutting text into words before byte-pair merging, as models were trained. Hand-written scanners instead of regular
//! expressions: each looks at every character a bounded number of times, whatever the text.

use crate::TokenizerError;
use crate::error::shown;
use crate::unicode::{is_capital_letter, is_letter, is_mark, is_number, is_punctuation, is_small_letter, is_symbol};
use crate::vocabulary::char_of_byte;

/// One pass over the text; a pre-tokenizer is a list of them, each cutting the pieces of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// `[\r\n]`: each end of a line alone.
    EachLineEnd,
    /// `\p{N}`: each digit alone.
    EachNumber,
    /// `\p{N}+`: runs of digits.
    NumberRuns,
    /// `\p{N}{1,3}`: threes of digits of any script, from the left.
    NumberTriples,
    /// `[0-9][0-9][0-9]`: threes of digits, from the left.
    DigitTriples,
    /// ``[\p{P}\$\+<=>\^~\|]+``: runs of punctuation.
    PunctuationRuns,
    /// `[一-龥ࠀ-一가-퟿]+`: runs of Chinese, Korean and what lies between.
    EastAsianRuns,
    /// `[一-龥぀-ゟ゠-ヿ]+`: runs of Chinese and Japanese.
    ChineseRuns,
    /// `\s?\p{L}+`: words, with a space in front.
    SpacedLetters,
    /// `\s?\p{P}+`: runs of punctuation, with a space in front.
    SpacedPunctuation,
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3 {
        /// Most digits in one piece: n above.
        digits: usize,
        /// Whether marks count as letters wherever it says `\p{L}`, but for the first.
        marks: bool,
    },
    /// Words end where capital letters follow small ones; u is `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, l `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`:
    /// `[^\r\n\p{L}\p{N}]?u*l+c?|[^\r\n\p{L}\p{N}]?u+l*c?|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Cased {
        /// Most digits in one piece: n above.
        digits: usize,
        /// Whether a contraction stays with its word: c above is `(?i:'s|'t|'re|'ve|'m|'ll|'d)`; otherwise it is not there.
        contractions: bool,
    },
    /// ``[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+``
    DeepSeek3,
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

/// One of which the file says all.
const fn plain(passes: &'static [Pass]) -> PreTokenizer {
    PreTokenizer { passes, whole_words: false, add_bos: false }
}

/// One of a model that has whole words, and a start token by default.
const fn whole(passes: &'static [Pass]) -> PreTokenizer {
    PreTokenizer { passes, whole_words: true, add_bos: true }
}

/// The names that llama.cpp's converters write, by what they stand for: models that were trained alike have several. The
/// expressions are those of the models' own tokenizer.json. llama.cpp's differ for `tekken` and `gpt-4o`, where it cannot
/// tell the case of letters beyond ASCII.
const NAMES: &[(&[&str], PreTokenizer)] = &[
    (&["default"], plain(&[Pass::PunctuationRuns, Pass::Gpt2, Pass::NumberRuns, Pass::DigitTriples])),
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "exaone4",
            "mellum",
            "modern-bert",
            "gigachat",
            "a.x-4.0",
            "granite-docling",
        ],
        plain(&[Pass::Gpt2]),
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        plain(&[Pass::EachNumber, Pass::Gpt2]),
    ),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        whole(&[Pass::Llama3 { digits: 3, marks: false }]),
    ),
    (&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], plain(&[Pass::Llama3 { digits: 3, marks: false }])),
    (
        &["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "solar-open", "grok-2", "kormo"],
        plain(&[Pass::Llama3 { digits: 1, marks: false }]),
    ),
    (&["qwen35"], plain(&[Pass::Llama3 { digits: 1, marks: true }])),
    (&["tekken"], whole(&[Pass::Cased { digits: 1, contractions: false }])),
    (&["gpt-4o", "llama4", "kanana2", "minimax-m2"], plain(&[Pass::Cased { digits: 3, contractions: true }])),
    (
        &["deepseek-coder"],
        plain(&[
            Pass::EachLineEnd,
            Pass::SpacedLetters,
            Pass::SpacedPunctuation,
            Pass::EastAsianRuns,
            Pass::EachNumber,
        ]),
    ),
    (&["deepseek-v3", "joyai-llm", "hunyuan-dense"], plain(&[Pass::NumberTriples, Pass::ChineseRuns, Pass::DeepSeek3])),
];

/// Texts that no two pre-tokenizers cut alike.
const PROBES: &[&str] = &[
    "Hello world, it's THEIRS; we'LL see: I'VE 1234567 apples",
    "  two  spaces\tand\n\nlines \r\n end  ",
    "camelCaseHTTPServer XMLHttpRequest ABCdef aBC ÉCOLEécole ǅuro",
    "naïve e\u{301}te\u{301} A\u{301}B \u{301}\u{301}x \u{301}ABC \u{301}1 \u{93e}\u{93e}",
    "你好世界 3.14 こんにちは カタカナ 한국어 ใช้ 1२३४५",
    "path/to//file.rs:12 ///\n/ <html> a_b-c +=$€^~`|\n\n",
    "'s 't'sS 'x ' 's's don'tt can'T'RE",
    "\u{0}\u{0}a\u{7}1\u{7}\u{200b}b\u{200d}\u{e000}c\u{2028}d \u{a0}e",
    "½Ⅷ٣ x² 1a2b3c 12345678901234567890",
];

impl PreTokenizer {
    /// The one that a file names in `tokenizer.ggml.pre`.
    pub(crate) fn by_name(name: &str) -> Result<Self, TokenizerError> {
        NAMES.iter().find(|(names, _)| names.contains(&name)).map(|(_, found)| *found).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().flat_map(|(names, _)| names.iter().copied()).collect();
            TokenizerError::UnknownPreTokenizer { name: shown(name), supported: names.join(", ") }
        })
    }

    /// The name of the one that cuts texts as `words` does, which spells bytes as characters, and keeps whole words or not.
    pub(crate) fn name_of<E>(
        whole_words: bool,
        words: impl Fn(&str) -> Result<Vec<String>, E>,
    ) -> Result<Option<&'static str>, E> {
        let expected = PROBES.iter().map(|text| words(text)).collect::<Result<Vec<_>, E>>()?;
        let is = |one: &Self| {
            let mut all = PROBES.iter().zip(&expected);
            one.whole_words == whole_words
                && all.all(|(text, words)| one.words(text).into_iter().map(spelled).eq(words.iter().cloned()))
        };
        Ok(NAMES.iter().find(|(_, one)| is(one)).and_then(|(names, _)| names.first().copied()))
    }

    fn words<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut words = Vec::new();
        self.split(text, &mut |word| words.push(word));
        words
    }

    /// Calls `word` with each word in order; together they are the text.
    pub(crate) fn split<'a>(&self, text: &'a str, word: &mut dyn FnMut(&'a str)) {
        split(self.passes, text, word);
    }
}

/// Each byte as the character that stands for it.
fn spelled(word: &str) -> String {
    word.bytes().map(char_of_byte).collect()
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

/// End of a line, as the expressions have it.
fn is_line_end(char: char) -> bool {
    matches!(char, '\r' | '\n')
}

impl Pass {
    /// Bytes of the first piece of a text that is not empty.
    fn next(self, text: &str) -> usize {
        match self {
            Self::EachLineEnd => first_or_run(text, is_line_end),
            Self::EachNumber => first_or_run(text, is_number),
            Self::NumberRuns => either_run(text, is_number),
            Self::NumberTriples => match numbers(text, 3) {
                0 => run(text, |char| !is_number(char)),
                len => len,
            },
            Self::PunctuationRuns => either_run(text, |char| {
                is_punctuation(char) || matches!(char, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
            }),
            Self::EastAsianRuns => {
                either_run(text, |char| matches!(char, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}'))
            }
            Self::ChineseRuns => {
                either_run(text, |char| matches!(char, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}'))
            }
            Self::SpacedLetters => spaced_run(text, is_letter),
            Self::SpacedPunctuation => spaced_run(text, is_punctuation),
            Self::DigitTriples => digit_triples(text),
            Self::Gpt2 => gpt2(text),
            Self::Llama3 { digits, marks: false } => llama3(text, digits, is_letter),
            Self::Llama3 { digits, marks: true } => llama3(text, digits, |char| is_letter(char) || is_mark(char)),
            Self::Cased { digits, contractions } => cased(text, digits, contractions),
            Self::DeepSeek3 => match deepseek3(text) {
                // What is none of the expression's goes up to where it is found again.
                0 => text
                    .char_indices()
                    .skip(1)
                    .find_map(|(start, _)| (deepseek3(after(text, start)) > 0).then_some(start))
                    .unwrap_or(text.len()),
                len => len,
            },
        }
    }
}

/// One character that fulfils `is`, or a run of those that do not.
fn first_or_run(text: &str, is: impl Fn(char) -> bool) -> usize {
    match text.chars().next() {
        Some(first) if is(first) => first.len_utf8(),
        _ => run(text, |char| !is(char)),
    }
}

/// A run of characters that fulfil `is`, or a run of those that do not.
fn either_run(text: &str, is: impl Fn(char) -> bool) -> usize {
    match run(text, &is) {
        0 => run(text, |char| !is(char)),
        len => len,
    }
}

/// A run of characters that fulfil `is` with one space in front, or all up to the next such.
fn spaced_run(text: &str, is: impl Fn(char) -> bool) -> usize {
    let space = text.chars().next().filter(|char| char.is_whitespace()).map_or(0, char::len_utf8);
    let len = run(after(text, space), &is);
    if len > 0 {
        return space + len;
    }
    let Some(start) = text.find(&is) else { return text.len() };
    let before = text.get(..start).and_then(|before| before.chars().next_back());
    start - before.filter(|char| char.is_whitespace()).map_or(0, char::len_utf8)
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

/// At most `most` numbers at the start.
fn numbers(text: &str, most: usize) -> usize {
    text.chars().take(most).take_while(|&char| is_number(char)).map(char::len_utf8).sum()
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

/// `is_word` tells letters.
fn llama3(text: &str, digits: usize, is_word: impl Fn(char) -> bool) -> usize {
    if let Some(len) = contraction(text, true) {
        return len;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    // One character of any other kind goes with the letters behind it.
    if is_word(first) {
        return run(text, is_word);
    }
    if !is_line_end(first) && !is_number(first) {
        let len = run(chars.as_str(), &is_word);
        if len > 0 {
            return first.len_utf8() + len;
        }
    }
    if is_number(first) {
        return numbers(text, digits);
    }
    match others(text, |char| is_other(char) && !is_word(char), is_line_end) {
        0 => lines_or_spaces(text),
        len => len,
    }
}

fn cased(text: &str, digits: usize, contractions: bool) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    // One character of any other kind goes with the letters behind it; a mark may be either.
    let other = !is_line_end(first) && !is_letter(first) && !is_number(first);
    let lead = if other { first.len_utf8() } else { 0 };
    let word = [lead, 0].into_iter().find_map(|start| Some(start + small_word(after(text, start))?));
    let word = word.or_else(|| {
        [lead, 0].into_iter().find_map(|start| match run(after(text, start), is_upper) {
            0 => None,
            len => Some(start + len),
        })
    });
    if let Some(len) = word {
        let ending = if contractions { contraction(after(text, len), true) } else { None };
        return len + ending.unwrap_or(0);
    }
    if is_number(first) {
        return numbers(text, digits);
    }
    match others(text, is_other, |char| is_line_end(char) || char == '/') {
        0 => lines_or_spaces(text),
        len => len,
    }
}

/// What can stand in a word before its first small letter.
fn is_upper(char: char) -> bool {
    (is_letter(char) && !is_small_letter(char)) || is_mark(char)
}

/// What can stand in a word from its first small letter on.
fn is_lower(char: char) -> bool {
    (is_letter(char) && !is_capital_letter(char)) || is_mark(char)
}

/// `u*l+`. Characters of both kinds go to `u*` as far as one is left for `l+`.
fn small_word(text: &str) -> Option<usize> {
    let upper = run(text, is_upper);
    match run(after(text, upper), is_lower) {
        0 => {
            text.get(..upper)?.char_indices().rfind(|(_, char)| is_lower(*char)).map(|(at, char)| at + char.len_utf8())
        }
        len => Some(upper + len),
    }
}

/// 0 where it has no match.
fn deepseek3(text: &str) -> usize {
    let is_word = |char| is_letter(char) || is_mark(char);
    let is_sign = |char| is_punctuation(char) || is_symbol(char);
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    if first.is_ascii_punctuation() {
        let len = run(chars.as_str(), |char| char.is_ascii_alphabetic());
        if len > 0 {
            return 1 + len;
        }
    }
    if is_word(first) {
        return run(text, is_word);
    }
    if !is_line_end(first) && !is_sign(first) {
        let len = run(chars.as_str(), is_word);
        if len > 0 {
            return first.len_utf8() + len;
        }
    }
    match others(text, is_sign, is_line_end) {
        0 => lines_or_spaces(text),
        len => len,
    }
}

/// ` ?o+e*`: a run of `is_other` with a space in front and a run of `is_end` behind; 0 where there is none.
fn others(text: &str, is_other: impl Fn(char) -> bool, is_end: impl Fn(char) -> bool) -> usize {
    let space = usize::from(text.starts_with(' '));
    match run(after(text, space), is_other) {
        0 => 0,
        len => space + len + run(after(text, space + len), is_end),
    }
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`: all spaces up to the last end of a line, if there is one.
fn lines_or_spaces(text: &str) -> usize {
    let blank = run(text, char::is_whitespace);
    match text.get(..blank).and_then(|blank| blank.rfind(is_line_end)) {
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
        PreTokenizer::by_name(name).unwrap().words(text)
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
        assert_eq!(words("tekken", "camelCase HTTPServer's 12"), ["camel", "Case", " HTTPServer", "'s", " ", "1", "2"]);
        assert_eq!(words("gpt-4o", "HTTPServer's 1234"), ["HTTPServer's", " ", "123", "4"]);
        assert_eq!(words("qwen35", "e\u{301}te\u{301}"), ["e\u{301}te\u{301}"]);
        assert_eq!(words("qwen2", "e\u{301}te\u{301}"), ["e", "\u{301}te", "\u{301}"]);
        assert_eq!(words("deepseek-v3", "x=foo(1234)你"), ["x", "=foo", "(", "123", "4", ")", "你"]);
        assert_eq!(words("deepseek-coder", "a  b, c\n"), ["a", " ", " b", ",", " c", "\n"]);
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let message = PreTokenizer::by_name("kimi-k2").unwrap_err().to_string();
        assert!(message.contains("\"kimi-k2\"") && message.contains("smollm"), "{message}");
    }

    #[test]
    fn a_megabyte_of_one_kind_is_no_trouble() {
        for (names, _) in NAMES {
            for unit in [" ", "a", "A", "1", "'", ".", "\n", "\u{1}", "é", " \u{301}", "\u{301}A", "aB"] {
                let text = unit.repeat(1 << 20);
                let mut len = 0;
                PreTokenizer::by_name(names[0]).unwrap().split(&text, &mut |word| len += word.len());
                assert_eq!(len, text.len());
            }
        }
    }

    /// The expressions one after another, as an independent witness; text between matches is a piece as well.
    fn by_expressions<'a>(expressions: &[Regex], text: &'a str) -> Vec<&'a str> {
        let Some((regex, others)) = expressions.split_first() else { return vec![text] };
        let mut pieces = Vec::new();
        let mut end = 0;
        for found in regex.find_iter(text) {
            let found = found.unwrap();
            pieces.extend([&text[end..found.start()], found.as_str()]);
            end = found.end();
        }
        pieces.push(&text[end..]);
        pieces.retain(|piece| !piece.is_empty());
        pieces.into_iter().flat_map(|piece| by_expressions(others, piece)).collect()
    }

    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN35: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

    /// Of each pre-tokenizer one name and its expressions, written as the models' files have them.
    const EXPRESSIONS: &[(&str, &[&str])] = &[
        ("default", &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        ("gpt-2", &[GPT2]),
        ("smollm", &[r"\p{N}", GPT2]),
        ("llama-bpe", &[LLAMA3]),
        ("dbrx", &[LLAMA3]),
        ("qwen2", &[QWEN2]),
        ("qwen35", &[QWEN35]),
        ("tekken", &[TEKKEN]),
        ("gpt-4o", &[GPT4O]),
        (
            "deepseek-coder",
            &[
                r"[\r\n]",
                r"\s?\p{L}+",
                r"\s?\p{P}+",
                r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+",
                r"\p{N}",
            ],
        ),
        ("deepseek-v3", &[r"\p{N}{1,3}", r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+", DEEPSEEK3]),
    ];

    fn compiled(expressions: &[&str]) -> Vec<Regex> {
        expressions.iter().map(|expression| Regex::new(expression).unwrap()).collect()
    }

    #[test]
    fn every_pre_tokenizer_has_its_expressions() {
        for (names, _) in NAMES {
            let known = names.iter().filter(|name| EXPRESSIONS.iter().any(|(known, _)| known == *name));
            assert_eq!(known.count(), 1, "{names:?}");
        }
        for (name, expressions) in EXPRESSIONS {
            let expressions = compiled(expressions);
            for text in PROBES {
                assert_eq!(words(name, text), by_expressions(&expressions, text), "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn each_is_known_by_what_it_does() {
        for (names, one) in NAMES {
            let words = |text: &str| Ok::<_, ()>(one.words(text).into_iter().map(spelled).collect());
            assert_eq!(PreTokenizer::name_of(one.whole_words, words), Ok(Some(names[0])));
        }
        let whole = |text: &str| Ok::<_, ()>(vec![spelled(text)]);
        assert_eq!(PreTokenizer::name_of(false, whole), Ok(None));
    }

    #[test]
    fn scanners_agree_with_their_expressions() {
        let all: Vec<_> = EXPRESSIONS.iter().map(|(name, expressions)| (name, compiled(expressions))).collect();
        let texts = prop_oneof![
            "[a-zA-Z0-9 '\\n\\r\\tséⅧ½黑ぁ한ʰǅ\u{301}\u{a0}.$!/_€\u{1}]{0,40}",
            "[aBʰ黑\u{301}' ]{1,12}",
            "\\PC{0,40}",
            any::<String>(),
        ];
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) };
        let agree = |text: String| {
            for (name, expressions) in &all {
                prop_assert_eq!(words(name, &text), by_expressions(expressions, &text), "{}", name);
            }
            Ok(())
        };
        proptest::test_runner::TestRunner::new(config).run(&texts, agree).unwrap();
    }
}
