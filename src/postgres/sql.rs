//! Connections of the agent's own: who they are, how they are made, and what a failure means to the caller.
//!
//! No statement here decides anything. Every wait has a deadline: a server that hangs must not hang its agent.

use std::{
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::AbortHandle;
use tokio_postgres::{
    Client, Config, NoTls, SimpleQueryMessage,
    error::{DbError, SqlState},
};

use super::{proc, who::Who};
use crate::model::ServerIdentity;

/// The `application_name` of every connection of an agent; never counted as a client.
pub const APPLICATION: &str = "locum";
/// How long a new connection may take where nothing else is said.
pub const CONNECT: Duration = Duration::from_secs(2);
/// TCP gives up on a peer that acknowledges nothing for this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Set for every session, whatever the server, the database or the role make the default: nothing can shadow a catalogue
/// function, no wait for a standby, no endless statement, no session ended in between, transactions that a standby can run, and
/// answers in the form that is read here. What only a later version has is set once it is known ([`LATER`]).
const OPTIONS: &str = "-c search_path=pg_catalog -c synchronous_commit=local -c statement_timeout=10s \
                       -c lock_timeout=5s -c jit=off \
                       -c default_transaction_isolation=read\\ committed \
                       -c default_transaction_read_only=off -c default_transaction_deferrable=off \
                       -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 \
                       -c datestyle=ISO,MDY -c intervalstyle=postgres -c timezone=UTC -c bytea_output=hex \
                       -c extra_float_digits=1 -c standard_conforming_strings=on -c row_security=on";
/// Settings of later versions, by the first one that has it.
const LATER: [(u32, &str); 1] = [(17, "SET transaction_timeout = 0")];

/// Why a statement or a connection failed, by what the caller does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// All connection slots are taken (53300): life, and no sign of illness.
    #[error("{0} (53300)")]
    Full(String),
    /// The server ended the session on an administrator's word (57P01): it stops in order, or just this session.
    #[error("the server ended the session: {0}")]
    Dismissed(String),
    /// The server starts, recovers or was told to drop everything (57P03, 57P02): ask again soon.
    #[error("the server is not ready: {0}")]
    NotReady(String),
    /// It answered with an error that speaks of its own resources, files or faults. With the SQLSTATE.
    #[error("{1} ({0})")]
    Said(String, String),
    /// It answered, and refused the login or the statement: life, and nothing that it says of itself points to an illness. With
    /// the SQLSTATE.
    #[error("{1} ({0})")]
    Refused(String, String),
    /// Another server answered.
    #[error("another server answers: {0}")]
    Elsewhere(String),
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
            Self::Full(text)
        } else if *said.code() == SqlState::ADMIN_SHUTDOWN {
            Self::Dismissed(text)
        } else if [SqlState::CANNOT_CONNECT_NOW, SqlState::CRASH_SHUTDOWN].contains(said.code()) {
            Self::NotReady(text)
        } else if is_refusal(said) {
            Self::Refused(said.code().code().to_owned(), text)
        } else {
            Self::Said(said.code().code().to_owned(), text)
        }
    }
}

/// What a failed login means: an answer without an error is one as well.
fn of_login(error: tokio_postgres::Error) -> SqlError {
    // The server asked for proof of identity that is not there, or of a kind that is not spoken here.
    let text = error.to_string();
    let asked = ["authentication error", "invalid configuration"].iter().any(|kind| text.starts_with(kind));
    match SqlError::from(error) {
        SqlError::Broken(why) if asked => SqlError::Refused("28000".into(), why),
        other => other,
    }
}

/// True for a no of a server that is well as far as it says. One that is alive refuses logins and statements for many reasons
/// (class 28, 3D000, 42501, 55000 and more); only what it says of its own resources, files or end is a sign of illness.
fn is_refusal(said: &DbError) -> bool {
    // The codes of a missing privilege and a missing database stand for files that cannot be read or found as well.
    let of_files = match said.code().code() {
        "42501" => !said.routine().is_some_and(|routine| PRIVILEGES.contains(&routine)),
        "3D000" => said.detail().is_some(),
        _ => false,
    };
    !of_files && !is_illness(said.code().code())
}

