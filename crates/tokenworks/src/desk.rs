//! How commands reach the books: through the running server's desk, or, while none runs, by opening them.

use std::io;

use serde_json::{Map, Value};
use server::{Desk, DeskAnswer, DeskError};

use crate::books;
use crate::commands::Context;
use crate::commands::answer::runtime;
use crate::error::{Error, Result, chain};

/// Socket in the data folder through which commands reach the server.
pub const SOCKET: &str = "desk.sock";

/// How often a change is made anew when others come first.
const TRIES: u32 = 8;

/// A record of the directory as JSON.
pub type Record = Map<String, Value>;

/// The books, as commands see them: the routes below `/admin/v1`.
pub struct Books {
    runtime: tokio::runtime::Runtime,
    desk: Desk,
}

impl Books {
    /// Those in the data folder; with `make` they are made when there are none.
    ///
    /// # Errors
    /// Another user's server has them, they cannot be opened, or there are none.
    pub fn open(context: &Context, make: bool) -> Result<Self> {
        if let Some(served) = Self::served(context)? {
            return Ok(served);
        }
        if !make {
            books::existing(context)?;
        }
        let secret = books::secret(context)?;
        let desk = Desk::of(books::open(context, &secret)?, context.settings.books.seller.clone());
        Ok(Self { runtime: runtime()?, desk })
    }

    /// Those of the server that runs in the data folder; `None`: none does.
    ///
    /// # Errors
    /// It is another user's.
    pub fn served(context: &Context) -> Result<Option<Self>> {
        let (runtime, socket) = (runtime()?, context.settings.data_dir.join(SOCKET));
        let found = runtime.block_on(Desk::find(&socket)).map_err(|e| {
            Error::failure(format!("cannot reach the server at {}", socket.display()))
                .because(e)
                .hint("run this as the user who runs the server")
        })?;
        Ok(found.map(|desk| Self { runtime, desk }))
    }

    /// Reads below `/admin/v1`.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.json("GET", path, None)
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// The server's refusal, which names the field.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.json(method, path, Some(body))
    }

    fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        json(&self.bytes(method, path, body)?)
    }

    /// The bytes of an answer that need be no JSON.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn bytes(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
        let answer = self.ask((method, path), None, body)?;
        if answer.status < 300 { Ok(answer.body) } else { Err(refusal(&answer)) }
    }

    fn ask(
        &self,
        (method, path): (&str, &str),
        condition: Option<(&str, &str)>,
        body: Option<&Value>,
    ) -> Result<DeskAnswer> {
        let body = body.map(Value::to_string);
        let path = format!("/admin/v1{path}");
        let asked = self.desk.ask((method, &path), condition, body.as_ref().map(String::as_bytes));
        self.runtime.block_on(asked).map_err(|e| unanswered(&e))
    }

    /// The records of a kind.
    ///
    /// # Errors
    /// As [`Books::get`].
    pub fn list(&self, kind: &str) -> Result<Vec<Value>> {
        match self.get(&format!("/{kind}"))?.get_mut("data").map(Value::take) {
            Some(Value::Array(records)) => Ok(records),
            _ => Err(Error::failure("the server's answer is no list")),
        }
    }

    /// The record of a kind with this id, if there is one.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn find(&self, kind: &str, id: &str) -> Result<Option<Record>> {
        Ok(self.find_tagged(kind, id)?.map(|(record, _)| record))
    }

    /// With its tag.
    fn find_tagged(&self, kind: &str, id: &str) -> Result<Option<(Record, String)>> {
        let answer = self.ask(("GET", &format!("/{kind}/{}", part(id))), None, None)?;
        match (answer.status, serde_json::from_slice(&answer.body)) {
            (200, Ok(Value::Object(record))) => {
                let tag = answer.etag.ok_or_else(|| Error::failure("the server's answer has no ETag"))?;
                Ok(Some((record, tag)))
            }
            (404, _) => Ok(None),
            _ => Err(refusal(&answer)),
        }
    }

    /// The record of a kind with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn one(&self, kind: &str, id: &str) -> Result<Record> {
        there(self.find(kind, id)?, kind, id)
    }

    /// Makes a record of the one that is there (`None`: there is none) and writes it. Where another change came first it is
    /// made anew of what is there then, so that nothing of the other is lost. Gives the server's answer.
    ///
    /// # Errors
    /// The server's refusal, those of `make`, or others came first again and again.
    pub fn change(&self, kind: &str, id: &str, make: impl Fn(Option<Record>) -> Result<Record>) -> Result<Value> {
        for _ in 0..TRIES {
            let (known, tag) = self.find_tagged(kind, id)?.unzip();
            let condition = tag.as_deref().map_or(("if-none-match", "*"), |tag| ("if-match", tag));
            let record = Value::Object(make(known)?);
            let answer = self.ask(("PUT", &format!("/{kind}")), Some(condition), Some(&record))?;
            match answer.status {
                412 => {}
                ..300 => return json(&answer.body),
                _ => return Err(refusal(&answer)),
            }
        }
        Err(Error::failure(format!("others change \"{id}\" among the {kind} all the time; nothing was changed"))
            .hint("run the command again"))
    }
}

/// A record that has to be there.
///
/// # Errors
/// It is not.
pub fn there(known: Option<Record>, kind: &str, id: &str) -> Result<Record> {
    known.ok_or_else(|| {
        Error::usage(format!("there is no \"{id}\" among the {kind}")).hint("the list command shows what there is")
    })
}

