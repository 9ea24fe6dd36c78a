//! The line as text: render, tokenize, submit, detokenize. No HTTP, no command line.
#![forbid(unsafe_code)]
