//! Layout arithmetic, the structure of the file, and texts that are hard to draw.

use super::fonts::{Font, Glyph, MISSING, Weight};
use super::helvetica::EXTENDED;
use super::text::{Line, Style, measure, wrap};
use super::{Credit, InvoiceDocument, InvoiceLine, Period, invoice};

const STYLE: Style = Style { size: 10.0, weight: Weight::Regular };

fn document(lines: usize) -> InvoiceDocument {
    let line = |index| InvoiceLine {
        description: format!("model-{index}, input"),
        tokens: "1,000".into(),
        rate: "0.50 per 1M".into(),
        amount: "0.0005".into(),
    };
    InvoiceDocument {
        number: "INV-7".into(),
        customer: "上海智算科技有限公司".into(),
        period: Period { start: "2026-11-01".into(), end: "2026-12-01".into(), time_zone: "Asia/Shanghai".into() },
        currency: "USD".into(),
        lines: (0..lines).map(line).collect(),
        total: "0.01".into(),
        ..InvoiceDocument::default()
    }
}

fn text(line: &Line) -> String {
    line.glyphs.iter().map(|glyph| glyph.char).collect()
}

fn wrapped(source: &str, max_width: f32, max_lines: usize) -> Vec<String> {
    wrap(source, STYLE, max_width, max_lines).iter().map(text).collect()
}

fn count(file: &[u8], needle: &str) -> usize {
    file.windows(needle.len()).filter(|window| *window == needle.as_bytes()).count()
}

/// Checks the cross-reference table against the objects; returns the number of pages.
fn pages(file: &[u8]) -> usize {
    assert!(file.starts_with(b"%PDF-1.7\n"));
    assert!(file.ends_with(b"%%EOF") || file.ends_with(b"%%EOF\n"));
    let latin: String = file.iter().map(|&byte| char::from(byte)).collect();
    let start: usize = latin.rsplit("startxref\n").next().unwrap().lines().next().unwrap().parse().unwrap();
    let bytes = &file[start..];
    let mut lines = bytes.split(|&byte| byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned());
    assert_eq!(lines.next().unwrap(), "xref");
    let size: usize = lines.next().unwrap().strip_prefix("0 ").unwrap().parse().unwrap();
    assert!(lines.next().unwrap().starts_with("0000000000 65535 f"));
    for number in 1..size {
        let entry = lines.next().unwrap();
        let offset: usize = entry[..10].parse().unwrap();
        assert_eq!(&entry[10..18], " 00000 n");
        assert!(file[offset..].starts_with(format!("{number} 0 obj\n").as_bytes()), "object {number}");
    }
    assert!(lines.next().unwrap().starts_with("trailer"));
    let pages = count(file, "/Type /Page\n");
    assert_eq!(count(file, &format!("/Count {pages}\n")), 1);
    pages
}

#[test]
fn widths_are_those_of_the_font_metrics() {
    let bold = Style { weight: Weight::Bold, ..STYLE };
    for (text, style, thousandths) in [
        ("Invoice", STYLE, 278.0 + 556.0 + 500.0 + 556.0 + 222.0 + 500.0 + 556.0),
        ("Total", bold, 611.0 + 611.0 + 333.0 + 556.0 + 278.0),
        ("€“ÿ", STYLE, 556.0 + 333.0 + 500.0),
        ("Łódź", bold, 611.0 + 611.0 + 611.0 + 500.0),
        ("上海", STYLE, 2000.0),
        ("한A", STYLE, 1000.0 + 667.0),
        ("", STYLE, 0.0),
    ] {
        let width = measure(text, style);
        assert!((width - thousandths / 100.0).abs() < 1e-4, "{text}: {width}");
    }
}

#[test]
fn every_character_is_written_in_a_font_that_has_it() {
    assert!(EXTENDED.is_sorted_by_key(|entry| entry.0));
    for (char, font, code) in [
        ('A', Font::Western(Weight::Regular), 0x41),
        ('€', Font::Western(Weight::Regular), 0x80),
        ('Ÿ', Font::Western(Weight::Regular), 0x9f),
        ('é', Font::Western(Weight::Regular), 0xe9),
        ('Ā', Font::Central(Weight::Regular), 0x80),
        ('−', Font::Central(Weight::Regular), 0xd0),
        ('智', Font::Gb1, 0x667a),
        ('か', Font::Gb1, 0x304b),
        ('Я', Font::Gb1, 0x42f),
        ('힣', Font::Korea1, 0xd7a3),
    ] {
        let glyph = Glyph::of(char, Weight::Regular);
        assert_eq!((glyph.char, glyph.font, glyph.code), (char, font, code));
    }
    for char in ['\0', '\u{7f}', '\u{81}', 'ه', 'ก', '😀', '\u{20000}', '\u{fffe}', '\u{10ffff}'] {
        assert_eq!(Glyph::of(char, Weight::Bold), Glyph::of(MISSING, Weight::Bold), "{char:?}");
    }
}

