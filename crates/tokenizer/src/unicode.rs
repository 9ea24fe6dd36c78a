//! General categories that the standard library does not tell: letters and their cases, marks, punctuation, symbols.

use std::sync::{LazyLock, OnceLock};

use fancy_regex::Regex;

const PAGE_CHARS: usize = 256;
const PAGE_COUNT: usize = 0x11_0000 / PAGE_CHARS;
const LETTER: u8 = 1;
const PUNCTUATION: u8 = 2;
const MARK: u8 = 4;
const SYMBOL: u8 = 8;
const SMALL: u8 = 16;
const CAPITAL: u8 = 32;

/// Filled page by page when a character of the page is first asked for: few are ever needed, and no big table is kept.
static PAGES: [OnceLock<[u8; PAGE_CHARS]>; PAGE_COUNT] = [const { OnceLock::new() }; PAGE_COUNT];

static CLASSES: LazyLock<Vec<(u8, Regex)>> = LazyLock::new(|| {
    let classes = [
        (LETTER, r"\p{L}+"),
        (PUNCTUATION, r"\p{P}+"),
        (MARK, r"\p{M}+"),
        (SYMBOL, r"\p{S}+"),
        (SMALL, r"\p{Ll}+"),
        (CAPITAL, r"[\p{Lu}\p{Lt}]+"),
    ];
    classes.into_iter().filter_map(|(bit, class)| Some((bit, Regex::new(class).ok()?))).collect()
});

/// Whether the character is in general category L.
pub(crate) fn is_letter(char: char) -> bool {
    if char.is_ascii() { char.is_ascii_alphabetic() } else { has(char, LETTER) }
}

/// Whether the character is in general category N.
pub(crate) fn is_number(char: char) -> bool {
    char.is_numeric()
}

/// Whether the character is in general category P.
pub(crate) fn is_punctuation(char: char) -> bool {
    has(char, PUNCTUATION)
}

/// Whether the character is in general category M.
pub(crate) fn is_mark(char: char) -> bool {
    has(char, MARK)
}

/// Whether the character is in general category S.
pub(crate) fn is_symbol(char: char) -> bool {
    has(char, SYMBOL)
}

/// Whether the character is in general category Ll.
pub(crate) fn is_small_letter(char: char) -> bool {
    if char.is_ascii() { char.is_ascii_lowercase() } else { has(char, SMALL) }
}

/// Whether the character is in general category Lu or Lt.
pub(crate) fn is_capital_letter(char: char) -> bool {
    if char.is_ascii() { char.is_ascii_uppercase() } else { has(char, CAPITAL) }
}

fn has(char: char, class: u8) -> bool {
    let code = char as usize;
    let Some(page) = PAGES.get(code / PAGE_CHARS) else { return false };
    let classes = page.get_or_init(|| classify(code / PAGE_CHARS));
    classes.get(code % PAGE_CHARS).is_some_and(|classes| classes & class != 0)
}

fn classify(page: usize) -> [u8; PAGE_CHARS] {
    let mut classes = [0; PAGE_CHARS];
    let first = page * PAGE_CHARS;
    let chars = || (first..first + PAGE_CHARS).filter_map(|code| char::from_u32(u32::try_from(code).ok()?));
    let text: String = chars().collect();
    for (bit, class) in CLASSES.iter() {
        for found in class.find_iter(&text).flatten() {
            for char in found.as_str().chars() {
                if let Some(classes) = classes.get_mut(char as usize % PAGE_CHARS) {
                    *classes |= bit;
                }
            }
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_those_of_unicode() {
        for letter in ['a', 'Z', 'é', '黑', 'ʰ', 'ǅ', 'ﾊ'] {
            assert!(is_letter(letter) && !is_number(letter) && !is_punctuation(letter), "{letter}");
        }
        // Alphabetic for the standard library, but not letters: a Roman numeral, a vowel sign, a circled letter.
        for other in ['Ⅷ', '\u{93e}', 'Ⓐ', '1', '_', ' ', '\u{301}', '\u{e000}', '\u{10ffff}'] {
            assert!(!is_letter(other), "{other:?}");
        }
        for number in ['7', '½', 'Ⅷ', '٣'] {
            assert!(is_number(number), "{number}");
        }
        for punctuation in ['!', '“', '。', '_', '-', '—'] {
            assert!(is_punctuation(punctuation), "{punctuation}");
        }
        for symbol in ['$', '+', '<', '^', '~', '|', '`', '€'] {
            assert!(is_symbol(symbol) && !is_punctuation(symbol), "{symbol}");
        }
        for mark in ['\u{301}', '\u{93e}', '\u{20dd}'] {
            assert!(is_mark(mark), "{mark:?}");
        }
        // A Kelvin sign is a capital letter; letters without case, and modifiers, are neither.
        for (letter, small, capital) in
            [('a', true, false), ('ß', true, false), ('É', false, true), ('ǅ', false, true), ('\u{212a}', false, true)]
        {
            assert_eq!((is_small_letter(letter), is_capital_letter(letter)), (small, capital), "{letter}");
        }
        for neither in ['黑', 'ʰ', 'ª', '1', '\u{301}'] {
            assert!(!is_small_letter(neither) && !is_capital_letter(neither), "{neither}");
        }
    }
}
