//! Text as glyphs: cleaned, measured, broken into lines.

use unicode_normalization::UnicodeNormalization;

use super::fonts::{Font, Glyph, Weight};

/// Characters looked at of one text; more than the largest block of lines can hold.
const MAX_CHARACTERS: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Size of the em in points.
    pub(super) size: f32,
    pub(super) weight: Weight,
}

/// Glyphs on one baseline.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) glyphs: Vec<Glyph>,
    pub(super) size: f32,
}

impl Line {
    /// In points.
    pub(super) fn width(&self) -> f32 {
        width(&self.glyphs, self.size)
    }

    /// Stretches of one font, in order.
    pub(super) fn runs(&self) -> impl Iterator<Item = (Font, &[Glyph])> {
        self.glyphs.chunk_by(|a, b| a.font == b.font).filter_map(|run| Some((run.first()?.font, run)))
    }
}

fn width(glyphs: &[Glyph], size: f32) -> f32 {
    let thousandths: f32 = glyphs.iter().map(|glyph| f32::from(glyph.width)).sum();
    thousandths * size / 1000.0
}

/// Width of `text` on one line, in points.
pub(super) fn measure(text: &str, style: Style) -> f32 {
    width(&glyphs(text, style.weight), style.size)
}

/// Breaks `text` into at most `max_lines` lines of `max_width` points; what does not fit is cut, shown by `…`.
/// A text without visible characters has no lines. A line holds at least one glyph, however narrow it is.
pub(super) fn wrap(text: &str, style: Style, max_width: f32, max_lines: usize) -> Vec<Line> {
    let glyphs = glyphs(text, style.weight);
    let mut rest = trim(&glyphs);
    let mut lines: Vec<Line> = Vec::new();
    while !rest.is_empty() && lines.len() < max_lines {
        let fits = fitting(rest, style.size, max_width);
        let (line, after) = if fits == rest.len() {
            (rest.to_vec(), rest.len())
        } else if lines.len() + 1 == max_lines {
            let mark = Glyph::of('…', style.weight);
            let room = max_width - width(&[mark], style.size);
            let kept = rest.get(..fitting(rest, style.size, room)).unwrap_or(rest);
            (trim(kept).iter().copied().chain([mark]).collect(), rest.len())
        } else {
            let end = (1..=fits).rev().find(|&at| may_break(rest, at)).unwrap_or(fits);
            (trim(rest.get(..end).unwrap_or(rest)).to_vec(), end)
        };
        lines.push(Line { glyphs: line, size: style.size });
        rest = trim(rest.get(after..).unwrap_or_default());
    }
    lines
}

/// How many glyphs fit, at least one.
fn fitting(glyphs: &[Glyph], size: f32, max_width: f32) -> usize {
    let mut used = 0.0;
    let fits = glyphs.iter().take_while(|glyph| {
        used += f32::from(glyph.width) * size / 1000.0;
        used <= max_width
    });
    fits.count().max(1)
}

fn trim(mut glyphs: &[Glyph]) -> &[Glyph] {
    while let [Glyph { char: ' ', .. }, rest @ ..] | [rest @ .., Glyph { char: ' ', .. }] = glyphs {
        glyphs = rest;
    }
    glyphs
}

/// Whether a line may end before the glyph `at`: at spaces, after a hyphen or slash inside a word, beside full-width
/// characters (but a closing mark does not begin a line, an opening one does not end it).
fn may_break(glyphs: &[Glyph], at: usize) -> bool {
    let (Some(before), Some(after)) = (at.checked_sub(1).and_then(|at| glyphs.get(at)), glyphs.get(at)) else {
        return false;
    };
    if before.char == ' ' || after.char == ' ' {
        return true;
    }
    if matches!(before.char, '-' | '/') {
        return after.char.is_alphabetic();
    }
    let full_width = |glyph: &Glyph| matches!(glyph.font, Font::Gb1 | Font::Korea1);
    (full_width(before) || full_width(after))
        && !"，。、；：？！）》」』】〉〕％,.;:?!)]}%…”’".contains(after.char)
        && !"（《「『【〈〔￥([{“‘$¥€£".contains(before.char)
}

fn glyphs(text: &str, weight: Weight) -> Vec<Glyph> {
    text.nfc().filter_map(visible).take(MAX_CHARACTERS).map(|char| Glyph::of(char, weight)).collect()
}

/// `char` as it is shown: every white space a space, `None` for what has no look of its own (controls, joiners, marks
/// of direction, variation selectors).
fn visible(char: char) -> Option<char> {
    match char {
        '\u{a0}' | '\u{2007}' | '\u{202f}' => Some('\u{a0}'),
        _ if char.is_whitespace() => Some(' '),
        _ if char.is_control() => None,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{e0000}'..='\u{e0fff}' => None,
        _ => Some(char),
    }
}
