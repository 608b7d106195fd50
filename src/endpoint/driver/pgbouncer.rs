//! A PgBouncer: paused between transactions in a switchover, so that its clients notice a wait and nothing else.
//!
//! Its databases lead to a Locum proxy, or straight to the servers; then an include file says where they are. Only a
//! switchover pauses ([`Wish::Quiet`]). Whatever ends it resumes: the next order to lead clients somewhere, be it back to
//! the old primary; a failover that comes between; `pause_max`; the end of the member, and its next start, for which a note
//! is on disk. What a person paused is left alone.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{
    Driver, Surroundings, Task, Wish,
    console::{Console, Listed, Session},
};
use crate::{
    config,
    model::{EndpointName, Stamp},
};

/// How often to look whether it still is as it should be.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct PgBouncer {
    console: Console,
    settings: config::Pgbouncer,
    /// There while it may be paused by Locum.
    note: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// It may be paused by Locum.
    paused: bool,
    /// Since when, in this life of the member.
    since: Option<Instant>,
    /// The pause has ended because it took too long; no other begins before clients were led somewhere.
    expired: bool,
    /// The last order to lead clients that was carried out.
    led: Option<Stamp>,
}

impl PgBouncer {
    pub(super) fn new(settings: &config::Pgbouncer, name: &EndpointName, around: &Surroundings<'_>) -> Self {
        let note = around.state_dir.join(format!("{name}.paused"));
        let state = State { paused: note.exists(), ..State::default() };
        Self {
            console: Console::new(settings.console.clone(), settings.password_file.clone()),
            settings: settings.clone(),
            note,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_paused(&self) -> bool {
        self.state().paused
    }

    fn has_led(&self, stamp: Stamp) -> bool {
        self.state().led == Some(stamp)
    }

    fn has_now_led(&self, stamp: Stamp) {
        let mut state = self.state();
        (state.led, state.expired, state.since) = (Some(stamp), false, None);
    }

    /// A pause of this life of the member is in force.
    fn is_pausing(&self) -> bool {
        self.state().since.is_some()
    }

    async fn pause(&self) -> Result<(), String> {
        let expired = {
            let mut state = self.state();
            let since = *state.since.get_or_insert_with(Instant::now);
            state.expired |= since.elapsed() >= self.settings.pause_max;
            state.expired
        };
        if expired {
            self.end_pause().await?;
            return Err(format!(
                "it was resumed after {:?} (pause_max), before the switchover was over",
                self.settings.pause_max
            ));
        }
        // On disk first: a member that dies now resumes what it paused when it is back.
        write(&self.note, "").map_err(|error| format!("note that PgBouncer is paused: {error}"))?;
        self.state().paused = true;
        let began = Instant::now();
        // One that waits for its transactions keeps no other waiting.
        let each = self.settings.databases.iter().map(|name| async move {
            self.console.open().await?.run(&format!("PAUSE {}", quoted(name))).await
        });
        try_join_all(each).await?;
        tracing::debug!(took = ?began.elapsed(), "PgBouncer is paused");
        Ok(())
    }

    async fn end_pause(&self) -> Result<(), String> {
        let session = self.console.take().await?;
        self.resume(&session).await?;
        self.console.put_back(session);
        Ok(())
    }

    /// Ends what Locum paused.
    async fn resume(&self, session: &Session) -> Result<(), String> {
        if !self.is_paused() {
            return Ok(());
        }
        for database in self.mine(session).await?.iter().filter(|listed| listed.paused) {
            session.run(&format!("RESUME {}", quoted(&database.name))).await?;
        }
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("remove {}: {error}", self.note.display()));
            }
            _ => {}
        }
        let mut state = self.state();
        (state.paused, state.since) = (false, None);
        Ok(())
    }

    /// The databases of the configuration, as PgBouncer knows them.
    async fn mine(&self, session: &Session) -> Result<Vec<Listed>, String> {
        let known = session.databases().await?;
        let find = |name: &String| {
            let listed = known.iter().find(|listed| listed.name == *name).cloned();
            listed.ok_or_else(|| format!("PgBouncer has no database {name}"))
        };
        self.settings.databases.iter().map(find).collect()
    }

    async fn lead(&self, stamp: Stamp, address: &str) -> Result<(), String> {
        let session = self.console.take().await?;
        self.lead_by(&session, stamp, address).await?;
        self.console.put_back(session);
        Ok(())
    }

    async fn lead_by(&self, session: &Session, stamp: Stamp, address: &str) -> Result<(), String> {
        if let Some(file) = &self.settings.file {
            self.place(session, file, address).await?;
        }
        if self.is_paused() {
            // Its pause has closed every connection to a server.
            self.resume(session).await?;
        } else if !self.has_led(stamp) {
            for name in &self.settings.databases {
                session.run(&format!("RECONNECT {}", quoted(name))).await?;
            }
        }
        self.has_now_led(stamp);
        match self.mine(session).await?.iter().find(|listed| listed.paused) {
            Some(paused) => Err(format!("database {} is paused in PgBouncer, not by Locum", paused.name)),
            None => Ok(()),
        }
    }

    /// Has PgBouncer find the databases at `address`.
    async fn place(&self, session: &Session, file: &Path, address: &str) -> Result<(), String> {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address} is not host:port"))?;
        let host = host.trim_matches(['[', ']']);
        let wanted = include(&self.settings, host, port);
        let present = fs::read_to_string(file).unwrap_or_default();
        let there = |listed: &Listed| listed.host == host && listed.port == port;
        let known = session.databases().await?;
        let all = self
            .settings
            .databases
            .iter()
            .all(|name| known.iter().any(|listed| listed.name == *name && there(listed)));
        if present == wanted && all {
            return Ok(());
        }
        write(file, &wanted).map_err(|error| format!("write {}: {error}", file.display()))?;
        session.run("RELOAD").await?;
        match self.mine(session).await?.iter().find(|listed| !there(listed)) {
            None => Ok(()),
            Some(other) => Err(format!(
                "after RELOAD PgBouncer still leads {} to {}:{}; does its configuration include {}?",
                other.name,
                other.host,
                other.port,
                file.display()
            )),
        }
    }
}

