//! `hf:` models: fetched by the hub's own library into its standard cache, so other tools share the files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo};

use super::files::{io_error, sha256};
use crate::environment::HubEnvironment;
use crate::error::{Error, Result, chain};
use crate::progress::Bar;

/// A download that brings nothing for so long is given up; the library itself would wait forever.
const STALL: Duration = Duration::from_secs(60);

/// The file, if it is in the cache already. Never asks the network.
#[must_use]
pub(super) fn cached(hub: &HubEnvironment, repo: &str, file: &str) -> Option<PathBuf> {
    Cache::new(hub.cache.clone()).repo(Repo::model(repo.to_owned())).get(file)
}

/// Fetches the file into the cache; a broken-off download goes on where it stopped.
///
/// # Errors
/// The hub refused, could not be reached or stalled, the disk is full, or the checksum is wrong.
pub(super) fn fetch(hub: &HubEnvironment, repo: &str, file: &str, bar: &Bar) -> Result<PathBuf> {
    let path = match download(hub, repo, file, bar) {
        Err(Failure::Api(ApiError::RequestError(error))) if matches!(*error, ureq::Error::Status(416, _)) => {
            // An earlier download broke off after its last byte: nothing is left to resume, so start again.
            remove_unfinished(hub, repo);
            download(hub, repo, file, bar)
        }
        other => other,
    }
    .map_err(|e| e.explain(hub, repo, file))?;
    verify(&path)?;
    Ok(path)
}

enum Failure {
    Api(ApiError),
    Stalled,
    Panicked,
}

fn download(hub: &HubEnvironment, repo: &str, file: &str, bar: &Bar) -> Result<PathBuf, Failure> {
    let mut builder = ApiBuilder::from_cache(Cache::new(hub.cache.clone())).with_progress(false);
    if let Some(endpoint) = &hub.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    if let Some(token) = &hub.token {
        builder = builder.with_token(Some(token.clone()));
    }
    let api = builder.build().map_err(Failure::Api)?;
    let bytes = Arc::new(AtomicU64::new(0));
    let watcher = Watcher { bar: bar.clone(), bytes: Arc::clone(&bytes) };
    let (send, receive) = mpsc::sync_channel(1);
    let (repo, file) = (repo.to_owned(), file.to_owned());
    std::thread::spawn(move || {
        // When nobody waits any more (a stall), the process is about to end.
        let _ = send.send(api.model(repo).download_with_progress(&file, watcher));
    });
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        match receive.recv_timeout(Duration::from_millis(200)) {
            Ok(result) => return result.map_err(Failure::Api),
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Panicked),
            Err(RecvTimeoutError::Timeout) => {
                let now = bytes.load(Ordering::Relaxed);
                if now != seen {
                    (seen, since) = (now, Instant::now());
                } else if since.elapsed() > STALL {
                    return Err(Failure::Stalled);
                }
            }
        }
    }
}

impl Failure {
    fn explain(self, hub: &HubEnvironment, repo: &str, file: &str) -> Error {
        let error = Error::failure(format!("cannot fetch {file} from {repo}"));
        match self {
            Self::Stalled => error
                .because("the hub sent nothing for a minute")
                .hint("run it again: the download goes on where it stopped"),
            Self::Panicked => error.because("the hub's answer makes no sense").hint("check HF_ENDPOINT"),
            Self::Api(cause) => {
                let hint = match &cause {
                    ApiError::RequestError(e) => match **e {
                        ureq::Error::Status(401 | 403, _) => {
                            "the repository needs permission: accept its terms on the hub and set HF_TOKEN".to_owned()
                        }
                        ureq::Error::Status(404, _) => "check the spelling of owner, repository and file".to_owned(),
                        _ => "check the network and HF_ENDPOINT; run it again to go on where it stopped".to_owned(),
                    },
                    ApiError::LockAcquisition(_) => "another program fetches the same file; wait for it".to_owned(),
                    ApiError::IoError(e) if is_of_the_disk(e.kind()) => format!(
                        "check space and rights in the cache {}, or set HF_HOME to another folder; run it again to go \
                         on where it stopped",
                        hub.cache.display()
                    ),
                    ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) => {
                        "this does not look like a hub: check HF_ENDPOINT".to_owned()
                    }
                    // The connection broke under way.
                    ApiError::IoError(_) => "check the network; run it again to go on where it stopped".to_owned(),
                    _ => "run it again: the download goes on where it stopped".to_owned(),
                };
                error.because(chain(&cause)).hint(hint)
            }
        }
    }
}

/// Whether an input or output error came from the cache's folder, not from the connection.
fn is_of_the_disk(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotFound
            | Kind::AlreadyExists
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::FileTooLarge
    )
}

/// The hub names large files by their SHA-256: what came must match. A wrong file is removed.
fn verify(path: &Path) -> Result<()> {
    let blob = path.canonicalize().map_err(|e| io_error("find", path, &e))?;
    let Some(expected) = blob.file_name().and_then(|n| n.to_str()).filter(|n| is_sha256(n)) else { return Ok(()) };
    let sum = sha256(&blob)?;
    if sum == expected {
        return Ok(());
    }
    std::fs::remove_file(path).map_err(|e| io_error("remove", path, &e))?;
    std::fs::remove_file(&blob).map_err(|e| io_error("remove", &blob, &e))?;
    Err(Error::failure("the checksum of the fetched file is wrong")
        .because(format!("expected {expected}, computed {sum}"))
        .hint("the file was removed; fetch it again"))
}

fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn remove_unfinished(hub: &HubEnvironment, repo: &str) {
    let folder = hub.cache.join(Repo::model(repo.to_owned()).folder_name()).join("blobs");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "part") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Carries the library's progress to the bar and to the watch for stalls.
struct Watcher {
    bar: Bar,
    bytes: Arc<AtomicU64>,
}

impl hf_hub::api::Progress for Watcher {
    fn init(&mut self, size: usize, _filename: &str) {
        self.bar.start(size as u64);
    }

    fn update(&mut self, size: usize) {
        let before = self.bytes.fetch_add(size as u64, Ordering::Relaxed);
        self.bar.set(before + size as u64);
    }

    fn finish(&mut self) {}
}
