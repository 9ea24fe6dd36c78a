//! The fonts of a document: which one has a character, how wide it is there, and the objects that describe them.

use pdf_writer::types::{CidFontType, FontFlags, SystemInfo};
use pdf_writer::{Name, Pdf, Rect, Ref, Str};

use super::helvetica::{BOLD, EXTENDED, REGULAR, WIN_ANSI_80};

/// Shown for a character that no font has; itself a character of Adobe-GB1.
pub(super) const MISSING: char = '□';

/// Code of the first entry of [`EXTENDED`] in the fonts that hold it.
const EXTENDED_FIRST: u8 = 0x80;
const EXTENDED_LAST: u8 = 0xd0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// A font of the document. The Asian ones have one weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Font {
    /// Helvetica in WinAnsiEncoding: western Europe.
    Western(Weight),
    /// Helvetica with the letters of central Europe, the Baltic and Turkey.
    Central(Weight),
    /// Adobe-GB1, coded in UTF-16: Chinese in both scripts, kana, Greek, Russian, symbols.
    Gb1,
    /// Adobe-Korea1, coded in UTF-16: Hangul.
    Korea1,
}

/// A character as it is written: its code in a font, and its width in thousandths of an em.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Glyph {
    pub(super) char: char,
    pub(super) font: Font,
    pub(super) code: u16,
    pub(super) width: u16,
}

/// A full-width cell.
const FULL_WIDTH: u16 = 1000;

impl Glyph {
    /// The glyph of `char`, or of [`MISSING`].
    pub(super) fn of(char: char, weight: Weight) -> Self {
        western(char, weight).or_else(|| central(char, weight)).or_else(|| asian(char)).unwrap_or(Self {
            char: MISSING,
            font: Font::Gb1,
            code: 0x25a1,
            width: FULL_WIDTH,
        })
    }

    /// Appends the code as the font's strings hold it.
    pub(super) fn encode(self, bytes: &mut Vec<u8>) {
        let [high, low] = self.code.to_be_bytes();
        if matches!(self.font, Font::Gb1 | Font::Korea1) {
            bytes.push(high);
        }
        bytes.push(low);
    }
}

fn western(char: char, weight: Weight) -> Option<Glyph> {
    let code = match char {
        ' '..='~' | '\u{a0}'..='ÿ' => u8::try_from(u32::from(char)).ok()?,
        '\0' => return None,
        _ => 0x80 + u8::try_from(WIN_ANSI_80.iter().position(|&known| known == char)?).ok()?,
    };
    let widths = if weight == Weight::Bold { &BOLD } else { &REGULAR };
    let width = *widths.get(usize::from(code.checked_sub(b' ')?))?;
    Some(Glyph { char, font: Font::Western(weight), code: code.into(), width })
}

fn central(char: char, weight: Weight) -> Option<Glyph> {
    let index = EXTENDED.binary_search_by_key(&char, |entry| entry.0).ok()?;
    let &(_, _, regular, bold) = EXTENDED.get(index)?;
    let code = u16::from(EXTENDED_FIRST) + u16::try_from(index).ok()?;
    Some(Glyph { char, font: Font::Central(weight), code, width: if weight == Weight::Bold { bold } else { regular } })
}

fn asian(char: char) -> Option<Glyph> {
    let font = match char {
        '가'..='힣' | 'ㄱ'..='ㆎ' => Font::Korea1,
        _ if in_gb1(char) => Font::Gb1,
        _ => return None,
    };
    Some(Glyph { char, font, code: u16::try_from(u32::from(char)).ok()?, width: FULL_WIDTH })
}

/// Whether UniGB-UTF16-H has `char` as a full-width glyph: what names and notes may need of it, since version 0 to 4 of
/// the collection.
fn in_gb1(char: char) -> bool {
    matches!(char,
        'ǎ' | 'ǐ' | 'ǒ' | 'ǔ' | 'ǖ' | 'ǘ' | 'ǚ' | 'ǜ'
        | 'Α'..='Ρ' | 'Σ'..='Ω' | 'α'..='ρ' | 'σ'..='ω' | 'Ё' | 'А'..='я' | 'ё'
        | '‐' | '―'..='‖' | '′'..='″' | '※' | '℃' | '℉' | '№' | '℡' | 'Ⅰ'..='Ⅻ' | 'ⅰ'..='ⅹ' | '←'..='↓' | '↖'..='↙'
        | '∏' | '∑' | '√' | '∝'..='∠' | '∧'..='∫' | '∴'..='∷' | '≈' | '≠'..='≡' | '≤'..='≧'
        | '①'..='⑩' | '⑴'..='⒛' | '─'..='╋' | '■'..='□' | '▲'..='△' | '◆'..='◇' | '○' | '◎'..='●' | '★'..='☆' | '♀' | '♂'
        | '\u{3000}'..='\u{3003}' | '\u{3005}'..='\u{3017}' | '〝'..='〞' | '〡'..='〩'
        | 'ぁ'..='ゔ' | '゛'..='ゞ' | 'ァ'..='ヾ' | 'ㄅ'..='ㄬ' | '㈠'..='㈩' | '㈱'
        | '㐀'..='\u{4db5}' | '一'..='\u{9fa5}' | '！'..='～' | '￠'..='￥')
}

