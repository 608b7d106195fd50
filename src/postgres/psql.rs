//! Questions to any server, by `psql`: with passfile, TLS, service file and whatever else libpq knows, as the owner of
//! the data directory. For commands that a person waits for; agents and failovers have connections of their own.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::{Instance, Owner};

/// Options of every session of Locum's own by libpq, as of those in `sql.rs`: whatever the server, the database or the role make the
/// default. Options in the connection string go before them.
pub(super) const OPTIONS: &str = "-c search_path=pg_catalog -c default_transaction_isolation=read\\ committed \
     -c default_transaction_read_only=off -c default_transaction_deferrable=off -c statement_timeout=0 -c lock_timeout=0 \
     -c idle_in_transaction_session_timeout=0 -c datestyle=ISO,MDY -c bytea_output=hex -c standard_conforming_strings=on";

/// How long a connection attempt may take, in seconds, as libpq wants it.
const CONNECT_SECONDS: &str = "5";
/// How long an answer may take in all.
const ANSWER: Duration = Duration::from_secs(30);
/// psql's exit code for a connection that could not be made or broke.
const NO_CONNECTION: i32 = 2;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PsqlError {
    /// The program cannot be run.
    #[error("cannot run psql: {0}")]
    NoProgram(String),
    /// No connection.
    #[error("no connection: {0}")]
    NoConnection(String),
    /// The server refused the statement.
    #[error("{0}")]
    Said(String),
    /// No answer in time.
    #[error("no answer for {} s", ANSWER.as_secs())]
    Silent,
}

/// Asks by `psql`.
#[derive(Clone, Debug)]
pub struct Psql {
    program: PathBuf,
    owner: Option<Owner>,
}

impl Psql {
    /// The program that belongs to this data directory, as its owner.
    #[must_use]
    pub fn of(instance: &Instance) -> Self {
        let beside = instance.bin_dir.join("psql");
        let program = if beside.exists() { beside } else { "psql".into() };
        Self { program, owner: Some(instance.owner().clone()) }
    }

    /// The program on the search path, as whoever runs this.
    #[must_use]
    pub fn on_path() -> Self {
        Self { program: "psql".into(), owner: None }
    }

    /// Runs statements in one session and returns what they print, unaligned and without headings. The statements
    /// go in by a pipe: no other user sees them among the processes.
    ///
    /// # Errors
    /// [`PsqlError`]
    pub async fn ask(&self, conninfo: &str, sql: &str) -> Result<String, PsqlError> {
        let mut command = match &self.owner {
            Some(owner) => owner.command(self.program.as_os_str()),
            None => Command::new(&self.program),
        };
        command.args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d"]).arg(conninfo);
        command.env("PGCONNECT_TIMEOUT", CONNECT_SECONDS).env("PGAPPNAME", "locum").env("LC_ALL", "C");
        command.env("PGCLIENTENCODING", "UTF8").env("PGOPTIONS", OPTIONS);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.current_dir("/");
        let no_program = |error: std::io::Error| PsqlError::NoProgram(error.to_string());
        let mut child = command.spawn().map_err(no_program)?;
        let (stdin, sql) = (child.stdin.take(), sql.to_owned());
        let write = async move {
            if let Some(mut stdin) = stdin {
                // A psql that could not connect has closed its end; its exit code tells.
                let _ended = stdin.write_all(sql.as_bytes()).await;
            }
        };
        let both = async { tokio::join!(write, child.wait_with_output()).1 };
        let done = timeout(ANSWER, both).await.map_err(|_| PsqlError::Silent)?.map_err(no_program)?;
        let said = said(&String::from_utf8_lossy(&done.stderr));
        match done.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned()),
            Some(NO_CONNECTION) => Err(PsqlError::NoConnection(said)),
            _ => Err(PsqlError::Said(said)),
        }
    }
}

/// What psql said, in one line, without its own name.
fn said(stderr: &str) -> String {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let plain = lines.map(|line| {
        let line = line.strip_prefix("psql: error: ").unwrap_or(line);
        match line.split_once("ERROR:  ").filter(|_| line.starts_with("psql:<stdin>")) {
            Some((_, message)) => message,
            None => line,
        }
    });
    plain.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_psql_says_is_one_line_without_its_name() {
        assert_eq!(said("psql:<stdin>:1: ERROR:  permission denied\n"), "permission denied");
        assert_eq!(
            said("psql: error: connection failed\n\tIs it running?\n"),
            "connection failed; Is it running?"
        );
    }
}