/// True for a SQLSTATE by which a server speaks of its own resources, files, end or faults.
fn is_illness(code: &str) -> bool {
    ["53", "57", "58", "F0", "XX"].iter().any(|class| code.starts_with(class))
}

/// Where PostgreSQL judges a login by privileges, not by what its files allow.
const PRIVILEGES: [&str; 6] = [
    "CheckMyDatabase",
    "aclcheck_error",
    "set_config_option",
    "set_config_option_ext",
    "set_config_with_handle",
    "InitializeSessionUserId",
];

/// How to reach the agent's own server.
#[derive(Clone, Debug)]
pub struct Access {
    config: Config,
    /// A session was ended on an administrator's word: the server may be stopping in order.
    dismissed: Arc<AtomicBool>,
    /// Which server has to answer. None: whichever does.
    own: Arc<Mutex<Option<Own>>>,
}

/// The server that has to answer.
#[derive(Clone, Debug)]
struct Own {
    postmaster: u32,
    /// Of the first connection to it.
    identity: Option<ServerIdentity>,
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
        Ok(Self { config, dismissed: Arc::default(), own: Arc::default() })
    }

    /// From now on only children of this postmaster are taken for the own server. None: whoever answers is.
    pub fn attach(&self, postmaster: Option<u32>) {
        let own = postmaster.map(|postmaster| Own { postmaster, identity: None });
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// What the last connection showed of the attached server. None: there was none yet.
    #[must_use]
    pub fn identity(&self) -> Option<ServerIdentity> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.identity.clone()
    }

    /// A new connection to the attached server, within `deadline`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn connect(&self, deadline: Duration) -> Result<Sql, SqlError> {
        let made = tokio::time::timeout(deadline, self.open()).await;
        made.map_err(|_| SqlError::Silent(deadline))?
    }

    async fn open(&self) -> Result<Sql, SqlError> {
        let (client, connection) = self.config.connect(NoTls).await.map_err(of_login)?;
        let version = connection.parameter("server_version").map(major);
        let dismissed = Arc::clone(&self.dismissed);
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await.map_err(SqlError::from) {
                tracing::debug!(%error, "connection to the own server ended");
                if matches!(error, SqlError::Dismissed(_)) {
                    dismissed.store(true, Ordering::Release);
                }
            }
        });
        let sql = Sql { client, task: task.abort_handle(), dismissed: Arc::clone(&self.dismissed) };
        for (_, setting) in LATER.iter().filter(|(since, _)| version.is_some_and(|version| version >= *since))
        {
            sql.client.batch_execute(setting).await?;
        }
        match self.recognise(&sql).await {
            Ok(()) => Ok(sql),
            Err(error) => {
                sql.abandon();
                Err(error)
            }
        }
    }

    /// Asks who answers. The backend must be a child of the attached postmaster, and the postmaster that of the first
    /// connection: `postgres.connect` may lead to another node's server, or to a copy.
    async fn recognise(&self, sql: &Sql) -> Result<(), SqlError> {
        let own = || self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(expected) = own().clone() else { return Ok(()) };
        let who = Who::ask(&sql.client).await?;
        let parent = proc::parent(who.backend);
        if parent != Some(expected.postmaster) {
            return Err(SqlError::Elsewhere(format!(
                "its backend {} is no child of postmaster {}, which serves this data directory",
                who.backend, expected.postmaster
            )));
        }
        let without_nonce = |seen: &ServerIdentity| ServerIdentity { nonce: None, ..seen.clone() };
        if let Some(why) = expected.identity.and_then(|seen| without_nonce(&seen).differs_from(&who.identity))
        {
            return Err(SqlError::Elsewhere(why));
        }
        if let Some(now) = own().as_mut().filter(|now| now.postmaster == expected.postmaster) {
            now.identity = Some(who.identity);
        }
        Ok(())
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

/// The major version in what a server says of its version, such as `15.8 (Debian 15.8-0+deb12u1)`.
fn major(text: &str) -> u32 {
    text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
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