#[async_trait]
impl Driver for PgBouncer {
    fn shows(&self) -> String {
        self.console.shows()
    }

    async fn carry_out(&self, task: &Task) -> Result<(), String> {
        match &task.wish {
            Wish::Quiet => self.pause().await,
            Wish::Lead { address, .. } => self.lead(task.stamp, address).await,
            // What an earlier life of the member paused; a pause of this one goes on until something else is ordered.
            Wish::Nothing | Wish::Hold if self.is_pausing() => Ok(()),
            Wish::Nothing | Wish::Hold | Wish::Cut if self.is_paused() => self.end_pause().await,
            Wish::Nothing | Wish::Hold | Wish::Cut => Ok(()),
        }
    }

    fn looks_every(&self) -> Option<Duration> {
        Some(LOOK)
    }

    async fn end(&self) {
        if !self.is_paused() {
            return;
        }
        if let Err(error) = self.end_pause().await {
            tracing::warn!(%error, "PgBouncer may still be paused; the member resumes it when it runs again");
        }
    }
}

/// The lines that PgBouncer includes.
fn include(settings: &config::Pgbouncer, host: &str, port: &str) -> String {
    let mut text =
        "; Written by Locum, which replaces it with every change of primary.\n[databases]\n".to_owned();
    for name in &settings.databases {
        let line = format!("{name} = host={host} port={port} {}", settings.options);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// Whole or not at all, and not waited for until it is on the disk: both files are for this boot of the machine, and a fsync
/// would be part of the outage. Readable for all: PgBouncer runs as another user, and there is no secret in it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it is in no folder"))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}
