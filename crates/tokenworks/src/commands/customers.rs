//! `customers`: organisations and what belongs to them, payments, credit notes, invoices, the audit log.

use std::io::Write;
use std::path::Path;

use economics::books::unit;
use serde_json::{Map, Value, json};

use super::Context;
use crate::cli::books::{Customers, EndUser, Fields, Member, Organisation, Person, Project, Role};
use crate::desk::{Books, part, set, there};
use crate::error::{Error, Result};
use crate::output::table;

/// Runs `customers`.
///
/// # Errors
/// The books' refusal.
pub fn run(context: &Context, command: &Customers) -> Result<()> {
    let books = Books::open(context, matches!(command, Customers::Add(_)))?;
    match command {
        Customers::List { json } => list(context, &books, *json),
        Customers::Show { id } => show(context, &books, id),
        Customers::Add(args) => add(context, &books, args),
        Customers::Set(args) => put(context, &books, ("organisations", &args.id), &args.fields, |known| {
            Ok(organisation(there(known, "organisations", &args.id)?, args))
        }),
        Customers::Team(args) => put(context, &books, ("teams", &args.id), &args.fields, |known| member(known, args)),
        Customers::Project(args) => project(context, &books, args),
        Customers::Member(args) => {
            let id = format!("{}/{}", args.customer, args.person);
            put(context, &books, ("members", &id), &Fields { set: Vec::new() }, |_| Ok(person(args)))
        }
        Customers::EndUser(args) => end_user(context, &books, args),
        Customers::Pay { id, amount, reference } => {
            let body = json!({"organisation": id, "amount": amount, "reference": reference});
            tell_repeated(context, &books.send("POST", "/payments", &body)?);
            standing(context, &books, id)
        }
        Customers::Refund { request, amount, reference, reason } => {
            let mut body = json!({"request": request, "amount": amount, "reference": reference});
            if let Some(reason) = reason {
                body["reason"] = reason.as_str().into();
            }
            tell_repeated(context, &books.send("POST", "/credits", &body)?);
            context.output.line(format_args!("{amount} given back for {request}"))
        }
        Customers::Invoice { id, window, pdf } => invoice(context, &books, (id, window), pdf.as_deref()),
        Customers::Audit { limit, json } => audit(context, &books, *limit, *json),
    }
}

/// Says of a payment or credit note that its reference was booked before.
fn tell_repeated(context: &Context, posted: &Value) {
    if posted.get("repeated") == Some(&Value::Bool(true)) {
        context.output.note("this reference was booked before: nothing is booked now");
    }
}

/// Writes the record of a kind that `make` makes of the one that is there, after the other fields are set, and shows it as
/// it is now.
pub(super) fn put(
    context: &Context,
    books: &Books,
    (kind, id): (&str, &str),
    fields: &Fields,
    make: impl Fn(Option<Map<String, Value>>) -> Result<Map<String, Value>>,
) -> Result<()> {
    let answer = books.change(kind, id, |known| with_fields(make(known)?, fields))?;
    context.output.json(answer.get("record").unwrap_or(&answer))
}

fn with_fields(mut record: Map<String, Value>, fields: &Fields) -> Result<Map<String, Value>> {
    let named = ["id", "organisation", "user", "person"].map(|field| record.get(field).cloned());
    fields.set.iter().try_for_each(|assignment| set(&mut record, assignment))?;
    if ["id", "organisation", "user", "person"].map(|field| record.get(field).cloned()) != named {
        return Err(
            Error::usage("--set changes no id and no organisation").hint("name them by the command's own words")
        );
    }
    Ok(record)
}

/// Sets what is given.
pub(super) fn given(record: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        record.insert(name.to_owned(), value.into());
    }
}

fn add(context: &Context, books: &Books, args: &Organisation) -> Result<()> {
    put(context, books, ("organisations", &args.id), &args.fields, |known| match known {
        None => new_organisation(args),
        Some(_) => Err(Error::usage(format!("there is an organisation \"{}\" already", args.id))
            .hint(format!("change it: tokenworks customers set {}", args.id))),
    })
}

fn new_organisation(args: &Organisation) -> Result<Map<String, Value>> {
    let mut record = organisation(Map::new(), args);
    record.entry("name").or_insert_with(|| args.id.as_str().into());
    if !record.contains_key("plan") {
        return Err(Error::usage("an organisation needs a plan")
            .hint("--plan basic; `tokenworks plans list` shows what there is, `tokenworks plans add` makes one"));
    }
    Ok(record)
}

fn organisation(mut record: Map<String, Value>, args: &Organisation) -> Map<String, Value> {
    record.insert("id".to_owned(), args.id.as_str().into());
    given(&mut record, "name", args.name.as_deref());
    given(&mut record, "plan", args.plan.as_deref());
    given(&mut record, "credit", args.credit.as_deref());
    record
}

/// The record of a team or project as it is or shall be.
fn member(known: Option<Map<String, Value>>, args: &Member) -> Result<Map<String, Value>> {
    if known.is_none() && args.customer.is_none() {
        return Err(Error::usage(format!("\"{}\" is new; which organisation does it belong to?", args.id))
            .hint("--customer acme"));
    }
    let mut record = known.unwrap_or_default();
    record.insert("id".to_owned(), args.id.as_str().into());
    given(&mut record, "organisation", args.customer.as_deref());
    given(&mut record, "name", args.name.as_deref());
    record.entry("name").or_insert_with(|| args.id.as_str().into());
    Ok(record)
}