fn json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|e| Error::failure("the server's answer is no JSON").because(e))
}

fn unanswered(error: &DeskError) -> Error {
    let refused = matches!(error, DeskError::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused);
    let hint =
        if refused { "the server has just ended; run the command again" } else { "the server's log may say more" };
    Error::failure("the books gave no answer").because(chain(error)).hint(hint)
}

/// The server's refusal as an error of the command.
fn refusal(answer: &DeskAnswer) -> Error {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or("the server gave no reason");
    if answer.status < 500 { Error::usage(message) } else { Error::failure(message) }
}

/// Fields of records that hold money, which JSON has as text.
const AMOUNTS: [&str; 2] = ["amount", "credit"];

/// A part of a path.
#[must_use]
pub fn part(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes().fold(String::new(), |mut path, byte| {
        if plain(byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
        path
    })
}

/// Sets the field at a dotted path; a value that is no JSON is a text, and so is an amount. `null` removes it.
///
/// # Errors
/// No `PATH=VALUE`, or a path through something that has no fields.
pub fn set(record: &mut Record, assignment: &str) -> Result<()> {
    let wrong = |problem: &str| {
        Error::usage(format!("--set {assignment}: {problem}"))
            .hint("for example --set bounds.limits.requests_per_minute=60, or --set suspended=true")
    };
    let (path, text) = assignment.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
    let (folder, name) = path.rsplit_once('.').map_or((None, path), |(folder, name)| (Some(folder), name));
    let value = serde_json::from_str(text).ok().filter(|value: &Value| !(value.is_number() && AMOUNTS.contains(&name)));
    let value = value.unwrap_or_else(|| Value::from(text));
    if path.split('.').any(str::is_empty) {
        return Err(wrong("the path has an empty part"));
    }
    let mut place = record;
    for step in folder.into_iter().flat_map(|folder| folder.split('.')) {
        let next = place.entry(step).or_insert_with(|| Value::Object(Map::new()));
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        place = next.as_object_mut().ok_or_else(|| wrong(&format!("`{step}` has no fields")))?;
    }
    if value.is_null() {
        place.remove(name);
    } else {
        place.insert(name.to_owned(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_set_by_their_path() {
        let Value::Object(mut record) = json!({"id": "a", "credit": "0", "bounds": null}) else { panic!() };
        for assignment in [
            "name=Acme = Co",
            "bounds.limits.requests_per_minute=60",
            "suspended=true",
            "credit=null",
            "bounds.budget.amount=0.50",
            "end_user_bounds.budget.amount=5",
        ] {
            set(&mut record, assignment).unwrap();
        }
        let expected = json!({
            "id": "a", "name": "Acme = Co", "suspended": true,
            "bounds": {"limits": {"requests_per_minute": 60}, "budget": {"amount": "0.50"}},
            "end_user_bounds": {"budget": {"amount": "5"}},
        });
        assert_eq!(Value::Object(record.clone()), expected);
        for (bad, part) in [("name", "no `=`"), ("a..b=1", "empty part"), ("id.x=1", "`id` has no fields")] {
            let error = set(&mut record, bad).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(Value::Object(record), expected);
    }

    #[test]
    fn a_change_takes_in_what_others_changed_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let settings = economics::books::Settings {
            store: ledger::StoreSpec::Sqlite(folder.path().join("books.db")),
            writer: 0,
            currency: economics::Currency::of("USD").unwrap(),
            secret: b"sixteen bytes at least".to_vec(),
            bootstrap: Vec::new(),
            steps: economics::books::Steps::default(),
        };
        let books = economics::Books::open(settings, crate::books::now_ms()).unwrap();
        books.serve_models(&["tiny".to_owned()], crate::books::now_ms()).unwrap();
        let books = Books { runtime: runtime().unwrap(), desk: Desk::of(books, String::new()) };
        let tried = std::cell::Cell::new(0);
        // As another person does, the first `times` times.
        let meanwhile = |times: u32| {
            tried.set(tried.get() + 1);
            if tried.get() <= times {
                let limits = json!({"requests_per_minute": tried.get()});
                books.send("PUT", "/plans", &json!({"id": "gold", "price_list": "house", "limits": limits})).unwrap();
            }
        };
        let discount = |known: Option<Record>, permille: u32| {
            let mut record = known.unwrap_or_default();
            record.insert("id".to_owned(), "gold".into());
            record.insert("price_list".to_owned(), "house".into());
            record.insert("discount_permille".to_owned(), permille.into());
            Ok(record)
        };
        let made = books.change("plans", "gold", |known| {
            meanwhile(2);
            discount(known, 100)
        });
        let record = &made.unwrap()["record"];
        assert_eq!((&record["limits"]["requests_per_minute"], &record["discount_permille"]), (&json!(2), &json!(100)));
        assert_eq!(tried.get(), 3);
        let error = books.change("plans", "gold", |known| {
            meanwhile(u32::MAX);
            discount(known, 200)
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("others change \"gold\" among the plans all the time"), "{error}");
        assert_eq!(tried.get(), 3 + TRIES);
        assert_eq!(books.one("plans", "gold").unwrap()["limits"]["requests_per_minute"], tried.get());
    }

    #[test]
    fn parts_of_paths_stay_parts() {
        assert_eq!(part("acme-1.x"), "acme-1.x");
        assert_eq!(part("a/b?é"), "a%2Fb%3F%C3%A9");
    }
}
