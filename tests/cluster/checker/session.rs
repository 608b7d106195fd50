//! One connection of a client, and what a commit over it came to.

use std::{
    future::poll_fn,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage, error::Severity};

use super::Outcome;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A statement is given up after this, its outcome unknown.
const GIVE_UP: Duration = Duration::from_secs(8);
/// How long a request to cancel may take.
const CANCEL: Duration = Duration::from_secs(1);
/// What PostgreSQL says when a commit stopped waiting for its standby (`syncrep.c`).
const NOT_WAITED: &str = "canceling wait for synchronous replication";
/// What the statement writes beside the number: who serves it, on which timeline.
const WHO: &str = "current_setting('cluster_name'), \
                   ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";

/// When the server began. Since 1970, so that no setting changes its form.
pub(crate) const BEGAN: &str = "extract(epoch FROM pg_postmaster_start_time())";

/// Where to connect.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// Over TCP.
    Tcp(String, u16),
    /// The folder of a socket, and its port.
    Socket(PathBuf, u16),
}

/// What a commit came to.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Its outcome.
    pub(crate) outcome: Outcome,
    /// Who served it.
    pub(crate) node: Option<String>,
    /// On which timeline.
    pub(crate) timeline: Option<u32>,
    /// When that server began.
    pub(crate) server: Option<String>,
    /// What was said otherwise.
    pub(crate) error: Option<String>,
}

impl Told {
    fn not(outcome: Outcome, error: impl Into<String>) -> Self {
        Self { outcome, node: None, timeline: None, server: None, error: Some(error.into()) }
    }
}

/// An open connection.
pub(crate) struct Session {
    client: Client,
    warned: Arc<AtomicBool>,
}

impl Session {
    /// Connects, on the thread where it is called.
    ///
    /// # Errors
    /// What was said.
    pub(crate) async fn open(address: &Address) -> Result<Self, String> {
        let mut config = Config::new();
        config.user("writer").dbname("postgres").connect_timeout(CONNECT);
        match address {
            Address::Tcp(host, port) => config.host(host).port(*port),
            Address::Socket(folder, port) => config.host_path(folder).port(*port),
        };
        let opened = timeout(CONNECT, config.connect(NoTls)).await;
        let (client, mut connection) = opened.map_err(|_| "no connection in time")?.map_err(text)?;
        let warned = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&warned);
        tokio::spawn(async move {
            // A notice is handled before the answer that follows it is handed on.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notice(notice) if notice.message().contains(NOT_WAITED)) {
                    seen.store(true, Ordering::SeqCst);
                }
            }
        });
        Ok(Self { client, warned })
    }

    /// Commits one row. With `patience`, the commit is cancelled when it takes longer. Not to be used again unless it
    /// was acknowledged or refused.
    pub(crate) async fn commit(&self, writer: u32, seq: u64, patience: Option<Duration>) -> Told {
        self.warned.store(false, Ordering::SeqCst);
        let sql =
            format!("INSERT INTO journal SELECT {writer}, {seq}, {WHO} RETURNING node, timeline, {BEGAN}");
        // The simple protocol: it returns at ReadyForQuery, which is the acknowledgement.
        let mut commit = std::pin::pin!(timeout(GIVE_UP, self.client.simple_query(&sql)));
        let done = match patience {
            None => commit.await,
            Some(patience) => match timeout(patience, &mut commit).await {
                Ok(done) => done,
                Err(_) => {
                    let cancel = self.client.cancel_token();
                    let _it_may_be_over_or_the_server_gone =
                        timeout(CANCEL, cancel.cancel_query(NoTls)).await;
                    commit.await
                }
            },
        };
        match done {
            Err(_) => Told::not(Outcome::Unknown, "no answer in time"),
            Ok(Err(error)) => Told::not(outcome_of(&error), text(error)),
            Ok(Ok(messages)) => {
                let row = messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                });
                let column = |index| row.and_then(|row| row.get(index)).map(str::to_owned);
                let warned = self.warned.load(Ordering::SeqCst);
                Told {
                    outcome: if warned { Outcome::Warned } else { Outcome::Acknowledged },
                    node: column(0),
                    timeline: column(1).and_then(|text| text.parse().ok()),
                    server: column(2),
                    error: None,
                }
            }
        }
    }

    /// The highest number of that writer, and who says so.
    ///
    /// # Errors
    /// What was said.
    pub(crate) async fn highest(&self, writer: u32) -> Result<(u64, Option<String>), String> {
        let sql = format!(
            "SELECT coalesce(max(seq), 0), current_setting('cluster_name') FROM journal WHERE writer = {writer}"
        );
        let answer =
            timeout(GIVE_UP, self.client.simple_query(&sql)).await.map_err(|_| "no answer in time")?;
        let messages = answer.map_err(text)?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((row.get(0)?.parse().ok()?, row.get(1).map(str::to_owned))),
            _ => None,
        });
        row.ok_or_else(|| "no row".to_owned())
    }
}

/// ERROR: rolled back. FATAL may end a session that has committed and waits for its standby ("the transaction has
/// already committed locally"); a connection that broke says nothing at all.
fn outcome_of(error: &Error) -> Outcome {
    match error.as_db_error().and_then(tokio_postgres::error::DbError::parsed_severity) {
        Some(Severity::Error) => Outcome::Failed,
        _ => Outcome::Unknown,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn text(error: Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {}", db.code().code(), db.message()),
        None => error.to_string(),
    }
}
