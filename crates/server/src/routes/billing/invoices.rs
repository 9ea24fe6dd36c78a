//! Invoices, as JSON and as PDF. The PDF shows the texts of the JSON.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use economics::invoice::{Item, Line, Product, State as InvoiceState};
use economics::price::STANDARD_LIST;
use economics::{Currency, Meter};
use protocol::{ErrorBody, Invoice, InvoiceCustomer, InvoiceLine, InvoiceList, InvoiceMeter, InvoiceSummary};

use super::{Reader, period};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::pdf::{self, InvoiceDocument};
use crate::segments::Segments;

const JSON: &str = "application/json";
const PDF: &str = "application/pdf";

/// The invoices of the caller's organisation, newest first: one for each period with charges or credit notes.
#[utoipa::path(
    get,
    path = "/v1/invoices",
    operation_id = "listInvoices",
    tag = "billing",
    responses(
        (status = 200, body = InvoiceList, description = "The invoices"),
        (status = 403, body = ErrorBody, description = "The key may not read usage")
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<InvoiceList>, ApiError> {
    answer_list(Reader::own(&app, &caller)?).await
}

/// The invoices of an organisation, newest first: one for each period with charges or credit notes.
#[utoipa::path(
    get,
    path = "/admin/v1/organisations/{id}/invoices",
    operation_id = "adminListInvoices",
    tag = "administration",
    params(("id" = String, Path, description = "The organisation's id")),
    responses(
        (status = 200, body = InvoiceList, description = "The invoices"),
        (status = 403, body = ErrorBody, description = "The key lacks the scope `plant`"),
        (status = 404, body = ErrorBody, description = "There is no such organisation")
    )
)]
pub(crate) async fn list_of(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
) -> Result<Json<InvoiceList>, ApiError> {
    answer_list(Reader::of(&app, &caller, id)?).await
}

/// One invoice of the caller's organisation, as JSON or, with `.pdf` behind the id or `Accept: application/pdf`, as PDF.
#[utoipa::path(
    get,
    path = "/v1/invoices/{id}",
    operation_id = "retrieveInvoice",
    tag = "billing",
    params(("id" = String, Path, description = "The first day of the period, or `current`; `.pdf` behind it asks for PDF")),
    responses(
        (status = 200, description = "The invoice", content((Invoice = "application/json"), (String = "application/pdf"))),
        (status = 403, body = ErrorBody, description = "The key may not read usage"),
        (status = 404, body = ErrorBody, description = "Nothing was charged in a period that began on this day")
    )
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Segments(id): Segments<String>,
) -> Result<Response, ApiError> {
    answer_one(&app, Reader::own(&app, &caller)?, &id, &headers).await
}

/// One invoice of an organisation, as JSON or, with `.pdf` behind the id or `Accept: application/pdf`, as PDF.
#[utoipa::path(
    get,
    path = "/admin/v1/organisations/{id}/invoices/{label}",
    operation_id = "adminRetrieveInvoice",
    tag = "administration",
    params(
        ("id" = String, Path, description = "The organisation's id"),
        ("label" = String, Path, description = "The first day of the period, or `current`; `.pdf` behind it asks for PDF")
    ),
    responses(
        (status = 200, description = "The invoice", content((Invoice = "application/json"), (String = "application/pdf"))),
        (status = 403, body = ErrorBody, description = "The key lacks the scope `plant`"),
        (status = 404, body = ErrorBody, description = "There is no such organisation or invoice")
    )
)]
pub(crate) async fn one_of(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Segments((id, label)): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    answer_one(&app, Reader::of(&app, &caller, id)?, &label, &headers).await
}

async fn answer_list(reader: Reader) -> Result<Json<InvoiceList>, ApiError> {
    let list = reader.read(|books, organisation| {
        let currency = books.currency();
        let data = books.invoices(organisation, unix_ms())?.iter().map(|invoice| summary(invoice, currency)).collect();
        Ok(InvoiceList { object: "list".to_owned(), data })
    });
    Ok(Json(list.await?))
}

