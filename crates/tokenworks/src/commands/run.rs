//! `run`: one prompt, one answer on standard output.

use std::io::IsTerminal;

use metering::UsageRecord;
use serde::Serialize;
use service::{Line, Message, Prompt};

use super::answer::{ask, generation, runtime, start_line, tokens_per_second};
use super::{Context, input};
use crate::assembly::Drafts;
use crate::cli;
use crate::error::{Error, Result};

/// As `run --json` prints it.
#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    /// Whether the model went on from the text as it is, without a chat template.
    raw: bool,
    text: String,
    tokens_per_second: Option<f64>,
    usage: UsageRecord,
}

/// Runs `run`.
///
/// # Errors
/// No prompt, no model, or the line refuses or fails.
pub fn run(context: &Context, args: &cli::Run) -> Result<()> {
    let model = context.model(args.model.as_deref())?;
    let text = prompt(args.prompt.as_deref())?;
    let production = start_line(context, &model, args.adapter.as_deref(), Drafts::Loaded)?;
    let raw = args.raw || !production.facts.has_chat_template;
    if raw && args.system.is_some() {
        return Err(Error::usage(format!("{} has no chat template, so --system has no place", model.name))
            .hint("put it into the prompt, or set chat_template under [models.NAME]"));
    }
    if raw && !args.raw && !args.json {
        let name = &model.name;
        context.output.note(format_args!("{name} has no chat template: it goes on from the text as it is, like --raw"));
    }
    let prompt = if raw { Prompt::Text(text) } else { Prompt::Chat(messages(args.system.as_deref(), text)) };
    let generation = generation(prompt, &args.sampling, args.stop.clone(), "run");
    let output = context.output;
    let mut answer = String::new();
    let usage = runtime()?.block_on(ask(production.line.as_ref(), generation, |text| {
        answer.push_str(text);
        if args.json { Ok(()) } else { output.text(text) }
    }))?;
    production.end();
    if args.json {
        let model = production.line.card().id.as_str();
        return output.json(&Answer { model, raw, text: answer, tokens_per_second: tokens_per_second(&usage), usage });
    }
    // The shell's next prompt starts on its own line.
    if answer.ends_with('\n') { Ok(()) } else { output.line("") }
}

/// The prompt from the command line, with standard input below it when that is no terminal.
fn prompt(argument: Option<&str>) -> Result<String> {
    let mut text = argument.unwrap_or_default().to_owned();
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let input = input::stdin("prompt", &stdin)?;
        let input = input.trim_end_matches(['\n', '\r']);
        if !text.is_empty() && !input.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(input);
    }
    if text.is_empty() {
        return Err(Error::usage("there is no prompt").hint("tokenworks run \"Name three rivers.\""));
    }
    Ok(text)
}

fn messages(system: Option<&str>, text: String) -> Vec<Message> {
    let system = system.map(|s| Message { role: "system".to_owned(), content: s.to_owned(), name: None });
    system.into_iter().chain([Message { role: "user".to_owned(), content: text, name: None }]).collect()
}
