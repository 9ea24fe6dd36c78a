//! The program `tokenworks`; everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tokenworks::main()
}
