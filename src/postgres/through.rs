//! A commit as a client would make it, through an endpoint: the proof that service is there again. And in peace, what a client
//! meets at a node's own address.
//!
//! The session keeps every default that a client gets and makes no object. That its commit counts is asked on another
//! connection, and both must reach the server that is meant.

use std::{fs, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::{task::AbortHandle, time::timeout_at};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::who::{WHO, Who};
use crate::{
    model::{ClientLook, ServerIdentity},
    ports::Client,
};

/// How long connecting and committing may take together. Longer than an endpoint needs to serve one that waits.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long a commit that was given up may take to be cancelled.
const CANCEL: Duration = Duration::from_secs(1);

/// Takes a transaction id, writes 104 bytes of WAL and waits for their flush like any client's commit; needs no table and no
/// privilege. Both are allowed in a read-only transaction, so that is asked for.
const COMMIT: &str = "BEGIN; \
    SELECT pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_current_xact_id()::pg_catalog.text, \
           pg_catalog.pg_logical_emit_message(true, 'locum', ''); \
    COMMIT";
/// Whether a session's transactions are read-only by default, and where that is set. In recovery every transaction is, so the
/// default is asked for.
const READ_ONLY: &str = "SELECT s.setting, s.source, pg_catalog.current_database(), current_user, s.sourcefile \
    FROM pg_catalog.pg_settings s WHERE s.name = 'default_transaction_read_only'";
const SETTING: &str = "default_transaction_read_only";

/// The client that proves service: a role and a database, without host and port.
#[derive(Clone, Debug)]
pub struct ThroughEndpoint {
    keywords: String,
    passfile: Option<String>,
}

impl ThroughEndpoint {
    /// From libpq keywords such as `user=locum dbname=postgres passfile=/etc/locum/pgpass`. A host and port in them
    /// are passed over: the endpoint's are taken.
    #[must_use]
    pub fn new(keywords: &str) -> Self {
        let (mut kept, mut passfile) = (Vec::new(), None);
        for word in keywords.split_whitespace() {
            match word.split_once('=') {
                Some(("host" | "hostaddr" | "port", _)) => {}
                Some(("passfile", file)) => passfile = Some(file.trim_matches('\'').to_owned()),
                _ => kept.push(word),
            }
        }
        Self { keywords: kept.join(" "), passfile }
    }

    fn config(&self, address: &str) -> Result<Config, String> {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address} is not host:port"))?;
        let mut config: Config = self.keywords.parse().map_err(|error| format!("verify: {error}"))?;
        let port: u16 = port.parse().map_err(|_| format!("{address} has no port number"))?;
        config.host(host).port(port).application_name("locum");
        if config.get_password().is_none()
            && let Some(file) = &self.passfile
        {
            let text = fs::read_to_string(file).map_err(|error| format!("read {file}: {error}"))?;
            let user = config.get_user().unwrap_or_default().to_owned();
            let database = config.get_dbname().unwrap_or(&user).to_owned();
            if let Some(password) = password(&text, [host, &port.to_string(), &database, &user]) {
                config.password(password);
            }
        }
        Ok(config)
    }
}

/// The password that a password file holds for a role, whatever the host. None: no line fits.
///
/// # Errors
/// The file cannot be read.
pub fn password_of(passfile: &std::path::Path, role: &str) -> std::io::Result<Option<String>> {
    let text = fs::read_to_string(passfile)?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(fields);
    let mut of_role = lines.filter(|fields| fields[3] == "*" || fields[3] == role);
    Ok(of_role.next().map(|[.., password]| password))
}

/// The first line of a password file that fits (PostgreSQL manual, 34.16); `*` fits anything, `\` escapes.
fn password(text: &str, wanted: [&str; 4]) -> Option<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(fields);
    let fits = |fields: &[String; 5]| {
        wanted.iter().zip(fields).all(|(wanted, field)| field == "*" || field == wanted)
    };
    lines.filter(fits).map(|[.., password]| password).next()
}

