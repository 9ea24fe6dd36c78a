//! Where everything stands on the sheets. Lengths are points, measured from the lower left corner.

use std::collections::BTreeSet;

use pdf_writer::{Content, Str};

use super::fonts::{Font, Weight};
use super::text::{Line, Style, measure, wrap};
use super::{InvoiceDocument, InvoiceLine};

/// A4.
pub(super) const PAGE_WIDTH: f32 = 595.28;
pub(super) const PAGE_HEIGHT: f32 = 841.89;

const LEFT: f32 = 48.0;
const RIGHT: f32 = PAGE_WIDTH - 48.0;
const TOP: f32 = PAGE_HEIGHT - 48.0;
/// Nothing but the footer stands below.
const BOTTOM: f32 = 64.0;
const FOOTER: f32 = 36.0;
/// Begin of the details beside the parties, and of their values.
const DETAILS: f32 = 330.0;
const DETAIL_VALUES: f32 = DETAILS + 58.0;
/// Begin of the totals' labels.
const TOTALS: f32 = 250.0;
const GAP: f32 = 10.0;
/// Space above and below the text of a row, and beside that of the table.
const PADDING: f32 = 4.0;
/// The widest column of figures; wider ones go on in the next line.
const MAX_FIGURES: f32 = 118.0;

const TITLE: Style = Style { size: 22.0, weight: Weight::Bold };
const PARTY: Style = Style { size: 11.0, weight: Weight::Bold };
const BODY: Style = Style { size: 9.0, weight: Weight::Regular };
const STRONG: Style = Style { size: 9.0, weight: Weight::Bold };
const TOTAL: Style = Style { size: 11.0, weight: Weight::Bold };
const SMALL: Style = Style { size: 8.0, weight: Weight::Regular };

const BLACK: f32 = 0.0;
const GREY: f32 = 0.4;
const LIGHT: f32 = 0.8;
const BAND: f32 = 0.93;

const fn leading(size: f32) -> f32 {
    size * 1.35
}

#[derive(Clone, Copy, PartialEq)]
enum Align {
    Left,
    Right,
}

/// Lines one below the other, to the left or the right of `x`.
struct Block {
    lines: Vec<Line>,
    x: f32,
    align: Align,
}

impl Block {
    fn height(&self) -> f32 {
        self.lines.iter().map(|line| leading(line.size)).sum()
    }
}

/// The sheets written so far, and the height on the last one that is still free.
struct Sheets {
    sheets: Vec<Content>,
    sheet: Content,
    y: f32,
    fonts: BTreeSet<Font>,
}

/// The document's sheets, and the fonts they use.
pub(super) fn sheets(document: &InvoiceDocument) -> (Vec<Content>, BTreeSet<Font>) {
    let mut sheets = Sheets { sheets: Vec::new(), sheet: Content::new(), y: TOP, fonts: BTreeSet::new() };
    sheets.head(document);
    sheets.table(document);
    sheets.totals(document);
    sheets.notes(document);
    sheets.finish(document)
}

impl Sheets {
    fn head(&mut self, document: &InvoiceDocument) {
        self.flow("Invoice", TITLE, RIGHT, 1, BLACK);
        self.y -= GAP;
        let top = self.y;
        for (label, name, id) in
            [("From", &document.seller, ""), ("Bill to", &document.customer, &document.customer_id)]
        {
            self.flow(label, SMALL, DETAILS - GAP, 1, GREY);
            self.flow(name, PARTY, DETAILS - GAP, 4, BLACK);
            self.flow(id, BODY, DETAILS - GAP, 2, BLACK);
            self.y -= GAP;
        }
        let below_parties = self.y;
        self.y = top;
        let period = &document.period;
        let details = [
            ("Number", &document.number),
            ("Issued", &document.issued),
            ("Period", &format!("{} to {}", period.start, period.end)),
            ("Time zone", &period.time_zone),
            ("Currency", &document.currency),
        ];
        for (label, value) in details {
            let label = Block { lines: wrap(label, BODY, DETAIL_VALUES - DETAILS, 1), x: DETAILS, align: Align::Left };
            let value =
                Block { lines: wrap(value, BODY, RIGHT - DETAIL_VALUES, 3), x: DETAIL_VALUES, align: Align::Left };
            let height = label.height().max(value.height());
            self.draw(&label, GREY);
            self.draw(&value, BLACK);
            self.y -= height + 2.0;
        }
        self.y = self.y.min(below_parties) - GAP;
    }

