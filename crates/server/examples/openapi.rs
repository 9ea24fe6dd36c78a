//! Prints the description of the API: `cargo run -p server --example openapi > docs/openapi.json`.
#![forbid(unsafe_code)]

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().lock().write_all(server::openapi_json().as_bytes())
}