fn project(context: &Context, books: &Books, args: &Project) -> Result<()> {
    put(context, books, ("projects", &args.member.id), &args.member.fields, |known| {
        let mut record = member(known, &args.member)?;
        given(&mut record, "team", args.team.as_deref());
        Ok(record)
    })
}

fn person(args: &Person) -> Map<String, Value> {
    let role = match args.role {
        Role::Admin => "admin".into(),
        Role::Member => "member".into(),
        Role::Viewer => "viewer".into(),
        Role::None => Value::Null,
    };
    let record =
        [("organisation", args.customer.as_str().into()), ("person", args.person.as_str().into()), ("role", role)];
    record.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn end_user(context: &Context, books: &Books, args: &EndUser) -> Result<()> {
    let id = format!("{}/{}", args.customer, args.user);
    put(context, books, ("end-users", &id), &args.fields, |known| {
        let mut record = known.unwrap_or_default();
        record.insert("organisation".to_owned(), args.customer.as_str().into());
        record.insert("user".to_owned(), args.user.as_str().into());
        Ok(record)
    })
}

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// What an organisation has, as text: money, what is held of it, what is left of the pool.
fn standing_cells(books: &Books, id: &str) -> Result<[String; 3]> {
    let standing = books.get(&format!("/organisations/{}/standing", part(id)))?;
    let pool = match standing.get("pool_units_left").and_then(Value::as_i64) {
        Some(units) => unit::text(unit::POOL, units),
        None => "-".to_owned(),
    };
    Ok([text(&standing, "balance").to_owned(), text(&standing, "held").to_owned(), pool])
}

fn list(context: &Context, books: &Books, json: bool) -> Result<()> {
    let mut records = books.list("organisations")?;
    if json {
        for record in &mut records {
            record["standing"] = books.get(&format!("/organisations/{}/standing", part(text(record, "id"))))?;
        }
        return context.output.json(&records);
    }
    let mut rows = vec![["ID", "PLAN", "BALANCE", "HELD", "POOL TOKENS LEFT", "NAME"].map(str::to_owned).to_vec()];
    for record in &records {
        let id = text(record, "id");
        let [balance, held, pool] = standing_cells(books, id)?;
        let suspended = record.get("suspended").and_then(Value::as_bool).unwrap_or(false);
        let name = format!("{}{}", text(record, "name"), if suspended { " (suspended)" } else { "" });
        rows.push(vec![id.to_owned(), text(record, "plan").to_owned(), balance, held, pool, name]);
    }
    context.output.text(table(&rows))
}

fn standing(context: &Context, books: &Books, id: &str) -> Result<()> {
    let [balance, held, pool] = standing_cells(books, id)?;
    context.output.line(format_args!("{id}: balance {balance}, held {held}, pool tokens left {pool}"))
}

fn show(context: &Context, books: &Books, id: &str) -> Result<()> {
    let record = books.one("organisations", id)?;
    let standing = books.get(&format!("/organisations/{}/standing", part(id)))?;
    let mut whole = json!({"organisation": record, "standing": standing, "budgets": budgets(books, id)?});
    for kind in ["teams", "projects", "members", "end-users"] {
        let own = books.list(kind)?.into_iter().filter(|record| text(record, "organisation") == id);
        whole[kind] = own.collect();
    }
    let own = |key: &Value| {
        let projects = whole["projects"].as_array().into_iter().flatten();
        projects.into_iter().any(|project| text(project, "id") == text(key, "project"))
    };
    let keys: Vec<Value> = books.list("keys")?.into_iter().filter(own).collect();
    whole["keys"] = keys.into();
    context.output.json(&whole)
}

/// What is used of a customer's budgets, from all pages.
fn budgets(books: &Books, id: &str) -> Result<Vec<Value>> {
    let path = format!("/organisations/{}/budgets?limit=500", part(id));
    let (mut all, mut next) = (Vec::new(), path.clone());
    loop {
        let mut page = books.get(&next)?;
        if let Some(rows) = page["data"].as_array_mut() {
            all.append(rows);
        }
        match page["next_after"].as_str() {
            Some(after) => next = format!("{path}&after={}", part(after)),
            None => return Ok(all),
        }
    }
}

fn invoice(context: &Context, books: &Books, (id, window): (&str, &str), pdf: Option<&Path>) -> Result<()> {
    let path = format!("/organisations/{}/invoices/{}", part(id), part(window));
    let Some(file) = pdf else {
        return context.output.json(&books.get(&path)?);
    };
    let bytes = books.bytes("GET", &format!("{path}.pdf"), None)?;
    let written = std::fs::File::create_new(file).and_then(|mut file| file.write_all(&bytes));
    written.map_err(|e| {
        Error::failure(format!("cannot write {}", file.display())).because(e).hint("name a file that is not there yet")
    })?;
    context.output.line(format_args!("written to {}", file.display()))
}

fn audit(context: &Context, books: &Books, limit: u32, json: bool) -> Result<()> {
    let answer = books.get(&format!("/audit?order=desc&limit={limit}"))?;
    let acts = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    if json {
        return context.output.json(&acts);
    }
    let mut rows = vec![["WHEN", "WHO", "WHAT", "AFTER"].map(str::to_owned).to_vec()];
    for act in &acts {
        let when = economics::window::to_rfc3339(act.get("at_ms").and_then(Value::as_i64).unwrap_or(0));
        let after = match act.get("after") {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        rows.push(vec![when, text(act, "actor").to_owned(), text(act, "record").to_owned(), after]);
    }
    context.output.text(table(&rows))
}