async fn answer_one(app: &App, reader: Reader, id: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let (id, as_pdf) = id.strip_suffix(".pdf").map_or_else(|| (id, wants_pdf(headers)), |id| (id, true));
    let (id, seller) = (id.to_owned(), app.seller.clone());
    let answer = reader.read(move |books, organisation| {
        let missing = || {
            let shown: String = id.chars().take(64).collect();
            ApiError::not_found(format!("there is no invoice `{shown}`; the list of invoices names the ids"))
        };
        let invoice = books.invoice(organisation, &id, unix_ms())?.ok_or_else(missing)?;
        let invoice = wire(&invoice, books.currency(), seller);
        if !as_pdf {
            return Ok(Json(invoice).into_response());
        }
        // Ids of organisations have no other characters than names of files may have.
        let name = format!("inline; filename=\"{}.pdf\"", invoice.number);
        Ok(([(header::CONTENT_TYPE, PDF), (header::CONTENT_DISPOSITION, &name)], pdf::invoice(&document(&invoice)))
            .into_response())
    });
    let mut response = answer.await?;
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Whether a client would rather have PDF than JSON.
fn wants_pdf(headers: &HeaderMap) -> bool {
    let accepted: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let quality = |essence: &str| {
        let ranges = accepted.iter().flat_map(|value| value.split(','));
        let found = ranges.filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().filter(|found| found.eq_ignore_ascii_case(essence))?;
            Some(parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0_f32))
        });
        found.fold(0.0, f32::max)
    };
    quality(PDF) > quality(JSON)
}

fn state(state: InvoiceState) -> protocol::InvoiceState {
    match state {
        InvoiceState::Open => protocol::InvoiceState::Open,
        InvoiceState::Final => protocol::InvoiceState::Final,
    }
}

fn summary(invoice: &economics::Invoice, currency: &Currency) -> InvoiceSummary {
    InvoiceSummary {
        id: invoice.window.label.clone(),
        object: "invoice".to_owned(),
        number: invoice.number(),
        state: state(invoice.state),
        period: period(&invoice.window),
        currency: currency.code.clone(),
        total: invoice.total.to_minor(currency),
    }
}

fn wire(invoice: &economics::Invoice, currency: &Currency, seller: String) -> Invoice {
    let InvoiceSummary { id, object, number, state, period, currency, total } = summary(invoice, currency);
    Invoice {
        id,
        object,
        number,
        state,
        period,
        seller,
        customer: InvoiceCustomer { id: invoice.organisation.clone(), name: invoice.name.clone() },
        currency,
        subtotal: invoice.subtotal().to_string(),
        lines: invoice.lines.iter().map(|line| wire_line(line, invoice)).collect(),
        total,
    }
}

fn wire_line(Line { item, amount }: &Line, invoice: &economics::Invoice) -> InvoiceLine {
    let amount = amount.to_string();
    match item.clone() {
        Item::Usage { product: Product { list, model, version }, meter, tier, tokens, rate } => InvoiceLine::Usage {
            model,
            price_list: list,
            price_version: version,
            meter: wire_meter(meter),
            tier: u32::from(tier) + 1,
            tokens,
            rate: rate.to_string(),
            amount,
        },
        Item::Included { product: Product { list, model, version }, meter, tokens } => InvoiceLine::Included {
            model,
            price_list: list,
            price_version: version,
            meter: wire_meter(meter),
            tokens,
            amount,
        },
        Item::Discount => InvoiceLine::Discount { amount },
        Item::Credit { at_ms, request, reason } => InvoiceLine::Credit {
            date: date(&invoice.window.local(at_ms)),
            request: request.to_string(),
            reason,
            amount,
        },
        Item::Rounding => InvoiceLine::Rounding { amount },
    }
}

