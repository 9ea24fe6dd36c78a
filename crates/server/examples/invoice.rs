//! Turns an invoice in JSON into PDF: `cargo run -p server --example invoice < invoice.json > invoice.pdf`.
#![forbid(unsafe_code)]

use std::io::{Write, stdin, stdout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let document: server::pdf::InvoiceDocument = serde_json::from_reader(stdin().lock())?;
    stdout().lock().write_all(&server::pdf::invoice(&document))?;
    Ok(())
}
