//! The `locum` program. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    locum::cli::run()
}
