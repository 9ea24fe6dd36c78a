//! `chat`: a talk with a model, in a terminal or line by line from a pipe.

use std::io::{BufRead, IsTerminal, Read};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use service::{Line, Message, Prompt};
use tokio::runtime::Runtime;

use super::Context;
use super::answer::{ask, generation, refused, runtime, start_line, usage_line};
use crate::assembly::{Drafts, Production};
use crate::cli;
use crate::error::{Error, Kind, Result};

/// Longest line that is read from a pipe.
const MAX_LINE_BYTES: u64 = 1 << 20;
const HELP: &str =
    "/help   this list\n/reset  forget the talk so far\n/exit   leave (also Ctrl-D)\nCtrl-C  stops an answer";

/// Runs `chat`.
///
/// # Errors
/// No such model, the model has no chat template, or the terminal cannot be used.
pub fn chat(context: &Context, args: &cli::Chat) -> Result<()> {
    let model = context.model(args.model.as_deref())?;
    let production = start_line(context, &model, args.adapter.as_deref(), Drafts::Loaded)?;
    let runtime = runtime()?;
    // Asks nothing, but finds out whether the model can chat before the person has typed anything.
    let hello = vec![message("user", "hello")];
    runtime.block_on(production.line.tokenize_chat(hello, true)).map_err(|e| refused(&e))?;
    let mut talk = Talk {
        context,
        args,
        production: &production,
        runtime,
        interactive: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        messages: Vec::new(),
    };
    talk.reset();
    let result = if talk.interactive { talk.read_terminal() } else { talk.read_pipe() };
    production.end();
    result
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned(), name: None }
}

struct Talk<'a> {
    context: &'a Context,
    args: &'a cli::Chat,
    production: &'a Production,
    runtime: Runtime,
    interactive: bool,
    messages: Vec<Message>,
}

impl Talk<'_> {
    fn reset(&mut self) {
        self.messages = self.args.system.iter().map(|text| message("system", text)).collect();
    }

    fn read_terminal(&mut self) -> Result<()> {
        let terminal = |e: ReadlineError| Error::failure("cannot read from this terminal").because(e);
        let mut editor = DefaultEditor::new().map_err(terminal)?;
        self.context.output.note(format_args!("{}: /help lists the commands", self.production.line.card().id));
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    // Only a convenience: without it the arrow keys bring nothing back.
                    let _ = editor.add_history_entry(line.as_str());
                    if !self.take(&line)? {
                        return Ok(());
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(()),
                Err(e) => return Err(terminal(e)),
            }
        }
    }

    fn read_pipe(&mut self) -> Result<()> {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            let read =
                input.by_ref().take(MAX_LINE_BYTES).read_line(&mut line).map_err(|e| {
                    Error::failure("cannot read from standard input").because(e).hint("give UTF-8 text")
                })?;
            if read as u64 == MAX_LINE_BYTES && !line.ends_with('\n') {
                return Err(Error::usage("a line on standard input is longer than 1 MiB")
                    .hint("one line is one question; `tokenworks run` takes longer texts"));
            }
            if read == 0 || !self.take(&line)? {
                return Ok(());
            }
        }
    }

    /// Takes one line; false ends the talk.
    fn take(&mut self, line: &str) -> Result<bool> {
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => return Ok(false),
            "/help" => self.context.output.note(HELP),
            "/reset" => {
                self.reset();
                self.context.output.note("the talk so far is forgotten");
            }
            other if other.starts_with('/') && !other.contains(' ') => {
                self.context.output.note(format_args!("unknown command {other}\n{HELP}"));
            }
            text => self.turn(text)?,
        }
        Ok(true)
    }

    /// One question and its answer. In a terminal a refusal is shown and the talk goes on.
    fn turn(&mut self, text: &str) -> Result<()> {
        let before = self.messages.len();
        self.messages.push(message("user", text));
        match self.answer() {
            Ok(Some(answer)) => self.messages.push(message("assistant", &answer)),
            Ok(None) => {
                self.messages.truncate(before);
                self.context.output.note("\nstopped; that turn is forgotten");
            }
            Err(error) if self.interactive && error.kind != Kind::OutputClosed => {
                self.messages.truncate(before);
                self.context.output.error(&error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Streams the answer; `None` when the person stopped it.
    fn answer(&self) -> Result<Option<String>> {
        let output = self.context.output;
        let generation = generation(Prompt::Chat(self.messages.clone()), &self.args.sampling, Vec::new(), "chat");
        let mut answer = String::new();
        let asked = ask(self.production.line.as_ref(), generation, |text| {
            answer.push_str(text);
            output.text(text)
        });
        let interactive = self.interactive;
        let usage = self.runtime.block_on(async move {
            if !interactive {
                // Ctrl-C ends the program then, as for every program in a pipe.
                return asked.await.map(Some);
            }
            tokio::select! {
                usage = asked => usage.map(Some),
                _ = tokio::signal::ctrl_c() => Ok(None),
            }
        })?;
        let Some(usage) = usage else { return Ok(None) };
        output.line("")?;
        output.note(format_args!("[{}]", usage_line(&usage)));
        Ok(Some(answer))
    }
}
