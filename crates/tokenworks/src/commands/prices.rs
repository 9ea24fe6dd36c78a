//! `prices`: the versions of models' prices.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use economics::PriceBook;
use economics::price::PriceFile;
use economics::window::to_rfc3339;
use serde_json::{Map, Value, json};

use super::Context;
use super::customers::given;
use crate::cli::books::{Price, Prices};
use crate::desk::Books;
use crate::error::{Error, Result};
use crate::output::table;

/// No price file is longer.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// Runs `prices`.
///
/// # Errors
/// The books' refusal.
pub fn run(context: &Context, command: &Prices) -> Result<()> {
    let books = Books::open(context, !matches!(command, Prices::List { .. }))?;
    match command {
        Prices::List { json } => list(context, &books, *json),
        Prices::Add(args) => add(context, &books, &spec(args)),
        Prices::Import { file } => import(context, &books, file),
    }
}

fn add(context: &Context, books: &Books, spec: &Value) -> Result<()> {
    let answer = books.send("PUT", "/prices", spec)?;
    let (version, record) = (&answer["version"], &answer["record"]);
    context.output.line(format_args!("version {version} of {}: {record}", record["model"]))
}

fn spec(args: &Price) -> Value {
    let mut tier = Map::new();
    given(&mut tier, "input", Some(args.input.as_str()));
    given(&mut tier, "output", Some(args.output.as_str()));
    given(&mut tier, "cached_input", args.cached_input.as_deref());
    given(&mut tier, "reasoning", args.reasoning.as_deref());
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        to_rfc3339(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    };
    let from = args.from.clone().unwrap_or_else(now);
    let mut spec = Map::new();
    given(&mut spec, "list", args.list.as_deref());
    given(&mut spec, "model", Some(args.model.as_str()));
    given(&mut spec, "from", Some(from));
    given(&mut spec, "to", args.to.as_deref());
    given(&mut spec, "tiers", Some(json!([tier])));
    Value::Object(spec)
}

/// Adds the prices in the order of the file; those that are there already in the same form are left out.
fn import(context: &Context, books: &Books, path: &Path) -> Result<()> {
    let unreadable = |e: &dyn std::fmt::Display| {
        Error::usage(format!("cannot use the price file {}", path.display()))
            .because(e)
            .hint("examples/prices-2024.json is such a file")
    };
    let length = std::fs::metadata(path).map_err(|e| unreadable(&e))?.len();
    if length > MAX_FILE_BYTES {
        return Err(unreadable(&"it is longer than 8 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(&e))?;
    let currency = &context.settings.books.currency;
    let known = books.list("prices")?;
    let mut book = PriceBook::default();
    for price in &known {
        let spec = serde_json::from_value(price.clone()).map_err(|e| unreadable(&e))?;
        book.add(spec).map_err(|e| unreadable(&e))?;
    }
    // Checked as a whole before the first price is added.
    let file = PriceFile::read(&text, currency, &book).map_err(|e| unreadable(&e))?;
    for price in &file.prices {
        let spec = serde_json::to_value(price).map_err(|e| unreadable(&e))?;
        if known.contains(&spec) {
            context.output.line(format_args!("{} from {}: there already", price.key(), to_rfc3339(price.from)))?;
        } else {
            add(context, books, &spec)?;
        }
    }
    Ok(())
}

fn list(context: &Context, books: &Books, json: bool) -> Result<()> {
    let prices = books.list("prices")?;
    if json {
        return context.output.json(&prices);
    }
    let heads = ["LIST", "MODEL", "FROM", "TO", "PROMPT FROM", "VOLUME FROM", "INPUT", "CACHED", "OUTPUT", "REASONING"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for price in &prices {
        for tier in price["tiers"].as_array().into_iter().flatten() {
            let text = |record: &Value, name: &str| match record.get(name) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => "-".to_owned(),
                Some(value) => value.to_string(),
            };
            let mut row: Vec<String> = ["list", "model", "from", "to"].map(|name| text(price, name)).to_vec();
            let rates = ["prompt_from", "volume_from", "input", "cached_input", "output", "reasoning"];
            row.extend(rates.map(|name| text(tier, name)));
            rows.push(row);
        }
    }
    context.output.text(table(&rows))
}
