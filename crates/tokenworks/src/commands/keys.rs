//! `keys`: API keys, those of the configuration and those of the books. A key is shown once; only its hash is kept.

use std::path::Path;

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Context;
use super::customers::given;
use crate::books;
use crate::cli::books::{AddKey, Keys, Scope};
use crate::desk::{Books, part, set};
use crate::error::{Error, Result};
use crate::output::table;
use crate::secret_file;

/// Bytes of a new secret.
const SECRET_BYTES: usize = 32;

/// As `keys new --json` prints it.
#[derive(Serialize)]
struct NewKey<'a> {
    name: &'a str,
    key: String,
    hash: String,
    secret_file: String,
}

/// Runs `keys`.
///
/// # Errors
/// The secret cannot be read or made, or the books' refusal.
pub fn run(context: &Context, command: &Keys) -> Result<()> {
    match command {
        Keys::New { name, json } => return new(context, name, *json),
        Keys::ResetSecret => return reset_secret(context),
        _ => {}
    }
    let books = Books::open(context, matches!(command, Keys::Add(_)))?;
    match command {
        Keys::New { .. } | Keys::ResetSecret => Ok(()),
        Keys::List { json } => list(context, &books, *json),
        Keys::Add(args) => add(context, &books, args),
        Keys::Rotate { id, grace, json } => {
            let answer = books.send("POST", &format!("/keys/{}/rotate", part(id)), &json!({"grace_seconds": grace}))?;
            once(context, &answer, *json)
        }
        Keys::Revoke { id } => {
            books.bytes("DELETE", &format!("/keys/{}", part(id)), None)?;
            context.output.line(format_args!("{id} is revoked"))
        }
    }
}

fn reset_secret(context: &Context) -> Result<()> {
    let file = context.settings.server.key_secret_file.display();
    if !books::take_secret(context)? {
        return context.output.line(format_args!("The secret in {file} is that of these books: nothing is changed."));
    }
    context.output.line(format_args!("Keys are hashed with the secret in {file} from now on."))?;
    context.output.note("No key made before works: give each a new text with `tokenworks keys rotate ID`.");
    Ok(())
}

fn add(context: &Context, books: &Books, args: &AddKey) -> Result<()> {
    let mut record = Map::new();
    given(&mut record, "id", Some(args.id.as_str()));
    given(&mut record, "project", Some(args.project.as_str()));
    given(&mut record, "name", Some(args.name.as_ref().unwrap_or(&args.id).as_str()));
    given(&mut record, "expires", args.expires.as_deref());
    if !args.scope.is_empty() {
        let scopes = args.scope.iter().map(|scope| match scope {
            Scope::Inference => "inference",
            Scope::Usage => "usage",
            Scope::Manage => "manage",
            Scope::Plant => "plant",
        });
        given(&mut record, "scopes", Some(scopes.collect::<Vec<_>>()));
    }
    args.fields.set.iter().try_for_each(|assignment| set(&mut record, assignment))?;
    let answer = books.send("POST", "/keys", &Value::Object(record))?;
    once(context, &answer, args.json)
}

/// Shows the text of a key, the only time.
fn once(context: &Context, answer: &Value, json: bool) -> Result<()> {
    if json {
        return context.output.json(answer);
    }
    context.output.note("The key, shown only now:");
    context.output.line(answer["key"].as_str().unwrap_or_default())
}

fn list(context: &Context, books: &Books, json: bool) -> Result<()> {
    let keys = books.list("keys")?;
    if json {
        return context.output.json(&keys);
    }
    let mut rows = vec![["ID", "PROJECT", "BEGINS", "SCOPES", "EXPIRES", "NAME"].map(str::to_owned).to_vec()];
    for key in &keys {
        let text = |name: &str| key[name].as_str().unwrap_or("-").to_owned();
        let scopes: Vec<&str> = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let expires = if key["revoked"] == Value::Bool(true) { "revoked".to_owned() } else { text("expires") };
        rows.push(vec![text("id"), text("project"), text("prefix"), scopes.join(","), expires, text("name")]);
    }
    context.output.text(table(&rows))
}

/// Runs `keys new`.
///
/// # Errors
/// A name that cannot be, or the secret cannot be read or made.
fn new(context: &Context, name: &str, json: bool) -> Result<()> {
    if name.trim().is_empty() || name.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err(Error::usage("the name of a key is plain text").hint("for example: tokenworks keys new team-a"));
    }
    if context.settings.server.keys.iter().any(|k| k.name == name) {
        return Err(Error::usage(format!("the configuration has a key named \"{name}\" already"))
            .hint("choose another name, or remove the old entry first"));
    }
    let file = &context.settings.server.key_secret_file;
    let secret = secret(file)?;
    let key = server::generate_key().map_err(|e| Error::failure("the system gives no random numbers").because(e))?;
    let hash = server::hash_key(&secret, &key);
    if json {
        let secret_file = file.to_string_lossy().into_owned();
        return context.output.json(&NewKey { name, key, hash, secret_file });
    }
    context.output.note("The key, shown only now:");
    context.output.line(&key)?;
    context.output.note("\nIts entry for tokenworks.toml:\n");
    context.output.line(format_args!("[[server.keys]]\nname = \"{name}\"\nhash = \"{hash}\""))?;
    context.output.note(format_args!("\nThe hash works with the secret in {}; keep that file.", file.display()));
    Ok(())
}

/// This installation's secret; made when there is none yet.
///
/// # Errors
/// It cannot be read or written, or is too short.
pub fn secret(file: &Path) -> Result<Vec<u8>> {
    if let Some(secret) = existing_secret(file)? {
        return Ok(secret);
    }
    let mut random = [0_u8; SECRET_BYTES];
    OsRng.try_fill_bytes(&mut random).map_err(|e| Error::failure("the system gives no random numbers").because(e))?;
    secret_file::make(file, &crate::catalogue::hex(&random), "server.key_secret_file")
}

/// This installation's secret, if it was made already.
///
/// # Errors
/// It cannot be read, or is too short.
pub fn existing_secret(file: &Path) -> Result<Option<Vec<u8>>> {
    match secret_file::read(file, "server.key_secret_file")? {
        Some(secret) if secret.len() < 16 => {
            Err(Error::usage(format!("the secret in {} is shorter than 16 bytes", file.display()))
                .hint("remove the file; `tokenworks keys new` makes a good one (then all keys must be made anew)"))
        }
        secret => Ok(secret),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub").join("key-secret");
        let first = secret(&file).unwrap();
        assert_eq!(first.len(), 2 * SECRET_BYTES);
        assert_eq!(secret(&file).unwrap(), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0);
        }
        std::fs::write(&file, "short").unwrap();
        assert!(secret(&file).is_err());
    }
}
