//! The admin console of a PgBouncer: a pseudo-database that takes single commands in the simple protocol.
//!
//! One that waits in a PAUSE takes nothing else, so each pause has a connection of its own, which ends with the call. All else
//! goes over one that is kept, because PgBouncer logs every new one.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// The console's own database.
const DATABASE: &str = "pgbouncer";

/// How a console is reached.
pub(super) struct Console {
    keywords: String,
    password_file: Option<PathBuf>,
    kept: Mutex<Option<Session>>,
}

/// A database, as `SHOW DATABASES` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: String,
    pub(super) paused: bool,
}

impl Console {
    pub(super) const fn new(keywords: String, password_file: Option<PathBuf>) -> Self {
        Self { keywords, password_file, kept: Mutex::new(None) }
    }

    /// `host:port` or the socket's folder, for people.
    pub(super) fn shows(&self) -> String {
        let Ok(config) = self.keywords.parse::<Config>() else { return String::new() };
        let host = match config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
            None => String::new(),
        };
        config.get_ports().first().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }

    /// The connection that is kept, or a new one. Whoever takes it puts it back when all went well; one on which something went
    /// wrong, or is still to be answered, is not used again.
    pub(super) async fn take(&self) -> Result<Session, String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        match kept.filter(|session| !session.client.is_closed()) {
            Some(session) => Ok(session),
            None => self.open().await,
        }
    }

    /// Keeps a connection for the next time.
    pub(super) fn put_back(&self, session: Session) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    /// A new connection.
    pub(super) async fn open(&self) -> Result<Session, String> {
        let mut config: Config = self.keywords.parse().map_err(|error| format!("console: {error}"))?;
        config.dbname(DATABASE);
        if let Some(file) = &self.password_file {
            let text = fs::read_to_string(file)
                .map_err(|error| format!("read the password of PgBouncer's console: {error}"))?;
            config.password(text.lines().next().unwrap_or_default());
        }
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected
            .map_err(|error| format!("PgBouncer's console at {}: {}", self.shows(), said(&error)))?;
        let driver = tokio::spawn(async move {
            // What ends it is told to whoever asks next.
            _ = connection.await;
        });
        Ok(Session { client, driver })
    }
}

/// A connection to the console.
pub(super) struct Session {
    client: Client,
    driver: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Runs a command.
    pub(super) async fn run(&self, command: &str) -> Result<(), String> {
        match self.client.simple_query(command).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("PgBouncer: {command}: {}", said(&error))),
        }
    }

    /// What PgBouncer knows of its databases.
    pub(super) async fn databases(&self) -> Result<Vec<Listed>, String> {
        let rows = self.client.simple_query("SHOW DATABASES").await;
        let rows = rows.map_err(|error| format!("PgBouncer: SHOW DATABASES: {}", said(&error)))?;
        let mut listed = Vec::new();
        for message in rows {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let column = |name: &str| {
                let value =
                    row.try_get(name).map_err(|error| format!("PgBouncer: SHOW DATABASES: {error}"))?;
                Ok::<_, String>(value.unwrap_or_default().to_owned())
            };
            let paused = column("paused")? == "1";
            listed.push(Listed {
                name: column("name")?,
                host: column("host")?,
                port: column("port")?,
                paused,
            });
        }
        Ok(listed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.message().to_owned(),
        None => crate::config::chain(error),
    }
}
