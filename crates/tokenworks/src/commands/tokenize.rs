//! `tokenize`: a text's tokens.

use anstyle::{AnsiColor, Color, Style};
use serde::Serialize;

use super::pull::consent;
use super::{Context, input};
use crate::assembly;
use crate::cli;
use crate::error::Result;

/// One token, as `tokenize --json` prints it.
#[derive(Serialize)]
struct Token {
    id: u32,
    /// The token's text; part of a character shows as U+FFFD.
    text: String,
    bytes: Vec<u8>,
    special: bool,
}

/// As `tokenize --json` prints it.
#[derive(Serialize)]
struct Tokens {
    model: String,
    count: usize,
    tokens: Vec<Token>,
}

/// Runs `tokenize`.
///
/// # Errors
/// No such model, or the text cannot be read.
pub fn tokenize(context: &Context, args: &cli::Tokenize) -> Result<()> {
    let model = context.model(args.model.as_deref())?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => input::stdin("text", &std::io::stdin())?,
    };
    let gguf = assembly::open(context, &model, &|builtin| consent(context, builtin, false))?;
    let tokenizer = assembly::read_tokenizer(&gguf)?;
    let tokens: Vec<Token> = tokenizer
        .encode(&text, args.add_special, args.parse_special)
        .into_iter()
        .map(|id| {
            let bytes = tokenizer.decode(&[id]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Token { id, text, bytes, special: tokenizer.is_special(id) }
        })
        .collect();
    if args.json {
        return context.output.json(&Tokens { model: model.name, count: tokens.len(), tokens });
    }
    if !tokens.is_empty() {
        context.output.line(pieces(context, &tokens))?;
        context.output.line(ids(&tokens))?;
    }
    context.output.note(format_args!("{} tokens", tokens.len()));
    Ok(())
}

/// The pieces side by side: coloured on a terminal, else with a bar between them.
fn pieces(context: &Context, tokens: &[Token]) -> String {
    const COLOURS: [AnsiColor; 6] =
        [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Red];
    let shown = tokens.iter().enumerate().map(|(i, token)| {
        let colour = COLOURS[i % COLOURS.len()];
        let style = Style::new().fg_color(Some(AnsiColor::Black.into())).bg_color(Some(Color::Ansi(colour)));
        context.output.styled(style, printable(token))
    });
    let between = if context.output.colour() { "" } else { "|" };
    shown.collect::<Vec<_>>().join(between)
}

fn ids(tokens: &[Token]) -> String {
    tokens.iter().map(|t| t.id.to_string()).collect::<Vec<_>>().join(" ")
}

/// A piece on one line; bytes that are no whole character in hexadecimal.
fn printable(token: &Token) -> String {
    let mut text = String::new();
    for chunk in token.bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        text.extend(chunk.invalid().iter().map(|b| format!("<{b:02x}>")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stay_on_one_line() {
        let shown =
            |bytes: &[u8]| printable(&Token { id: 0, text: String::new(), bytes: bytes.to_vec(), special: false });
        assert_eq!(shown(b" the"), " the");
        assert_eq!(shown(b"a\n\tb"), "a\\n\\tb");
        assert_eq!(shown(b" \xe9\xbb"), " <e9><bb>");
        assert_eq!(shown("黑".as_bytes()), "黑");
    }
}