fn fields(line: &str) -> Option<[String; 5]> {
    let (mut fields, mut chars) = (vec![String::new()], line.chars());
    while let Some(next) = chars.next() {
        match next {
            '\\' => fields.last_mut()?.extend(chars.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            plain => fields.last_mut()?.push(plain),
        }
    }
    fields.try_into().ok()
}

/// One connection of a client. Dropping it closes the socket.
struct Session {
    client: tokio_postgres::Client,
    driver: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    async fn connect(config: &Config) -> Result<Self, Failure> {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { client, driver })
    }

    /// The columns of the first row.
    async fn row(&self, sql: &str) -> Result<Vec<Option<String>>, Failure> {
        let answer = self.client.simple_query(sql).await?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(row.unwrap_or_default())
    }

    /// Commits at the server that is meant, and returns the transaction's id. One round trip, for clients wait meanwhile; what it
    /// writes does no harm on another server.
    async fn commit(&self, server: Option<&ServerIdentity>) -> Result<String, Failure> {
        let answer = self.client.simple_query(&format!("{WHO}; {COMMIT}")).await?;
        is_meant(&Who::read(&answer), server)?;
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = rows.last();
        let column = |at: usize| row.and_then(|row| row.try_get(at).ok().flatten());
        if column(0) != Some("off") {
            let look = self.read_only().await?;
            let unknown =
                || Failure::NotCommitted("transactions are read-only (transaction_read_only)".into());
            return Err(look.map_or_else(unknown, Failure::ReadOnly));
        }
        let xid = column(1).filter(|xid| xid.chars().all(|c| c.is_ascii_digit()));
        xid.map(str::to_owned)
            .ok_or_else(|| Failure::NotCommitted("the server gave no transaction id".into()))
    }

    /// Makes sure that the server that is meant calls a transaction committed.
    async fn has_committed(&self, xid: &str, server: Option<&ServerIdentity>) -> Result<(), Failure> {
        match self.status_of(xid, server).await?.as_deref() {
            Some("committed") => Ok(()),
            other => Err(Failure::NotCommitted(format!(
                "another session sees the transaction as {}",
                other.unwrap_or("unknown")
            ))),
        }
    }

    /// What the server that is meant says of a transaction. One round trip: it is on the road to service.
    async fn status_of(&self, xid: &str, server: Option<&ServerIdentity>) -> Result<Option<String>, Failure> {
        let asked = format!("{WHO}; SELECT pg_catalog.pg_xact_status('{xid}'::pg_catalog.xid8)");
        let answer = self.client.simple_query(&asked).await?;
        is_meant(&Who::read(&answer), server)?;
        let last = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        });
        Ok(last.flatten())
    }

    /// What makes this session's transactions read-only; None: they may write.
    async fn read_only(&self) -> Result<Option<ClientLook>, Failure> {
        let row = self.row(READ_ONLY).await?;
        let column = |at: usize| row.get(at).cloned().flatten();
        if column(0).is_none_or(|value| value == "off") {
            return Ok(None);
        }
        let (database, role) = (column(2).unwrap_or_default(), column(3).unwrap_or_default());
        let source = match column(1).as_deref() {
            Some("database") => format!("ALTER DATABASE {database}"),
            Some("user") => format!("ALTER ROLE {role}"),
            Some("database user") => format!("ALTER ROLE {role} IN DATABASE {database}"),
            Some("global") => "ALTER ROLE ALL".into(),
            Some("client") => "the options of `postgres.verify`".into(),
            Some("configuration file") => column(4).unwrap_or_else(|| {
                "a configuration file (postgresql.conf, or postgresql.auto.conf by ALTER SYSTEM)".into()
            }),
            Some(other) => other.to_owned(),
            None => "an unknown source".into(),
        };
        Ok(Some(ClientLook::ReadOnly { setting: SETTING.into(), source }))
    }

    /// Ends a commit that may be waiting for a standby: its session would keep a slot for as long as that lasts.
    async fn give_up(self) {
        let cancel = self.client.cancel_token();
        // It ends by itself when the wait does.
        let _too_late = tokio::time::timeout(CANCEL, cancel.cancel_query(NoTls)).await;
    }
}

fn is_meant(seen: &Who, server: Option<&ServerIdentity>) -> Result<(), Failure> {
    server
        .and_then(|server| server.differs_from(&seen.identity))
        .map_or(Ok(()), |why| Err(Failure::Elsewhere(why)))
}

/// Why a client is not served.
enum Failure {
    Said(tokio_postgres::Error),
    Elsewhere(String),
    NotCommitted(String),
    ReadOnly(ClientLook),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Said(error)
    }
}

