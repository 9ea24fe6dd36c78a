//! The plant's books: opened, recovered after a crash, and handed to the lines.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use economics::books::{Books, BooksError, BootstrapKey, Settings, Steps};
use economics::directory::key::KeyHash;
use engine::DutyLimit;
use ledger::{OpenError, StoreError, StoreSpec};
use metering::Journal;
use service::Charging;

use crate::commands::{Context, keys};
use crate::error::{Error, Result, chain};
use crate::output::grouped;
use crate::plant;
use crate::secret_file::make_folder;

/// What a power loss may take of the journal, in the customers' favour.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// Opens the books for a server: charges what a crash left open, makes sure that the house may use `models`, and begins to
/// keep costs. Gives also the limit that holds the plant's power below its cap.
///
/// # Errors
/// As [`open`]; the journal cannot be used.
pub fn start(context: &Context, secret: &[u8], models: &[String]) -> Result<(Arc<Charging>, DutyLimit)> {
    let folder = context.settings.data_dir.join("journal");
    let (store, settings) = settings(context, secret)?;
    let books = Books::open(settings, now_ms()).map_err(|e| books_error(&store, &e))?;
    let (journal, recovery) = Journal::open(&folder, SYNC_INTERVAL).map_err(|e| journal_error(&folder, &e))?;
    recover(context, &books, recovery)?;
    books.serve_models(models, now_ms()).map_err(|e| {
        Error::failure("the books take no prices for the models").because(chain(&e)).hint("see the cause above")
    })?;
    let (costing, duty) = plant::cost(context, &books)?;
    let charging = Charging::start(books, journal)
        .map_err(|e| Error::failure("cannot start the thread of the books").because(e))?;
    let charging = charging.costed(costing).held_to(context.settings.objectives);
    Ok((Arc::new(charging), duty))
}

/// Opens the books of the data folder, as a crash may have left them, for one command: all of them are recomputed first.
///
/// # Errors
/// The data folder or the ledger cannot be used; another server has them.
pub fn open(context: &Context, secret: &[u8]) -> Result<Arc<Books>> {
    let (store, settings) = settings(context, secret)?;
    Books::open_audited(settings, now_ms()).map_err(|e| books_error(&store, &e))
}

/// Takes the secret in the configured file (made if missing) for that of the books: it replaces one that is lost. `false`: it
/// is theirs already.
///
/// # Errors
/// As [`open`].
pub fn take_secret(context: &Context) -> Result<bool> {
    existing(context)?;
    let (store, settings) = settings(context, &keys::secret(&context.settings.server.key_secret_file)?)?;
    Books::take_secret(&settings, now_ms()).map_err(|e| books_error(&store, &e))
}

/// Where the ledger is, and how the books are opened.
fn settings(context: &Context, secret: &[u8]) -> Result<(StoreSpec, Settings)> {
    let folder = &context.settings.data_dir;
    make_folder(folder).map_err(|e| unusable(folder, &e))?;
    let store = store(context)?;
    check_journal(&store, &folder.join("journal"))?;
    let bootstrap = context.settings.server.keys.iter().map(|key| {
        let hash = key
            .hash
            .parse::<KeyHash>()
            .map_err(|e| Error::usage(format!("the hash of the key {} cannot be used", key.name)).because(chain(&e)))?;
        Ok(BootstrapKey { name: key.name.clone(), hash, max_priority: key.max_priority })
    });
    let settings = Settings {
        store: store.clone(),
        writer: context.settings.books.writer,
        currency: context.settings.books.currency.clone(),
        secret: secret.to_vec(),
        bootstrap: bootstrap.collect::<Result<_>>()?,
        steps: Steps::default(),
    };
    Ok((store, settings))
}

