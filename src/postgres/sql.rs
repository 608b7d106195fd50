//! Connections of the agent's own: who they are, how they are made, and what a failure means to the caller.
//!
//! No statement here decides anything. Every wait has a deadline: a server that hangs must not hang its agent.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::AbortHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, error::SqlState};

/// The `application_name` of every connection of an agent; never counted as a client.
pub const APPLICATION: &str = "locum";
/// How long a new connection may take where nothing else is said.
pub const CONNECT: Duration = Duration::from_secs(2);
/// TCP gives up on a peer that acknowledges nothing for this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Set for every session: nothing can shadow a catalogue function, no wait for a standby, no endless statement.
const OPTIONS: &str = "-c search_path=pg_catalog -c synchronous_commit=local -c statement_timeout=10s \
                       -c lock_timeout=5s -c jit=off";

/// Why a statement or a connection failed, by what the caller does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// All connection slots are taken (53300): life, and no sign of illness.
    #[error("all connection slots are taken")]
    Full,
    /// The server ended the session on an administrator's word (57P01): it stops in order, or just this session.
    #[error("the server ended the session: {0}")]
    Dismissed(String),
    /// The server starts, recovers or was told to drop everything (57P03, 57P02): ask again soon.
    #[error("the server is not ready: {0}")]
    NotReady(String),
    /// It answered with an error.
    #[error("{1} ({0})")]
    Said(String, String),
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Broken(String),
    /// No answer within the deadline.
    #[error("no answer for {} ms", .0.as_millis())]
    Silent(Duration),
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            return Self::Broken(cause.unwrap_or_else(|| error.to_string()));
        };
        let text = said.message().to_owned();
        if *said.code() == SqlState::TOO_MANY_CONNECTIONS {
            Self::Full
        } else if *said.code() == SqlState::ADMIN_SHUTDOWN {
            Self::Dismissed(text)
        } else if [SqlState::CANNOT_CONNECT_NOW, SqlState::CRASH_SHUTDOWN].contains(said.code()) {
            Self::NotReady(text)
        } else {
            Self::Said(said.code().code().to_owned(), text)
        }
    }
}

/// How to reach the agent's own server.
#[derive(Clone, Debug)]
pub struct Access {
    config: Config,
    /// A session was ended on an administrator's word: the server may be stopping in order.
    dismissed: Arc<AtomicBool>,
}

impl Access {
    /// Reads a libpq keyword string.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(keywords: &str) -> Result<Self, String> {
        let mut config = Config::from_str(keywords).map_err(|e| {
            let cause = std::error::Error::source(&e).map(|c| format!(": {c}"));
            format!("{e}{}", cause.unwrap_or_default())
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("it names no host; say `host=` with a socket folder or a loopback address".into());
        }
        let options = config.get_options().map_or_else(|| OPTIONS.to_owned(), |o| format!("{OPTIONS} {o}"));
        config.options(options).application_name(APPLICATION).tcp_user_timeout(TCP_USER_TIMEOUT);
        Ok(Self { config, dismissed: Arc::default() })
    }

    /// A new connection, within `deadline`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn connect(&self, deadline: Duration) -> Result<Sql, SqlError> {
        let made = tokio::time::timeout(deadline, self.config.connect(NoTls)).await;
        let (client, connection) = made.map_err(|_| SqlError::Silent(deadline))??;
        let dismissed = Arc::clone(&self.dismissed);
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await.map_err(SqlError::from) {
                tracing::debug!(%error, "connection to the own server ended");
                if matches!(error, SqlError::Dismissed(_)) {
                    dismissed.store(true, Ordering::Release);
                }
            }
        });
        Ok(Sql { client, task: task.abort_handle(), dismissed: Arc::clone(&self.dismissed) })
    }

    /// Whether a session was ended on an administrator's word since this was last asked to forget it.
    #[must_use]
    pub fn was_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Acquire)
    }

    /// Forgets that a session was ended.
    pub fn forget_dismissal(&self) {
        self.dismissed.store(false, Ordering::Release);
    }
}

/// An open connection. Dropping it says goodbye; [`Sql::abandon`] does not wait for a server that hangs.
#[derive(Debug)]
pub struct Sql {
    client: Client,
    task: AbortHandle,
    dismissed: Arc<AtomicBool>,
}

impl Sql {
    /// The client, for prepared statements.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// True once the server or the network has ended it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements by the simple protocol, within `deadline`; gives the rows of the last one, as text.
    ///
    /// # Errors
    /// [`SqlError`]; after [`SqlError::Silent`] the connection is closed.
    pub async fn run(&self, sql: &str, deadline: Duration) -> Result<Vec<Vec<Option<String>>>, SqlError> {
        let asked = tokio::time::timeout(deadline, self.client.simple_query(sql)).await;
        let messages = asked.map_err(|_| {
            self.task.abort();
            SqlError::Silent(deadline)
        })?;
        let messages = messages.map_err(|error| self.noted(error.into()))?;
        let mut rows = Vec::new();
        for message in &messages {
            match message {
                SimpleQueryMessage::RowDescription(_) => rows.clear(),
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// The first column of the first row, as text; None: no row, or null.
    ///
    /// # Errors
    /// As [`Sql::run`].
    pub async fn value(&self, sql: &str, deadline: Duration) -> Result<Option<String>, SqlError> {
        let rows = self.run(sql, deadline).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Passes an error on, and remembers that the server ended the session.
    pub fn noted(&self, error: SqlError) -> SqlError {
        if matches!(error, SqlError::Dismissed(_)) {
            self.dismissed.store(true, Ordering::Release);
        }
        error
    }

    /// Closes the socket at once, without a word.
    pub fn abandon(self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_that_libpq_would_not_take_is_refused() {
        assert!(Access::parse("host=/tmp user=locum dbname=postgres").is_ok());
        assert!(Access::parse("hots=/tmp").is_err());
        assert!(Access::parse("user=locum").is_err());
    }
}