    fn table(&mut self, document: &InvoiceDocument) {
        let amount = format!("Amount ({})", document.currency);
        let titles = ["Description", "Tokens", "Rate", amount.as_str()];
        let columns = Columns::of(&titles, &document.lines);
        let header = columns.row(titles, STRONG);
        let header_height = row_height(&header);
        let mut headed = false;
        for line in &document.lines {
            let cells = columns.row([&line.description, &line.tokens, &line.rate, &line.amount], BODY);
            let height = row_height(&cells);
            if !self.fits(if headed { height } else { header_height + height }) {
                self.next_sheet(document);
                headed = false;
            }
            if !headed {
                self.band(header_height);
                self.row(&header);
                headed = true;
            }
            self.row(&cells);
            self.rule(LEFT, LIGHT);
        }
        self.y -= GAP;
    }

    fn totals(&mut self, document: &InvoiceDocument) {
        let mut entries = vec![("Subtotal", &document.subtotal, BODY)];
        entries.extend(document.discount.iter().map(|amount| ("Discount", amount, BODY)));
        entries.extend(document.credits.iter().map(|credit| (credit.description.as_str(), &credit.amount, BODY)));
        entries.extend(document.rounding.iter().map(|amount| ("Rounding", amount, BODY)));
        let total = format!("Total ({})", document.currency);
        entries.push((&total, &document.total, TOTAL));
        let right = RIGHT - PADDING;
        let rows = entries.iter().map(|&(label, amount, style)| {
            let amount = Block { lines: wrap(amount, style, MAX_FIGURES, 4), x: right, align: Align::Right };
            let room = right - MAX_FIGURES - GAP - TOTALS;
            [Block { lines: wrap(label, style, room, 6), x: TOTALS, align: Align::Left }, amount]
        });
        let rows: Vec<_> = rows.collect();
        // Together on one sheet where they can be.
        let height: f32 = rows.iter().map(|row| row_height(row)).sum();
        if !self.fits(height) {
            self.next_sheet(document);
        }
        for (index, row) in rows.iter().enumerate() {
            if !self.fits(row_height(row)) {
                self.next_sheet(document);
            }
            if index + 1 == rows.len() {
                self.rule(TOTALS - PADDING, BLACK);
            }
            self.row(row);
        }
        self.y -= 2.0 * GAP;
    }

    fn notes(&mut self, document: &InvoiceDocument) {
        let title = document.notes.first().map(|_| ("Notes", STRONG, 1));
        for (text, style, max_lines) in
            title.into_iter().chain(document.notes.iter().map(|note| (note.as_str(), BODY, 12)))
        {
            let lines = wrap(text, style, RIGHT - LEFT, max_lines);
            let block = Block { lines, x: LEFT, align: Align::Left };
            // The heading stays with the first lines of a note.
            let keep = if style.weight == Weight::Bold { 3.0 * leading(BODY.size) } else { 0.0 };
            if !self.fits(block.height() + keep) {
                self.next_sheet(document);
            }
            self.draw(&block, BLACK);
            self.y -= block.height() + PADDING;
        }
    }

    fn finish(mut self, document: &InvoiceDocument) -> (Vec<Content>, BTreeSet<Font>) {
        self.sheets.push(self.sheet);
        let count = self.sheets.len();
        let number = format!("Invoice {}", document.number);
        for (index, sheet) in self.sheets.iter_mut().enumerate() {
            let page = wrap(&format!("Page {} of {count}", index + 1), SMALL, RIGHT - LEFT, 1);
            let room = RIGHT - LEFT - page.iter().map(Line::width).sum::<f32>() - GAP;
            for line in &wrap(&number, SMALL, room, 1) {
                show(sheet, &mut self.fonts, line, (LEFT, FOOTER), GREY);
            }
            for line in &page {
                show(sheet, &mut self.fonts, line, (RIGHT - line.width(), FOOTER), GREY);
            }
        }
        (self.sheets, self.fonts)
    }

    fn fits(&self, height: f32) -> bool {
        self.y - height >= BOTTOM
    }

