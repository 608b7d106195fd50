//! The agent's eye on its postmaster, and the sampling of a server that runs.
//!
//! The moment the postmaster ends is on the road of every failover: the pidfd wakes this task, the board says so, and
//! only then is anything else done.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    board::State,
    client,
    inner::Inner,
    peek::{self, Peek},
    probing,
};
use crate::{
    model::{Control, ControlState, Down, Seen, Server},
    postgres::{PgError, Postmaster, sql::SqlError, who::PRIMARY_SINCE},
};

/// Between two looks for a postmaster that somebody else started.
const LOOK_AROUND: Duration = Duration::from_millis(250);
/// Between two quick looks at a server that runs.
const SAMPLE: Duration = Duration::from_millis(100);
/// Every how many quick looks a fuller one is taken: once a second.
const FULL_EVERY: u32 = 10;
/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_millis(20);
/// Between two tries to connect when all slots are taken or nothing listens.
const RECONNECT_LATER: Duration = Duration::from_millis(250);
/// Between two tries when the server refuses this login. Each costs it a process and a line in its log.
const REFUSED_AGAIN: Duration = Duration::from_secs(1);
/// What a dead server left is read again this long after it could not be, doubled each time …
const READ_AGAIN: Duration = Duration::from_secs(1);
/// … up to this.
const READ_AGAIN_LAST: Duration = Duration::from_secs(60);
/// How long the beginning of the control file may take. It is in the page cache, or the disk hangs.
const PEEK: Duration = Duration::from_millis(50);

/// Watches for ever.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        match inner.instance.find().await {
            Ok(Some(postmaster)) => {
                inner.looked_first(true);
                attend(&inner, &postmaster).await;
            }
            Ok(None) => {
                inner.looked_first(false);
                absent(&inner).await;
                let _ = timeout(LOOK_AROUND, inner.look_around.notified()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether PostgreSQL runs");
                // What is known of a server that is down stays, and grows old.
                inner.board.update(|s| {
                    if s.down_mut().is_none() {
                        s.facts.server = Seen { value: Server::Unknown, at: inner.now() };
                    }
                });
                sleep(LOOK_AROUND).await;
            }
        }
    }
}

/// From the first sight of a postmaster to its end.
async fn attend(inner: &Arc<Inner>, postmaster: &Postmaster) {
    tracing::info!(pid = postmaster.pid(), "watching the postmaster");
    inner.access.attach(Some(postmaster.pid()));
    inner.board.update(|s| s.attached(inner.now()));
    inner.attached.send_replace(Some(postmaster.clone()));
    inner.note_server();
    // Dropped with this task too: an agent that stops leaves nothing behind that looks.
    let mut looking = JoinSet::new();
    looking.spawn(sample(Arc::clone(inner)));
    looking.spawn(probing::run(Arc::clone(inner)));
    looking.spawn(client::run(Arc::clone(inner)));
    postmaster.exited().await;
    inner.forget_right();
    let generation = ended(inner).await;
    looking.shutdown().await;
    inner.attached.send_replace(None);
    inner.access.attach(None);
    inner.close().await;
    if let Some(generation) = generation {
        tokio::spawn(bury(Arc::clone(inner), generation));
    }
}

/// The postmaster has ended: says so at once. Some: it ended by itself or by somebody else, so that nobody else here
/// looks after what it left.
async fn ended(inner: &Arc<Inner>) -> Option<u64> {
    let at = inner.now();
    let expected = inner.board.read(|s| s.expected);
    // A server that stops in order first says goodbye to its sessions; only then is it worth a look at a file.
    let ended_in_order = || async { inner.peek().await.is_some_and(|peek| peek.clean) };
    let in_order = expected || (inner.access.was_dismissed() && ended_in_order().await);
    inner.board.update(|s| (s.down(at, Some(at), !in_order) && !expected).then_some(s.generation))
}

