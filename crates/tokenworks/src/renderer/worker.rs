//! The worker's end: reads a template, then renders chats until its input ends.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::Deserialize;
use serde_json::Value;
use tokenizer::{ChatMessage, ChatTemplate, TemplateError, TemplateInput, TemplateRenderer as _};

use super::{MEMORY_BYTES, TIME, frames, limits};

/// A request: [`TemplateInput`] as it arrives.
#[derive(Deserialize)]
struct Chat {
    messages: Vec<ChatMessage>,
    add_generation_prompt: bool,
    bos_token: String,
    eos_token: String,
    variables: BTreeMap<String, Value>,
}

/// Runs the worker until its input ends.
///
/// # Errors
/// The limits cannot be set, or a pipe is broken.
pub fn work(mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    limits::memory(MEMORY_BYTES)?;
    limits::time(TIME)?;
    let Some(source) = frames::read(&mut input)? else { return Ok(()) };
    let template = match compile(source) {
        Ok(template) => template,
        Err(error) => return answer(&mut output, &Err(error)),
    };
    answer(&mut output, &Ok(String::new()))?;
    while let Some(request) = frames::read(&mut input)? {
        limits::time(TIME)?;
        answer(&mut output, &render(&template, &request))?;
    }
    Ok(())
}

fn compile(source: Vec<u8>) -> Result<ChatTemplate, TemplateError> {
    let source = String::from_utf8(source).map_err(|error| TemplateError::Compile { message: error.to_string() })?;
    ChatTemplate::compile(&source)
}

fn render(template: &ChatTemplate, request: &[u8]) -> Result<String, TemplateError> {
    let chat: Chat = serde_json::from_slice(request)
        .map_err(|error| TemplateError::Unavailable { message: format!("a request that is none: {error}") })?;
    template.render(&TemplateInput {
        messages: &chat.messages,
        add_generation_prompt: chat.add_generation_prompt,
        bos_token: &chat.bos_token,
        eos_token: &chat.eos_token,
        variables: &chat.variables,
    })
}

fn answer(output: &mut impl Write, answer: &Result<String, TemplateError>) -> io::Result<()> {
    let frame = serde_json::to_vec(answer)?;
    if frame.len() > frames::BYTES_MAX {
        let message = format!("the result is longer than {} bytes", frames::BYTES_MAX);
        return frames::write(output, &serde_json::to_vec(&Err::<String, _>(TemplateError::Exhausted { message }))?);
    }
    frames::write(output, &frame)
}
