//! The only place that writes to stdout and stderr. stdout is data, stderr is talk.

use std::io::{self, ErrorKind, IsTerminal, Write};

/// Whoever read stdout has gone: end quietly, and successfully.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct Closed;

/// Writes to stdout, adding a line's end where there is none.
///
/// # Errors
/// [`Closed`] if nobody reads it any more. A full disk is told on stderr and treated the same.
pub fn data(text: &str) -> Result<(), Closed> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = write!(out, "{text}{end}").and_then(|()| out.flush());
    written.map_err(|error| {
        if error.kind() != ErrorKind::BrokenPipe {
            talk(&format!("error: cannot write the output: {error}"));
        }
        Closed
    })
}

/// Writes to stdout exactly this, with no line's end: cursor movements, prompts.
///
/// # Errors
/// [`Closed`] if nobody reads it any more.
pub fn raw(text: &str) -> Result<(), Closed> {
    let mut out = io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(|_| Closed)
}

/// Writes a line to stderr. Nothing can be done about it if that fails.
pub fn talk(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Sends the program's log to stderr: for `locum run`. `RUST_LOG` chooses what; `info` by default.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
}

/// Writes a question to stderr and reads the answer from stdin. None: there is no more input.
#[must_use]
pub fn ask(question: &str) -> Option<String> {
    let mut err = io::stderr().lock();
    let _ = write!(err, "{question} ").and_then(|()| err.flush());
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(answer.trim().to_owned()),
    }
}

/// True if stdout is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// True if a person can be asked.
#[must_use]
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// True if stdout may be coloured: a terminal, and `NO_COLOR` is not set (no-color.org).
#[must_use]
pub fn is_coloured() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    is_terminal() && !no_color && !dumb
}