/// A journal without its books would be emptied uncharged.
fn check_journal(store: &StoreSpec, folder: &Path) -> Result<()> {
    let StoreSpec::Sqlite(file) = store else { return Ok(()) };
    let length = std::fs::metadata(file).ok().map(|books| books.len());
    let noted = || {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let journals = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "journal"));
        journals.filter_map(|file| file.metadata().ok()).any(|journal| journal.len() > 0)
    };
    let lost = match length {
        None => noted(),
        Some(length) => length == 0 && folder.exists(),
    };
    if !lost {
        return Ok(());
    }
    Err(Error::failure(format!("the books in {} are missing or empty, and their journal is there", file.display()))
        .because(format!("{} tells what is still to be charged in them", folder.display()))
        .hint(
            "put the books back, or restore a backup: `tokenworks ledger restore FILE`; to begin anew move `books.db*` and the journal away",
        ))
}

/// The secret under which keys are hashed. It is made with new books only: no key of books that are there would be right.
///
/// # Errors
/// It is missing beside the books, or cannot be read or made.
pub fn secret(context: &Context) -> Result<Vec<u8>> {
    let file = &context.settings.server.key_secret_file;
    let books = match store(context)? {
        StoreSpec::Sqlite(books) => std::fs::metadata(books).is_ok_and(|books| books.len() > 0),
        StoreSpec::Postgres(_) => false,
    };
    if books { existing_secret(context) } else { keys::secret(file) }
}

/// The secret of books that are there.
fn existing_secret(context: &Context) -> Result<Vec<u8>> {
    let file = &context.settings.server.key_secret_file;
    keys::existing_secret(file)?.ok_or_else(|| {
        Error::usage(format!("the secret in {} is missing", file.display()))
            .because("the keys of these books are hashed with it, so none of them would be right")
            .hint("copy it from where the books come from; if it is lost: `tokenworks keys reset-secret`")
    })
}

/// Where the ledger is kept.
///
/// # Errors
/// The file with the connection string cannot be read.
pub fn store(context: &Context) -> Result<StoreSpec> {
    let Some(file) = &context.settings.books.postgres_file else {
        return Ok(StoreSpec::Sqlite(context.settings.data_dir.join("books.db")));
    };
    let text = std::fs::read_to_string(file).map_err(|e| {
        Error::usage(format!("cannot read {}", file.display())).because(e).hint(
            "books.postgres_file names a file with one line, for example postgres://tokenworks:PASSWORD@localhost/books",
        )
    })?;
    Ok(StoreSpec::Postgres(text.trim().to_owned()))
}

/// What can be told of the books without opening them: that their settings fit those that are there.
///
/// # Errors
/// What a server would refuse.
pub fn check(context: &Context) -> Result<()> {
    let store = store(context)?;
    check_journal(&store, &context.settings.data_dir.join("journal"))?;
    let StoreSpec::Sqlite(file) = &store else { return Ok(()) };
    if !file.is_file() {
        return Ok(());
    }
    existing_secret(context)?;
    let wanted = &context.settings.books.currency.code;
    let known = economics::books::currency_of(&store).map_err(|e| books_error(&store, &e.into()))?;
    match known.filter(|known| known != wanted) {
        None => Ok(()),
        Some(known) => Err(Error::usage(format!("books.currency is {wanted}, and the books are in {known}"))
            .hint("keep the currency, or begin new books in another data folder")),
    }
}

/// Where the ledger is; it must be there.
///
/// # Errors
/// As [`store`]; there is none.
pub fn existing(context: &Context) -> Result<StoreSpec> {
    let spec = store(context)?;
    if let StoreSpec::Sqlite(file) = &spec
        && !file.is_file()
    {
        return Err(Error::usage(format!("there are no books in {}", context.settings.data_dir.display()))
            .hint("name the data folder of the server: --data-dir DIR; the first start of a server makes its books"));
    }
    Ok(spec)
}