#[test]
fn lines_break_where_they_may() {
    assert_eq!(wrapped("alpha beta gamma", 60.0, 9), ["alpha beta", "gamma"]);
    assert_eq!(wrapped("  a \n\t b  ", 500.0, 9), ["a    b"]);
    assert_eq!(wrapped("上海智算科技有限公司", 40.0, 9), ["上海智算", "科技有限", "公司"]);
    assert_eq!(wrapped("上海智算，科技", 40.0, 9), ["上海智", "算，科技"]);
    assert_eq!(wrapped("abc（上海）", 26.0, 9), ["abc", "（上", "海）"]);
    assert_eq!(wrapped("input-cached", 40.0, 9), ["input-", "cached"]);
    assert_eq!(wrapped("9,007,199", 26.0, 9), ["9,007", ",199"]);
    assert_eq!(wrapped("", 40.0, 9), [""; 0]);
    assert_eq!(wrapped(" \u{200b}\u{202e}\n", 40.0, 9), [""; 0]);
    assert_eq!(wrapped("WW", 0.0, 9), ["W", "W"]);
}

#[test]
fn no_line_is_too_wide_and_nothing_is_lost() {
    let source =
        "智算大模型 chat-7b（推理输出，含思考过程）, reasoning/visible a-very-long-unbroken-identifier_0123456789";
    for max_width in 24_u16..300 {
        let lines = wrap(source, STYLE, f32::from(max_width), 1000);
        for line in &lines {
            assert!(line.width() <= f32::from(max_width), "{}", text(line));
        }
        let joined: String = lines.iter().map(text).collect();
        assert_eq!(joined.replace(' ', ""), source.replace(' ', ""));
        let short = wrap(source, STYLE, f32::from(max_width), 2);
        assert!(short.iter().all(|line| line.width() <= f32::from(max_width)));
        assert_eq!(short.len(), lines.len().min(2));
        assert_eq!(text(short.last().unwrap()).ends_with('…'), lines.len() > 2);
    }
}

#[test]
fn texts_are_composed_and_lose_what_cannot_be_seen() {
    assert_eq!(wrapped("e\u{301}\u{200d}\u{feff}\u{202e}x\u{fe0f}\0", 500.0, 1), ["éx"]);
    assert_eq!(wrapped("1\u{202f}000\u{3000}元", 500.0, 1), ["1\u{a0}000 元"]);
}

#[test]
fn files_hold_together_however_many_lines_there_are() {
    let mut before = 1;
    for lines in [0, 1, 10, 20, 25, 30, 100, 300] {
        let file = invoice(&document(lines));
        let pages = pages(&file);
        assert!(pages >= before && pages <= 1 + lines / 15, "{lines} lines on {pages} pages");
        assert_eq!(count(&file, "(Description)"), headed(&file));
        assert_eq!(count(&file, "(0.0005)"), lines);
        for page in 1..=pages {
            assert_eq!(count(&file, &format!("(Page {page} of {pages})")), 1);
        }
        before = pages;
    }
}

/// How many pages hold lines of the table.
fn headed(file: &[u8]) -> usize {
    let streams = String::from_utf8_lossy(file).into_owned();
    streams.split("endstream").filter(|stream| stream.contains("(0.0005)")).count()
}

#[test]
fn hostile_texts_leave_the_file_valid() {
    let texts = [
        "",
        "(",
        ")\\(",
        "%%EOF\nendstream\nendobj\n",
        "\u{0}\r\n",
        "👩‍👩‍👧",
        "الشركة",
        "\u{10ffff}",
        &"名".repeat(10_000),
    ];
    for text in texts.map(str::to_owned) {
        let document = InvoiceDocument {
            number: text.clone(),
            issued: text.clone(),
            seller: text.clone(),
            customer: text.clone(),
            customer_id: text.clone(),
            period: Period { start: text.clone(), end: text.clone(), time_zone: text.clone() },
            currency: text.clone(),
            lines: vec![
                InvoiceLine {
                    description: text.clone(),
                    tokens: text.clone(),
                    rate: text.clone(),
                    amount: text.clone()
                };
                5
            ],
            subtotal: text.clone(),
            discount: Some(text.clone()),
            credits: vec![Credit { description: text.clone(), amount: text.clone() }; 10],
            rounding: Some(text.clone()),
            total: text.clone(),
            notes: vec![text.clone(); 5],
        };
        let file = invoice(&document);
        assert!(pages(&file) <= 12);
        assert_eq!(file, invoice(&document));
    }
}
