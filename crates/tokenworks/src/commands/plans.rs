//! `plans`: what customers get for a month, and where its limits are.

use serde_json::{Map, Value};

use super::Context;
use super::customers::{given, put};
use crate::cli::books::{Plan, Plans, PoolEnd};
use crate::desk::{Books, set, there};
use crate::error::{Error, Result};

/// Runs `plans`.
///
/// # Errors
/// The books' refusal.
pub fn run(context: &Context, command: &Plans) -> Result<()> {
    let books = Books::open(context, matches!(command, Plans::Add(_)))?;
    match command {
        Plans::List { json: true } => context.output.json(&books.list("plans")?),
        Plans::List { json: false } => books.list("plans")?.iter().try_for_each(|plan| context.output.line(plan)),
        Plans::Add(args) => put(context, &books, ("plans", &args.id), &args.fields, |known| match known {
            None => record(Map::new(), args),
            Some(_) => Err(Error::usage(format!("there is a plan \"{}\" already", args.id))
                .hint(format!("change it: tokenworks plans set {}", args.id))),
        }),
        Plans::Set(args) => put(context, &books, ("plans", &args.id), &args.fields, |known| {
            record(there(known, "plans", &args.id)?, args)
        }),
    }
}

fn record(mut record: Map<String, Value>, args: &Plan) -> Result<Map<String, Value>> {
    record.insert("id".to_owned(), args.id.as_str().into());
    given(&mut record, "price_list", args.price_list.as_deref());
    if let Some(zone) = &args.zone {
        set(&mut record, &format!("calendar.zone={zone}"))?;
    }
    if let Some(tokens) = args.pool {
        set(&mut record, &format!("pool.tokens={tokens}"))?;
    }
    let then = args.at_pool_end.map(|end| match end {
        PoolEnd::Overage => "overage",
        PoolEnd::Stop => "stop",
    });
    if let Some(then) = then {
        if !record.get("pool").is_some_and(Value::is_object) {
            return Err(Error::usage("--at-pool-end needs a pool").hint("--pool 1000000"));
        }
        set(&mut record, &format!("pool.then={then}"))?;
    }
    Ok(record)
}