/// Settles what was under way when the last server ended.
fn recover(context: &Context, books: &Arc<Books>, recovery: metering::Recovery) -> Result<()> {
    for file in &recovery.damaged {
        tracing::warn!(
            "{} is damaged: a part of it cannot be read, as no crash leaves it. What is whole is charged, and the file is \
             kept as {}",
            file.display(),
            metering::set_aside(file).display()
        );
    }
    let without_records = recovery.without_records;
    let recovered = books.recover(&recovery.unfinished, now_ms()).map_err(|e| {
        Error::failure("what the last server left open cannot be charged")
            .because(chain(&e))
            .hint("nothing is lost: make room on the disk or see the cause, then start again")
    })?;
    if without_records && recovered.voided > 0 {
        tracing::error!(
            "the journal is gone: there is no record of it in {}, and the books have {} requests that were under way. They \
             are released without charge, whatever was delivered of them: nothing else tells of it",
            context.settings.data_dir.join("journal").display(),
            grouped(recovered.voided)
        );
    }
    for (id, reason) in &recovered.failed {
        tracing::error!(
            "request {id} could not be settled: {reason}; its page stays in the journal, and each start says so"
        );
    }
    if recovered.settled + recovered.voided > 0 {
        context.output.note(format_args!(
            "The last server ended with requests under way: {} charged ({}), {} released without charge.",
            grouped(recovered.settled),
            recovered.charged,
            grouped(recovered.voided)
        ));
    }
    if recovered.given_back > 0 {
        context.output.note(format_args!(
            "{} answers were charged, but had not left: given back.",
            grouped(recovered.given_back)
        ));
    }
    if let Some(first) = recovered.foreign.first() {
        tracing::warn!(
            "{} requests in the journal (the first is {first}) were begun under another books.writer: they stay there, \
             uncharged, until a server with that number starts in this data folder",
            recovered.foreign.len()
        );
    }
    let kept: Vec<_> = recovered.kept().map(|id| id.0).collect();
    recovery.done(&kept).map_err(|e| unusable(&context.settings.data_dir, &e))
}

fn journal_error(folder: &Path, error: &std::io::Error) -> Error {
    if error.kind() != std::io::ErrorKind::ResourceBusy {
        return unusable(folder, error);
    }
    Error::failure(format!("another server writes the journal in {}", folder.display())).because(error).hint(
        "stop it, or give this one its own folder: --data-dir DIR; servers may share a database, not a data folder",
    )
}

fn unusable(folder: &Path, error: &std::io::Error) -> Error {
    Error::failure(format!("cannot use the data folder {}", folder.display()))
        .because(error)
        .hint("set data_dir to a folder that this user can write")
}

/// What to do when the end of the books is missing.
pub const CUT_OFF_HINT: &str = "put back what is missing, or restore a backup: `tokenworks ledger restore FILE`; to go on without it, \
                            as if that had never been charged, delete `books.db-mark`";

/// What to do when the mark cannot be read.
pub const UNMARKED_HINT: &str =
    "the books may be whole: look at `tokenworks ledger verify` once the mark is moved away, and go on if it is right";

fn books_error(store: &StoreSpec, error: &BooksError) -> Error {
    let embedded = matches!(store, StoreSpec::Sqlite(_));
    let hint = match error {
        BooksError::Open(OpenError::InUse { .. }) => {
            "another server keeps these books; stop it, or give this one its own folder: --data-dir DIR"
        }
        BooksError::Open(OpenError::Store(StoreError::CutOff { .. })) => CUT_OFF_HINT,
        BooksError::Open(OpenError::Store(StoreError::Unmarked(_))) => UNMARKED_HINT,
        BooksError::Open(OpenError::Store(StoreError::Damaged(_))) if embedded => {
            "restore a backup: `tokenworks ledger restore FILE`; keep the damaged file"
        }
        BooksError::Open(OpenError::Store(_)) if embedded => {
            "if the disk is full or failing, mend that and start again: nothing is lost"
        }
        BooksError::Open(OpenError::Store(_)) => {
            "check the connection string in books.postgres_file, and that no other server has the same books.writer"
        }
        _ => "see the cause above",
    };
    // A connection string may hold a password.
    let place = match store {
        StoreSpec::Sqlite(file) => file.display().to_string(),
        StoreSpec::Postgres(_) => "the PostgreSQL database".to_owned(),
    };
    Error::failure(format!("cannot open the books in {place}")).because(chain(error)).hint(hint)
}

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
