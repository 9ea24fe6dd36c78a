//! Programs run to their end, or as servers that end with their owner. What they print goes to files: no pipe can fill.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a running program is looked at.
const INTERVAL: Duration = Duration::from_millis(20);
/// Characters that are told of a program's last words.
const LAST_WORDS_MAX: usize = 600;

/// A program, its arguments and where its output goes.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Variables set for it.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Path of the logs, to which `.out` and `.err` are added.
    pub(crate) log: PathBuf,
}

impl Invocation {
    /// As a person would type it, files by their names alone.
    pub(crate) fn shown(&self) -> String {
        let short = |word: &str| match Path::new(word).file_name() {
            Some(name) if word.starts_with('/') => name.to_string_lossy().into_owned(),
            _ => word.to_owned(),
        };
        let mut words: Vec<String> = self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.push(short(&self.program.to_string_lossy()));
        words.extend(self.arguments.iter().map(|word| short(word)));
        words.join(" ")
    }

    fn name(&self) -> String {
        self.program.file_name().map_or_else(|| "program".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    fn log(&self, ending: &str) -> PathBuf {
        let mut path = self.log.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    fn output(&self, ending: &str) -> String {
        let bytes = std::fs::read(self.log(ending)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Starts it, in a folder of its own choice so that no configuration file of the caller's folder is read.
    pub(crate) fn start(self) -> Result<Running, String> {
        if !self.program.is_file() {
            return Err(format!("{} is not there", self.name()));
        }
        let file = |ending| File::create(self.log(ending)).map_err(|e| format!("cannot write a log: {e}"));
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.log.parent().unwrap_or(Path::new(".")))
            .stdin(Stdio::null())
            .stdout(file(".out")?)
            .stderr(file(".err")?)
            .spawn()
            .map_err(|e| format!("{}: {e}", self.name()))?;
        Ok(Running { child, invocation: self })
    }

    /// Runs it to its end; gives standard output and standard error.
    pub(crate) fn run(self, timeout: Duration) -> Result<(String, String), String> {
        let mut running = self.start()?;
        let started = Instant::now();
        loop {
            match running.ended()? {
                Some(status) if status.success() => {
                    return Ok((running.invocation.output(".out"), running.invocation.output(".err")));
                }
                Some(status) => return Err(running.says(status)),
                None if started.elapsed() > timeout => {
                    return Err(format!("{} took more than {} s", running.invocation.name(), timeout.as_secs()));
                }
                None => std::thread::sleep(INTERVAL),
            }
        }
    }
}

/// A program at work; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    invocation: Invocation,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error when the program has ended on its own.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.ended()? {
            Some(status) => Err(self.says(status)),
            None => Ok(()),
        }
    }

    /// What it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.invocation.output(".err")
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|e| format!("{}: {e}", self.invocation.name()))
    }

    /// How it ended, with its last words.
    fn says(&self, status: ExitStatus) -> String {
        let (name, words) = (self.invocation.name(), last_words(&self.stderr()));
        if words.is_empty() { format!("{name}: {status}") } else { format!("{name}: {status}: {words}") }
    }
}

/// The last error of a log in one line, with the lines that explain it (cause and hint); without one, the last line.
fn last_words(log: &str) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = log.lines().map(words).filter(|line| !line.is_empty()).collect();
    let from = lines.iter().rposition(|line| line.starts_with("error:")).unwrap_or(lines.len().saturating_sub(1));
    let words = lines.get(from..).unwrap_or_default().join("; ");
    words.trim_start_matches("error:").trim().chars().take(LAST_WORDS_MAX).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, name: &str) -> Invocation {
        let log = std::env::temp_dir().join(format!("bench-process-{}-{name}", std::process::id()));
        Invocation {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![],
            log,
        }
    }

    #[test]
    fn a_program_is_run_and_its_failures_are_told() {
        let long = Duration::from_secs(60);
        assert_eq!(shell("echo a; echo b >&2", "ok").run(long), Ok(("a\n".to_owned(), "b\n".to_owned())));
        let error = shell("echo words >&2; exit 3", "exit").run(long).unwrap_err();
        assert!(error.contains("exit status: 3") && error.ends_with("words"), "{error}");
        let error = shell("kill -SEGV $$", "crash").run(long).unwrap_err();
        assert!(error.contains("signal: 11"), "{error}");
        let error = shell("exec sleep 60", "slow").run(Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("took more than"), "{error}");
        let missing = Invocation { program: "/none/llama-bench".into(), ..shell("", "missing") };
        assert_eq!(missing.run(long), Err("llama-bench is not there".to_owned()));
        for name in ["ok", "exit", "crash", "slow"] {
            for ending in [".out", ".err"] {
                let _ = std::fs::remove_file(shell("", name).log(ending));
            }
        }
    }

    #[test]
    fn an_error_is_told_with_its_cause_and_hint() {
        let log = "loading\nerror: early\nerror: cannot use m.gguf\n  cause: it is cut\n  hint:  fetch it anew\n\n";
        assert_eq!(last_words(log), "cannot use m.gguf; cause: it is cut; hint: fetch it anew");
        assert_eq!(last_words("first\nlast \n"), "last");
        assert_eq!(last_words(""), "");
    }

    #[test]
    fn commands_are_shown_without_folders() {
        let arguments = ["-m", "/models/a.gguf", "-t", "2", "--out", "x/y"].map(str::to_owned).to_vec();
        let environment = vec![("A", "1".to_owned())];
        let program = "/opt/bin/llama-bench".into();
        let invocation = Invocation { program, arguments, environment, log: PathBuf::new() };
        assert_eq!(invocation.shown(), "A=1 llama-bench -m a.gguf -t 2 --out x/y");
    }
}
