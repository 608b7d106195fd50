//! One kept connection of a client, and an honest answer to "was it committed?".
//!
//! Only ReadyForQuery after the commit counts as an acknowledgement, and not even that when the server warned
//! meanwhile: a cancelled wait for the standby is told as a WARNING before the usual reply.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, error::Severity};

/// How long opening a connection may take. Endpoints let new connections wait during a failover.
pub(crate) const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// What became of a commit, as far as its client can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fate {
    /// The server said that it is durable.
    Acknowledged,
    /// It cannot have been committed: nothing was sent, or the server refused it.
    Failed,
    /// Nobody told. It may be there or not, and neither is a fault.
    Unknown,
}

/// A commit without an acknowledgement.
#[derive(Clone, Debug)]
pub(crate) struct Miss {
    /// What is known of it.
    pub(crate) fate: Fate,
    /// What was said.
    pub(crate) reason: String,
}

impl Miss {
    /// Nothing was sent.
    pub(crate) fn unsent(reason: impl ToString) -> Self {
        Self { fate: Fate::Failed, reason: reason.to_string() }
    }

    /// It was sent, and no answer came.
    pub(crate) fn unanswered(reason: impl ToString) -> Self {
        Self { fate: Fate::Unknown, reason: reason.to_string() }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    client: Client,
    warned: Arc<AtomicBool>,
    open: watch::Receiver<bool>,
}

impl Link {
    /// Opens it.
    ///
    /// # Errors
    /// It could not be opened in time; nothing was sent.
    pub(crate) async fn open(config: &Config) -> Result<Self, Miss> {
        let opened = timeout(OPEN_LIMIT, config.connect(NoTls)).await;
        let (client, mut connection) = match opened {
            Ok(Ok(pair)) => pair,
            Ok(Err(error)) => return Err(Miss::unsent(describe(&error))),
            Err(_) => return Err(Miss::unsent("no connection in time")),
        };
        let warned = Arc::new(AtomicBool::new(false));
        let (ended, open) = watch::channel(true);
        let flag = Arc::clone(&warned);
        tokio::spawn(async move {
            poll_fn(|cx| {
                loop {
                    match std::task::ready!(connection.poll_message(cx)) {
                        Some(Ok(AsyncMessage::Notice(notice))) => {
                            if notice.parsed_severity() == Some(Severity::Warning) {
                                flag.store(true, Ordering::Release);
                            }
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return Poll::Ready(()),
                    }
                }
            })
            .await;
            ended.send_replace(false);
        });
        Ok(Self { client, warned, open })
    }

    /// Commits one numbered row.
    ///
    /// # Errors
    /// A [`Miss`] that tells whether it may have been committed all the same.
    pub(crate) async fn insert(&self, writer: u16, seq: u64, limit: Duration) -> Result<(), Miss> {
        if self.client.is_closed() {
            return Err(Miss::unsent("the connection was closed before"));
        }
        self.warned.store(false, Ordering::Release);
        let statement = format!("INSERT INTO rows (writer, seq) VALUES ({writer}, {seq})");
        match timeout(limit, self.client.batch_execute(&statement)).await {
            Ok(Ok(())) if self.warned.load(Ordering::Acquire) => {
                Err(Miss::unanswered("acknowledged with a warning"))
            }
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Miss { fate: fate_of(&error), reason: describe(&error) }),
            Err(_) => Err(Miss::unanswered("no answer in time")),
        }
    }

    /// Reads one number.
    pub(crate) async fn number(&self, query: &str, limit: Duration) -> Result<i64, String> {
        match timeout(limit, self.client.query_one(query, &[])).await {
            Ok(Ok(row)) => row.try_get(0).map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err("no answer in time".into()),
        }
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        let mut open = self.open.clone();
        // An error means that the task is gone, which is an end too.
        let _ = open.wait_for(|open| !open).await;
    }
}

/// Whether a failed commit may have happened. In doubt, it may.
fn fate_of(error: &tokio_postgres::Error) -> Fate {
    match error.as_db_error() {
        Some(error) => fate_of_code(error.code().code()),
        None => Fate::Unknown,
    }
}

/// The classes in which a server refuses a statement before it commits (PostgreSQL manual, Appendix A): data,
/// constraint, transaction state (read-only), authorization, rollback, syntax, resources. All else is doubtful.
fn fate_of_code(code: &str) -> Fate {
    const REFUSED: [&str; 8] = ["22", "23", "25", "28", "3D", "42", "53", "54"];
    let refused = REFUSED.iter().any(|class| code.starts_with(class));
    if refused || (code.starts_with("40") && code != "40003") { Fate::Failed } else { Fate::Unknown }
}

/// The server's own words, where there are any.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} {}", said.code().code(), said.message()),
        None => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_that_refuses_a_write_has_not_committed_it() {
        assert_eq!(fate_of_code("25006"), Fate::Failed);
    }

    #[test]
    fn a_server_that_goes_away_leaves_it_unknown() {
        for code in ["57P01", "57P02", "57014", "XX000", "40003", "58030"] {
            assert_eq!(fate_of_code(code), Fate::Unknown, "{code}");
        }
    }
}
