//! The server's end: starts a worker, asks it, ends it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokenizer::{TemplateError, TemplateInput, TemplateRenderer};

use super::{COMMAND, MEMORY_BYTES, TIME, frames, too_long};

/// A chat template that one worker process renders, chat by chat. A worker that fails is replaced for the next chat.
///
/// A call takes at most twice `TIME` for itself (a new worker compiles first), and as long for each caller before it.
#[derive(Debug)]
pub struct ProcessRenderer {
    program: PathBuf,
    source: String,
    worker: Mutex<Option<Worker>>,
}

impl ProcessRenderer {
    /// Starts a worker, which compiles the template. `program` is this program's executable file.
    ///
    /// # Errors
    /// [`TemplateError::Compile`] and [`TemplateError::Exhausted`] when it is no template, [`TemplateError::Unavailable`]
    /// when there can be no worker.
    pub fn start(program: &Path, source: &str) -> Result<Self, TemplateError> {
        let worker = Worker::start(program, source)?;
        Ok(Self { program: program.to_owned(), source: source.to_owned(), worker: Mutex::new(Some(worker)) })
    }
}

impl TemplateRenderer for ProcessRenderer {
    fn source(&self) -> &str {
        &self.source
    }

    fn render(&self, input: &TemplateInput<'_>) -> Result<String, TemplateError> {
        let request = serde_json::to_vec(input).map_err(|error| unavailable("cannot write the request", &error))?;
        // What a caller that panicked left behind is no worker, or one that answers.
        let mut place = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let mut worker = match place.take().and_then(Worker::if_alive) {
            Some(worker) => worker,
            None => Worker::start(&self.program, &self.source)?,
        };
        // A worker that gave no answer ends here.
        let answer = worker.ask(request).inspect_err(|error| tracing::warn!(%error, "a template worker was ended"))?;
        *place = Some(worker);
        answer
    }
}

/// What a worker answers.
type Answer = Result<String, TemplateError>;

/// A worker process; ended when dropped.
#[derive(Debug)]
struct Worker {
    child: Child,
    requests: SyncSender<Vec<u8>>,
    answers: Receiver<io::Result<Option<Vec<u8>>>>,
}

impl Worker {
    fn start(program: &Path, source: &str) -> Result<Self, TemplateError> {
        let mut command = Command::new(program);
        // Nothing of the environment, which may hold secrets.
        command.arg(COMMAND).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C is for the server, which still answers what it has accepted.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| unavailable("cannot start its process", &error))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, asked) = sync_channel(1);
        let (answered, answers) = sync_channel(1);
        let mut worker = Self { child, requests, answers };
        let (stdin, stdout) = pipes.ok_or_else(|| unavailable("cannot start its process", &"no pipes"))?;
        thread::Builder::new()
            .name("template".to_owned())
            .spawn(move || talk(stdin, stdout, &asked, &answered))
            .map_err(|error| unavailable("cannot start a thread", &error))?;
        worker.ask(source.as_bytes().to_vec())??;
        Ok(worker)
    }

    fn if_alive(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    /// Sends a frame and waits for its answer; an error of the outer kind means that the worker is of no use any more.
    fn ask(&mut self, frame: Vec<u8>) -> Result<Answer, TemplateError> {
        if frame.len() > frames::BYTES_MAX {
            let message = format!("it was given more than {} bytes", frames::BYTES_MAX);
            return Ok(Err(TemplateError::Exhausted { message }));
        }
        // Never waits: the thread takes one request at a time, and each was answered before the next. If the thread has
        // gone, so has its end of `answers`.
        let _ = self.requests.send(frame);
        match self.answers.recv_timeout(TIME) {
            Ok(Ok(Some(answer))) => {
                serde_json::from_slice(&answer).map_err(|error| unavailable("its process answered nonsense", &error))
            }
            Err(RecvTimeoutError::Timeout) => Err(TemplateError::Exhausted { message: too_long() }),
            Ok(Ok(None) | Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(self.cause_of_end()),
        }
    }

    /// Why a worker has closed its pipes.
    fn cause_of_end(&mut self) -> TemplateError {
        // It ends already, and this does not change its status; but then the wait cannot be long.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => cause(status),
            Err(error) => unavailable("its process has gone", &error),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Carries frames to and fro until either side ends, so that a caller can stop waiting.
fn talk(
    mut stdin: ChildStdin,
    mut stdout: ChildStdout,
    asked: &Receiver<Vec<u8>>,
    answered: &SyncSender<io::Result<Option<Vec<u8>>>>,
) {
    for frame in asked {
        let answer = frames::write(&mut stdin, &frame).and_then(|()| frames::read(&mut stdout));
        if answered.send(answer).is_err() {
            return;
        }
    }
}

/// What a status of a worker that did not answer means.
fn cause(status: ExitStatus) -> TemplateError {
    #[cfg(unix)]
    {
        use rustix::process::Signal;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let is = |known: Signal| signal == Some(known.as_raw());
        if is(Signal::XCPU) {
            return TemplateError::Exhausted { message: too_long() };
        }
        // Rust ends a process both when memory and when the stack is used up.
        if is(Signal::ABORT) || is(Signal::SEGV) {
            let message = format!("it needed more than {} MiB of memory, or nested too deeply", MEMORY_BYTES >> 20);
            return TemplateError::Exhausted { message };
        }
    }
    TemplateError::Exhausted { message: format!("its process ended ({status})") }
}

fn unavailable(what: &str, cause: &dyn std::fmt::Display) -> TemplateError {
    TemplateError::Unavailable { message: format!("{what}: {cause}") }
}