/// No postmaster was found where none was watched.
async fn absent(inner: &Arc<Inner>) {
    if inner.board.read(|s| matches!(s.facts.server.value, Server::Down(_))) {
        inner.board.update(|s| s.facts.server.at = inner.now());
        return;
    }
    let dir = inner.instance.data_dir().to_owned();
    let peek = tokio::task::spawn_blocking(move || peek::control(&dir)).await;
    // A directory that is not there has not crashed; one that was never shut down has, nobody knows when.
    let crashed = matches!(peek, Ok(Ok(Some(peek))) if !peek.clean);
    let at = inner.now();
    let news = inner.board.update(|s| s.down(at, None, crashed).then_some(s.generation));
    if let Some(generation) = news {
        let inner = Arc::clone(inner);
        tokio::spawn(async move { inner.read_remains(generation).await });
    }
}

/// Ends what the dead postmaster left behind, then reads what it left on disk.
async fn bury(inner: Arc<Inner>, generation: u64) {
    {
        let _life = inner.life.lock().await;
        // While this waited for its turn, a server may have been started that is not attended to yet.
        if inner.board.read(|s| s.generation != generation)
            || !matches!(inner.instance.find().await, Ok(None))
        {
            return;
        }
        // Always right: their postmaster is dead, and they would go on acknowledging commits.
        if let Err(error) = inner.instance.kill_orphans().await {
            tracing::error!(%error, "orphaned processes may be left");
            return;
        }
    }
    inner.read_remains(generation).await;
}

impl Inner {
    /// Remembers by what the processes of the server that is watched are told, while that can be seen.
    fn note_server(&self) {
        if let Some(postmaster) = self.attached.borrow().as_ref() {
            self.instance.note(postmaster);
        }
    }

    /// A former primary that streams follows another's history, and has nothing of its own any more. What is remembered of its
    /// term would make the next unclean stop look like a divergence: its last checkpoint may be older than the switch.
    async fn forget_former_term(self: &Arc<Self>) {
        let streams = |s: &State| matches!(&s.facts.server.value, Server::Standby(s) if s.streaming);
        if self.board.read(|s| streams(s) && s.facts.primary_since.is_some())
            && let Err(unable) = self.remember(|p| p.primary_since = None).await
        {
            tracing::warn!(?unable, "the former term as primary is still remembered");
        }
    }

    /// The beginning of the control file. None: there is none, or it does not come at once.
    pub(super) async fn peek(&self) -> Option<Peek> {
        let dir = self.instance.data_dir().to_owned();
        let peek = tokio::task::spawn_blocking(move || peek::control(&dir));
        timeout(PEEK, peek).await.ok()?.ok()?.ok()?
    }

    /// Fills in the control file and the end of WAL of a server of which nothing is left.
    ///
    /// Tried again for as long as that server is the last one: without the end of its WAL nobody may be promoted in
    /// its place, nor it be started again.
    pub(super) async fn read_remains(self: &Arc<Self>, generation: u64) {
        if let Err(unable) = self.mind_stray_directory().await {
            tracing::warn!(?unable, "cannot tell whether this server left recovery");
        }
        let unread = |s: &State| {
            s.generation == generation
                && matches!(&s.facts.server.value, Server::Down(down) if down.wal_end.is_none())
        };
        let mut pause = READ_AGAIN;
        while self.board.read(unread) && !self.read_remains_once(generation).await {
            sleep(pause).await;
            pause = READ_AGAIN_LAST.min(pause * 2);
        }
    }

    /// Reads the control file of a server that is down. None: it could not be read.
    pub(super) async fn read_control(&self, generation: u64) -> Option<Control> {
        let control = self.instance.control().await.inspect_err(|error| {
            tracing::debug!(%error, "no control file to read");
        });
        let control = control.ok()?;
        self.fill(generation, |down| {
            down.control = Some(control);
            down.crashed &= control.state == ControlState::Other;
        });
        Some(control)
    }

    /// Notes something about the server that is down, if it is still the one that was looked at.
    fn fill(&self, generation: u64, fill: impl FnOnce(&mut Down)) {
        self.board.update(|s| {
            if s.generation == generation
                && let Some(down) = s.down_mut()
            {
                fill(down);
            }
        });
    }