impl Font {
    /// Its name among the resources of a page.
    pub(super) fn resource(self) -> Name<'static> {
        Name(match self {
            Self::Western(Weight::Regular) => b"W",
            Self::Western(Weight::Bold) => b"WB",
            Self::Central(Weight::Regular) => b"C",
            Self::Central(Weight::Bold) => b"CB",
            Self::Gb1 => b"G",
            Self::Korea1 => b"K",
        })
    }
}

/// Writes the objects of `font`; returns the font's own.
///
/// No font has a ToUnicode map: WinAnsiEncoding, the standard glyph names and the predefined UTF-16 encodings say which
/// character is meant, and some readers look such a map up by the number of the glyph instead of its code.
pub(super) fn write(pdf: &mut Pdf, next: &mut impl FnMut() -> Ref, font: Font) -> Ref {
    let (id, descriptor) = (next(), next());
    match font {
        Font::Western(weight) | Font::Central(weight) => write_latin(pdf, (id, descriptor), font, weight),
        Font::Gb1 => write_asian(pdf, (id, next(), descriptor), &GB1),
        Font::Korea1 => write_asian(pdf, (id, next(), descriptor), &KOREA1),
    }
    id
}

fn write_latin(pdf: &mut Pdf, (id, descriptor): (Ref, Ref), font: Font, weight: Weight) {
    let bold = weight == Weight::Bold;
    let base = Name(if bold { b"Helvetica-Bold" } else { b"Helvetica" });
    let mut dictionary = pdf.type1_font(id);
    dictionary.base_font(base).font_descriptor(descriptor);
    if matches!(font, Font::Western(_)) {
        let widths = if bold { &BOLD } else { &REGULAR };
        dictionary.encoding_predefined(Name(b"WinAnsiEncoding")).first_char(b' ').last_char(255);
        dictionary.widths(widths.iter().map(|&width| f32::from(width)));
    } else {
        dictionary.first_char(EXTENDED_FIRST).last_char(EXTENDED_LAST);
        dictionary.widths(EXTENDED.iter().map(|entry| f32::from(if bold { entry.3 } else { entry.2 })));
        let mut encoding = dictionary.encoding_custom();
        encoding.base_encoding(Name(b"WinAnsiEncoding"));
        encoding.differences().consecutive(EXTENDED_FIRST, EXTENDED.iter().map(|entry| Name(entry.1.as_bytes())));
    }
    drop(dictionary);
    let bounds = if bold { Rect::new(-170.0, -228.0, 1003.0, 962.0) } else { Rect::new(-166.0, -225.0, 1000.0, 931.0) };
    pdf.font_descriptor(descriptor)
        .name(base)
        .flags(FontFlags::NON_SYMBOLIC)
        .bbox(bounds)
        .italic_angle(0.0)
        .ascent(718.0)
        .descent(-207.0)
        .cap_height(718.0)
        .stem_v(if bold { 140.0 } else { 88.0 });
}

/// A character collection with the font that viewers know to replace by an installed one.
struct Collection {
    font: &'static [u8],
    ordering: &'static [u8],
    supplement: i32,
    encoding: &'static [u8],
}

const GB1: Collection =
    Collection { font: b"STSong-Light", ordering: b"GB1", supplement: 4, encoding: b"UniGB-UTF16-H" };
const KOREA1: Collection =
    Collection { font: b"HYSMyeongJo-Medium", ordering: b"Korea1", supplement: 1, encoding: b"UniKS-UTF16-H" };

fn write_asian(pdf: &mut Pdf, (id, descendant, descriptor): (Ref, Ref, Ref), collection: &Collection) {
    let base = Name(collection.font);
    pdf.type0_font(id).base_font(base).encoding_predefined(Name(collection.encoding)).descendant_font(descendant);
    let ordering = Str(collection.ordering);
    pdf.cid_font(descendant)
        .subtype(CidFontType::Type0)
        .base_font(base)
        .system_info(SystemInfo { registry: Str(b"Adobe"), ordering, supplement: collection.supplement })
        .font_descriptor(descriptor)
        .default_width(f32::from(FULL_WIDTH));
    pdf.font_descriptor(descriptor)
        .name(base)
        .flags(FontFlags::SYMBOLIC | FontFlags::SERIF)
        .bbox(Rect::new(-25.0, -254.0, 1000.0, 880.0))
        .italic_angle(0.0)
        .ascent(880.0)
        .descent(-120.0)
        .cap_height(880.0)
        .stem_v(93.0);
}