    fn next_sheet(&mut self, document: &InvoiceDocument) {
        self.sheets.push(std::mem::replace(&mut self.sheet, Content::new()));
        self.y = TOP;
        self.flow(&format!("Invoice {} (continued)", document.number), STRONG, RIGHT, 1, BLACK);
        self.y -= GAP;
    }

    /// Text from the left margin to `right`; the free height shrinks.
    fn flow(&mut self, text: &str, style: Style, right: f32, max_lines: usize, grey: f32) {
        let block = Block { lines: wrap(text, style, right - LEFT, max_lines), x: LEFT, align: Align::Left };
        self.draw(&block, grey);
        self.y -= block.height();
    }

    /// Blocks side by side; the free height shrinks.
    fn row(&mut self, cells: &[Block]) {
        self.y -= PADDING;
        for cell in cells {
            self.draw(cell, BLACK);
        }
        self.y -= row_height(cells) - PADDING;
    }

    /// A block below `y`, which stays.
    fn draw(&mut self, block: &Block, grey: f32) {
        let mut y = self.y;
        for line in &block.lines {
            let x = if block.align == Align::Right { block.x - line.width() } else { block.x };
            show(&mut self.sheet, &mut self.fonts, line, (x, y - line.size), grey);
            y -= leading(line.size);
        }
    }

    /// A thin line from `left` to the right margin.
    fn rule(&mut self, left: f32, grey: f32) {
        self.sheet.set_stroke_gray(grey).set_line_width(0.5).move_to(left, self.y).line_to(RIGHT, self.y).stroke();
    }

    /// A shaded band below `y`.
    fn band(&mut self, height: f32) {
        self.sheet.set_fill_gray(BAND).rect(LEFT, self.y - height, RIGHT - LEFT, height).fill_nonzero();
    }
}

fn row_height(cells: &[Block]) -> f32 {
    cells.iter().map(Block::height).fold(0.0, f32::max) + 2.0 * PADDING
}

/// The table's columns: those of figures as wide as their widest cell, the rest for the description.
struct Columns {
    description_width: f32,
    /// Right ends and widths.
    figures: [(f32, f32); 3],
}

impl Columns {
    fn of(titles: &[&str; 4], lines: &[InvoiceLine]) -> Self {
        let [_, tokens, rate, amount] = titles.map(|title| measure(title, STRONG));
        let mut widths = [tokens, rate, amount];
        for line in lines {
            for (width, text) in widths.iter_mut().zip([&line.tokens, &line.rate, &line.amount]) {
                *width = width.max(measure(text, BODY));
            }
        }
        // Room for rounding, so that the widest cell stays on one line.
        let [tokens, rate, amount] = widths.map(|width| (width + 0.1).min(MAX_FIGURES));
        let amount_end = RIGHT - PADDING;
        let rate_end = amount_end - amount - 2.0 * GAP;
        let tokens_end = rate_end - rate - 2.0 * GAP;
        let description_width = tokens_end - tokens - 2.0 * GAP - LEFT - PADDING;
        Self { description_width, figures: [(tokens_end, tokens), (rate_end, rate), (amount_end, amount)] }
    }

    fn row(&self, [description, tokens, rate, amount]: [&str; 4], style: Style) -> [Block; 4] {
        let [tokens, rate, amount] = [(tokens, self.figures[0]), (rate, self.figures[1]), (amount, self.figures[2])]
            .map(|(text, (x, width))| Block { lines: wrap(text, style, width, 4), x, align: Align::Right });
        let lines = wrap(description, style, self.description_width, 4);
        [Block { lines, x: LEFT + PADDING, align: Align::Left }, tokens, rate, amount]
    }
}

/// Writes one line of text with its baseline at `(x, y)`.
fn show(sheet: &mut Content, fonts: &mut BTreeSet<Font>, line: &Line, (x, y): (f32, f32), grey: f32) {
    sheet.set_fill_gray(grey).begin_text().set_text_matrix([1.0, 0.0, 0.0, 1.0, x, y]);
    for (font, run) in line.runs() {
        let mut bytes = Vec::with_capacity(2 * run.len());
        for glyph in run {
            glyph.encode(&mut bytes);
        }
        fonts.insert(font);
        sheet.set_font(font.resource(), line.size).show(Str(&bytes));
    }
    sheet.end_text();
}