    /// False: something could not be read.
    async fn read_remains_once(&self, generation: u64) -> bool {
        let Some(control) = self.read_control(generation).await else { return false };
        let standby = self.instance.has_standby_signal().await;
        let since = self.instance.get(PRIMARY_SINCE).await;
        let end = async {
            let timeline = self.instance.wal_timeline().await?;
            let (end, unfinished) = self.instance.wal_end_and_unfinished(timeline, control.redo).await?;
            let history = self.instance.history(timeline).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the timeline history of the stopped server");
                Vec::new()
            });
            Ok((timeline, end, history, unfinished))
        };
        self.fill(generation, |down| {
            down.standby = standby.ok();
            down.primary_since = since.ok().flatten().and_then(|text| text.parse().ok());
        });
        match end.await {
            Ok((timeline, end, history, unfinished)) => {
                self.fill(generation, |down| {
                    (down.wal_end, down.wal_timeline, down.wal_gone) = (Some(end), Some(timeline), false);
                    (down.history, down.unfinished_until) = (history, unfinished);
                });
                true
            }
            // Looked for again all the same: a person may put it back.
            Err(error @ PgError::WalGone(_)) => {
                tracing::warn!(%error, "where the WAL ended cannot be told any more");
                self.fill(generation, |down| down.wal_gone = true);
                false
            }
            Err(error) => {
                tracing::warn!(%error, "cannot tell where the WAL ends");
                false
            }
        }
    }
}

/// Keeps a connection and looks, until aborted.
async fn sample(inner: Arc<Inner>) {
    loop {
        match inner.open().await {
            Ok(()) => {
                // It may have recovered behind its postmaster, and have another segment.
                inner.note_server();
                let error = look_on(&inner).await;
                tracing::info!(%error, "the kept connection was lost");
                // A server that restarted behind its postmaster reads its settings anew: nothing is proven any more.
                inner.board.update(|s| {
                    s.names_proven = None;
                    s.refresh();
                });
            }
            Err(SqlError::NotReady(why)) => {
                tracing::trace!(%why, "not ready");
                inner.board.update(|s| match s.facts.server.value {
                    Server::Down(_) => {}
                    _ => {
                        s.facts.access.recovering = s.facts.access.identity.is_some();
                        s.facts.server = Seen { value: Server::Starting, at: inner.now() };
                    }
                });
                sleep(RECONNECT).await;
            }
            // It answers, and that is life; but nothing can be seen of it, nor done with it.
            Err(error @ (SqlError::Refused(..) | SqlError::Full(_))) => {
                if inner.board.read(|s| s.facts.access.refused.is_none()) {
                    tracing::error!(%error, "the own server refuses this agent's login");
                }
                inner.refused(Some(error.to_string()));
                sleep(REFUSED_AGAIN).await;
            }
            Err(SqlError::Elsewhere(why)) => {
                inner.board.update(|s| {
                    if s.facts.access.elsewhere.is_none() {
                        tracing::error!(%why, "`postgres.connect` leads to another server");
                    }
                    s.facts.access.elsewhere = Some(why);
                });
                sleep(RECONNECT_LATER).await;
            }
            Err(error) => {
                tracing::debug!(%error, "cannot connect to the own server");
                let starting = inner.board.read(|s| matches!(s.facts.server.value, Server::Starting));
                let soon = starting && matches!(error, SqlError::Broken(_));
                sleep(if soon { RECONNECT } else { RECONNECT_LATER }).await;
            }
        }
    }
}

async fn look_on(inner: &Arc<Inner>) -> SqlError {
    let mut tick = interval(SAMPLE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    let (mut attesting, mut attested) = (JoinSet::new(), false);
    loop {
        tick.tick().await;
        if let Err(error) = inner.look(count.is_multiple_of(FULL_EVERY)).await {
            return error;
        }
        inner.mind_stray();
        if count.is_multiple_of(FULL_EVERY) {
            inner.forget_former_term().await;
            inner.note_server();
        }
        // A recruit that is only remembered is confirmed once that memory counts.
        if !attested
            && inner.is_trusted()
            && let Some(stamp) = inner.board.read(State::unattested)
        {
            attested = true;
            let again = Arc::clone(inner);
            attesting.spawn(async move {
                if let Err(unable) = again.attest_again(stamp).await {
                    tracing::warn!(?unable, "the recruit could not be attested again");
                }
            });
        }
        count = count.wrapping_add(1);
    }
}