fn wire_meter(meter: Meter) -> InvoiceMeter {
    match meter {
        Meter::InUncached => InvoiceMeter::InUncached,
        Meter::InCached => InvoiceMeter::InCached,
        Meter::OutVisible => InvoiceMeter::OutVisible,
        Meter::OutReasoning => InvoiceMeter::OutReasoning,
    }
}

/// The day of a time in RFC 3339.
fn date(time: &str) -> String {
    time.split('T').next().unwrap_or_default().to_owned()
}

/// The invoice as it is printed.
fn document(invoice: &Invoice) -> InvoiceDocument {
    let open = invoice.state == protocol::InvoiceState::Open;
    let minutes = |time: &str| time.get(..16).unwrap_or(time).replace('T', " ");
    let mut document = InvoiceDocument {
        number: invoice.number.clone(),
        issued: if open { "not yet".to_owned() } else { date(&invoice.period.end) },
        seller: invoice.seller.clone(),
        customer: invoice.customer.name.clone(),
        customer_id: invoice.customer.id.clone(),
        period: pdf::Period {
            start: minutes(&invoice.period.start),
            end: minutes(&invoice.period.end),
            time_zone: invoice.period.time_zone.clone(),
        },
        currency: invoice.currency.clone(),
        subtotal: invoice.subtotal.clone(),
        total: invoice.total.clone(),
        ..InvoiceDocument::default()
    };
    if open {
        document.notes.push("This invoice is not final: charges and credit notes may be added to it.".to_owned());
    }
    for line in &invoice.lines {
        print_line(line, &mut document);
    }
    document
}

fn print_line(line: &InvoiceLine, document: &mut InvoiceDocument) {
    match line {
        InvoiceLine::Usage { model, price_list, price_version, meter, tier, tokens, rate, amount } => {
            let tier = if *tier > 1 { format!(", tier {tier}") } else { String::new() };
            let description = format!("{}{tier}", printed_price(model, *meter, price_list, *price_version));
            let (tokens, rate, amount) = (grouped(*tokens), rate.clone(), amount.clone());
            document.lines.push(pdf::InvoiceLine { description, tokens, rate, amount });
        }
        InvoiceLine::Included { model, price_list, price_version, meter, tokens, amount } => {
            let description = printed_price(model, *meter, price_list, *price_version);
            let (tokens, rate, amount) = (grouped(*tokens), "included".to_owned(), amount.clone());
            document.lines.push(pdf::InvoiceLine { description, tokens, rate, amount });
        }
        InvoiceLine::Discount { amount } => document.discount = Some(amount.clone()),
        InvoiceLine::Credit { date, request, reason, amount } => {
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let description = format!("Credit note of {date} for request {request}{reason}");
            document.credits.push(pdf::Credit { description, amount: amount.clone() });
        }
        InvoiceLine::Rounding { amount } => document.rounding = Some(amount.clone()),
    }
}

fn printed_price(model: &str, meter: InvoiceMeter, list: &str, version: u32) -> String {
    let meter = match meter {
        InvoiceMeter::InUncached => "input",
        InvoiceMeter::InCached => "cached input",
        InvoiceMeter::OutVisible => "output",
        InvoiceMeter::OutReasoning => "reasoning",
    };
    let list = if list == STANDARD_LIST { String::new() } else { format!("{list} ") };
    format!("{model}, {meter}, {list}price {version}")
}

/// `1,234,567`.
fn grouped(tokens: u64) -> String {
    let digits = tokens.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_the_client_would_rather_have() {
        for (accept, pdf) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/pdf"), true),
            (Some("Application/PDF;q=0.9, */*;q=0.8"), true),
            (Some("application/json, application/pdf"), false),
            (Some("application/json;q=0.5, application/pdf"), true),
            (Some("application/pdf;q=0"), false),
            (Some("text/html, application/xhtml+xml, */*;q=0.8"), false),
        ] {
            let headers = accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept)));
            assert_eq!(wants_pdf(&headers.into_iter().collect()), pdf, "{accept:?}");
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (tokens, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(tokens), text);
        }
    }
}
