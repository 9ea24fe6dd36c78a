//! Invoices as PDF (1.7, A4, any number of pages).
//!
//! No font is embedded, so neither the repository nor the file carries one: Latin text uses the standard Helvetica, all
//! other text a font of a predefined character collection, for which the viewer takes an installed font of that script.
//! All encodings are predefined ones, so that text can be searched and extracted.
//!
//! Every figure is a text that the caller has made: nothing is added up, rounded or formatted here.

mod fonts;
mod helvetica;
mod layout;
mod text;

use pdf_writer::types::{Direction, PageMode};
use pdf_writer::writers::Resources;
use pdf_writer::{Finish, Name, Pdf, Rect, Ref, TextStr};
use serde::Deserialize;

/// What stands on an invoice. Texts may hold any characters. The Latin letters of Europe and Turkey, Chinese, Japanese,
/// Korean, Russian and unaccented Greek are shown, all else as `□`; what is too long is cut, which `…` shows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceDocument {
    /// The invoice's number, unique for the seller.
    pub number: String,
    /// Date of issue.
    pub issued: String,
    /// Who is paid.
    pub seller: String,
    /// Who pays: the name.
    pub customer: String,
    /// Who pays: the identifier.
    pub customer_id: String,
    /// When the use took place.
    pub period: Period,
    /// Code of the currency of all amounts, as `USD`.
    pub currency: String,
    /// What is charged, in this order.
    pub lines: Vec<InvoiceLine>,
    /// The sum of the lines.
    pub subtotal: String,
    /// Discounts, with their sign; no line when `None`.
    #[serde(default)]
    pub discount: Option<String>,
    /// Credits and refunds, in this order.
    #[serde(default)]
    pub credits: Vec<Credit>,
    /// What rounding to the currency's minor unit adds, with its sign; no line when `None`.
    #[serde(default)]
    pub rounding: Option<String>,
    /// What is to be paid.
    pub total: String,
    /// Paragraphs below the total.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A span of time, as shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// Its begin.
    pub start: String,
    /// Its end.
    pub end: String,
    /// The time zone of both.
    pub time_zone: String,
}

/// One charged quantity.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceLine {
    /// What it is, as model and meter.
    pub description: String,
    /// How many tokens.
    pub tokens: String,
    /// The price, as `0.50 per 1M`.
    pub rate: String,
    /// What it costs.
    pub amount: String,
}

/// A credit or a refund.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credit {
    /// What it is for.
    pub description: String,
    /// The amount, with its sign.
    pub amount: String,
}

/// The language of the labels.
const LANGUAGE: &str = "en";

/// The invoice as a PDF file. The same document gives the same bytes.
#[must_use]
pub fn invoice(document: &InvoiceDocument) -> Vec<u8> {
    let (sheets, fonts) = layout::sheets(document);
    let mut pdf = Pdf::new();
    let mut last = 0;
    let mut next = || {
        last += 1;
        Ref::new(last)
    };
    let (catalog, info, tree, resources) = (next(), next(), next(), next());
    let pages: Vec<(Ref, Ref)> = sheets.iter().map(|_| (next(), next())).collect();

    pdf.document_info(info)
        .title(TextStr(&format!("Invoice {}", document.number)))
        .author(TextStr(&document.seller))
        .creator(TextStr("Tokenworks"));
    let mut root = pdf.catalog(catalog);
    root.pages(tree).lang(TextStr(LANGUAGE)).page_mode(PageMode::UseNone);
    root.viewer_preferences().display_doc_title(true).direction(Direction::L2R);
    root.finish();

    let count = i32::try_from(pages.len()).unwrap_or(i32::MAX);
    pdf.pages(tree).kids(pages.iter().map(|&(page, _)| page)).count(count);
    for (content, &(page, stream)) in sheets.into_iter().zip(&pages) {
        pdf.page(page)
            .parent(tree)
            .media_box(Rect::new(0.0, 0.0, layout::PAGE_WIDTH, layout::PAGE_HEIGHT))
            .contents(stream)
            .pair(Name(b"Resources"), resources);
        pdf.stream(stream, &content.finish());
    }

    let fonts: Vec<_> = fonts.into_iter().map(|font| (font, fonts::write(&mut pdf, &mut next, font))).collect();
    let mut dictionary: Resources<'_> = pdf.indirect(resources).start();
    let mut entries = dictionary.fonts();
    for (font, id) in fonts {
        entries.pair(font.resource(), id);
    }
    entries.finish();
    dictionary.finish();
    pdf.finish()
}

#[cfg(test)]
mod tests;