impl Failure {
    fn in_words(&self) -> String {
        match self {
            Self::Said(error) => describe(error),
            Self::Elsewhere(why) => format!("another server answers: {why}"),
            Self::NotCommitted(why) => why.clone(),
            Self::ReadOnly(look) => look.to_string(),
        }
    }
}

impl ThroughEndpoint {
    /// What a client meets at `address`, where `server` has to answer: a login, and whether its transactions could write.
    /// None: nobody answered in time, which says nothing.
    pub async fn look(&self, address: &str, server: Option<&ServerIdentity>) -> Option<ClientLook> {
        let refused = |said: String| Some(ClientLook::Refused { said });
        let config = match self.config(address) {
            Ok(config) => config,
            Err(said) => return refused(said),
        };
        let asked = async {
            let session = Session::connect(&config).await?;
            // A standby refuses whatever takes a snapshot of this level; once promoted it does not.
            session.row("SET default_transaction_isolation = 'read committed'").await?;
            is_meant(&Who::ask(&session.client).await?, server)?;
            session.read_only().await
        };
        match tokio::time::timeout(DEADLINE, asked).await.ok()? {
            Ok(look) => Some(look.unwrap_or(ClientLook::Service)),
            Err(Failure::Said(error)) if is_passing(&error) => None,
            Err(failure) => refused(failure.in_words()),
        }
    }
}

/// True for what a server says while it starts, ends or is busy: it says nothing of the next login.
fn is_passing(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(said) => ["53", "57"].iter().any(|class| said.code().code().starts_with(class)),
        None => error.is_closed(),
    }
}

/// What came of a step at each address; or what failed, address by address.
fn each<T>(addresses: &[String], done: Vec<Result<T, Failure>>) -> Result<Vec<T>, String> {
    let (mut good, mut failed) = (Vec::new(), Vec::new());
    for (address, done) in addresses.iter().cycle().zip(done) {
        match done {
            Ok(one) => good.push(one),
            Err(failure) => failed.push(format!("commit through {address}: {}", failure.in_words())),
        }
    }
    if failed.is_empty() { Ok(good) } else { Err(failed.join("; ")) }
}

#[async_trait]
impl Client for ThroughEndpoint {
    /// Every connection costs the server a process while its clients come back: with several addresses the session through one
    /// asks for the commit through the one before it, and only a single address takes a second connection.
    async fn commit(&self, addresses: &[String], server: Option<&ServerIdentity>) -> Result<(), String> {
        let until = tokio::time::Instant::now() + DEADLINE;
        let late = |_| format!("commit through {}: no answer within {DEADLINE:?}", addresses.join(", "));
        if addresses.is_empty() {
            return Err("there is no endpoint, and no primary, to commit through".into());
        }
        let connections = addresses.len().max(2);
        let configs = addresses.iter().cycle().take(connections).map(|address| self.config(address));
        let configs = configs.collect::<Result<Vec<_>, _>>()?;
        let opened = timeout_at(until, join_all(configs.iter().map(Session::connect))).await.map_err(late)?;
        let sessions = each(addresses, opened)?;
        let commits = sessions.iter().take(addresses.len()).map(|session| session.commit(server));
        let committed = match timeout_at(until, join_all(commits)).await {
            Ok(committed) => each(addresses, committed)?,
            Err(elapsed) => {
                join_all(sessions.into_iter().map(Session::give_up)).await;
                return Err(late(elapsed));
            }
        };
        let asked = sessions.iter().cycle().skip(1).zip(&committed);
        let seen = join_all(asked.map(|(other, xid)| other.has_committed(xid, server)));
        each(addresses, timeout_at(until, seen).await.map_err(late)?).map(drop)
    }
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let text = "# comment\nother:*:*:*:no\n127.0.0.1:*:*:locum:a\\:b\n*:*:*:*:last";
        assert_eq!(password(text, ["127.0.0.1", "6432", "db", "locum"]), Some("a:b".into()));
        assert_eq!(password(text, ["::1", "6432", "db", "app"]), Some("last".into()));
        assert_eq!(password("short:line", ["a", "b", "c", "d"]), None);
    }

    #[test]
    fn host_and_port_of_the_endpoint_are_taken() {
        let through = ThroughEndpoint::new("host=/run/postgresql port=5432 user=locum dbname=postgres");
        let config = through.config("127.0.0.1:6432").expect("good");
        assert_eq!(config.get_ports(), [6432]);
        assert!(through.config("nonsense").is_err());
    }
}
