//! Leading the guard: which server it guards, and until when that one may serve.
//!
//! A server that takes writes is armed before anybody else may know of it: what this agent starts has its right to serve
//! confirmed first; what somebody else started is frozen at once, until its right is confirmed.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use super::inner::Inner;
use crate::{
    guard::{Client, GuardError, Refused, Settings},
    model::{GuardState, Mono, Server, Stamp, Version},
    postgres::Postmaster,
};

/// Between two tries to find or start a guard.
const AGAIN: Duration = Duration::from_secs(1);
/// A primary that is found as its guard knows it, disarmed, has this long to have its right confirmed again: its member
/// was restarted, and that must not be felt.
const REATTACHED: Duration = Duration::from_secs(1);

/// A server by what no later one has: its postmaster's id, and when that was started.
pub(super) type ServerName = (u32, u64);

/// What the guard is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// Until when the server may serve, and under which stamp. None: nothing was granted yet.
    pub(super) until: Option<(Mono, Stamp)>,
    /// Another epoch stands: what is guarded is to be killed.
    pub(super) kill: Option<Stamp>,
    /// The process that this agent itself started last, or that ran before Locum ordered anything here and is adopted as it
    /// is: its right is confirmed before anybody relies on it, or it is a standby.
    pub(super) started: Option<ServerName>,
}

/// What a guard has been told by this agent.
#[derive(Clone, Debug, Default)]
struct Told {
    until: Option<(Mono, Stamp)>,
    kill: Option<Stamp>,
    /// The server that is to stay in recovery while it is.
    kept: Option<u32>,
    /// The interlock segments by which its processes are told.
    segments: Vec<u32>,
}

/// Keeps a guard and leads it, for ever.
pub(super) async fn run(inner: Arc<Inner>, settings: Settings) {
    loop {
        match Client::attach(settings.clone()).await {
            Ok(client) => {
                let client = Arc::new(client);
                inner.guard.send_replace(Some(Arc::clone(&client)));
                lead(&inner, &client).await;
            }
            Err(error) => tracing::error!(%error, "there is no guard; trying again"),
        }
        sleep(AGAIN).await;
    }
}

/// Tells the guard what it must know, whenever something changes.
async fn lead(inner: &Arc<Inner>, client: &Client) {
    let (mut attached, mut wishes) = (inner.attached.subscribe(), inner.wish.subscribe());
    let (mut facts, mut board) = (client.changes(), inner.board.changes());
    let mut armed = Told::default();
    loop {
        inner.board.update(|s| s.facts.guard = client.facts());
        let postmaster = attached.borrow_and_update().clone();
        if let Some(postmaster) = &postmaster
            && let Err(error) = follow(inner, client, postmaster, &mut wishes, &mut armed).await
        {
            tracing::warn!(%error, "the guard was not told");
            sleep(AGAIN / 10).await;
            continue;
        }
        let strays =
            |pid: u32| client.facts().is_some_and(|facts| facts.strayed && facts.postmaster == Some(pid));
        if postmaster.as_ref().is_some_and(|postmaster| strays(postmaster.pid())) {
            inner.end_stray("its guard says so");
        }
        let ended = tokio::select! {
            changed = attached.changed() => changed.is_err(),
            changed = wishes.changed() => changed.is_err(),
            changed = facts.changed() => changed.is_err(),
            changed = board.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
    }
}

async fn follow(
    inner: &Inner,
    client: &Client,
    postmaster: &Postmaster,
    wishes: &mut watch::Receiver<Wish>,
    armed: &mut Told,
) -> Result<(), GuardError> {
    let pid = postmaster.pid();
    if inner.board.read(|s| s.facts.promise.is_none()) {
        // Before a first cluster is declared nobody knows of this server but its owner.
        let this = (pid, name_of(postmaster));
        inner.wish.send_if_modified(|wish| wish.started.replace(this) != Some(this));
    }
    let before = client.facts();
    let known = before.is_some_and(|facts| facts.postmaster == Some(pid));
    if !known && !postmaster.has_exited() {
        client.watch(pid, name_of(postmaster)).await?;
        armed.until = None;
    }
    // One that has recovered behind its postmaster has another segment, by which its orphans would be told.
    let segments = inner.instance.interlocks(postmaster);
    if known && armed.segments != segments {
        client.watch(pid, name_of(postmaster)).await?;
    }
    armed.segments = segments;
    if armed.kept != Some(pid) && inner.board.read(|s| s.facts.promise.is_some()) && !postmaster.has_exited()
    {
        armed.kept = keep(client).await?.then_some(pid);
    }
    let wish = *wishes.borrow_and_update();
    if let Some(stamp) = wish.kill.filter(|_| armed.kill != wish.kill) {
        client.kill(term(stamp)).await?;
        armed.kill = wish.kill;
    }
    if postmaster.has_exited() {
        // Who got its number since may be what the guard has taken: that is not armed.
        return Ok(());
    }
    if let Some((until, stamp)) = wish.until.filter(|_| armed.until != wish.until) {
        client.arm(until, term(stamp)).await?;
        armed.until = wish.until;
    } else if wish.until.is_none() && armed.until.is_none() {
        close(inner, client, pid, known, wish.started == Some((pid, name_of(postmaster)))).await?;
    }
    Ok(())
}

/// A guard that outlived a member of an earlier release may not know how: it is replaced by one of this release, unless a
/// server is armed. False: another one is to be told.
async fn keep(client: &Client) -> Result<bool, GuardError> {
    match client.keep().await {
        Err(GuardError::Refused(Refused::Unknown)) => {
            tracing::warn!(
                "the running guard is of an earlier release, and does not watch over a standby's recovery"
            );
            // Replaced, it is told when it says its first word; one that stays would refuse again.
            client.replace().await.map(|replaced| !replaced)
        }
        kept => kept.map(|_| true),
    }
}

/// A primary whose right nobody has confirmed yet in this agent's life.
async fn close(
    inner: &Inner,
    client: &Client,
    pid: u32,
    known: bool,
    started: bool,
) -> Result<(), GuardError> {
    let state = client.facts().map(|facts| facts.state);
    let (primary, promise, of_promise) = inner.board.read(|s| {
        let since = s.facts.primary_since;
        let of_promise = s.facts.promise.zip(since).is_some_and(|(promise, since)| promise.same_epoch(since));
        (matches!(s.facts.server.value, Server::Primary(_)), s.facts.promise, of_promise)
    });
    let Some(stamp) = promise.filter(|_| primary && !started && state == Some(GuardState::Off)) else {
        return Ok(());
    };
    let grace = if known && of_promise { REATTACHED } else { Duration::ZERO };
    tracing::warn!(pid, ?grace, "a primary without a confirmed right to serve is closed");
    client.arm(inner.now().plus(grace), term(stamp)).await.map(drop)
}

/// What the guard knows a server by beside its process id: the time of its start, so that it is that very server wherever its
/// data directory is now.
pub(super) fn name_of(postmaster: &Postmaster) -> u64 {
    postmaster.started().unwrap_or_default()
}

/// What the guard is told of a stamp: its epoch alone. The right to serve is one of an epoch, and its renewals carry the
/// version of its beginning; a guard that had heard of a later version would refuse them.
const fn term(stamp: Stamp) -> Stamp {
    Stamp { version: Version(0), ..stamp }
}

impl Inner {
    /// A command is under way that confirms the right to serve itself, before it lets anybody in.
    pub(super) fn confirms(&self) -> bool {
        let under_way = *self.under_way.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        matches!(under_way, "serve" | "promote")
    }

    /// True while the guard lets nobody be answered: what fails then is no hang.
    pub(super) fn is_frozen(&self) -> bool {
        self.board
            .read(|s| s.facts.guard.is_some_and(|guard| guard.state == GuardState::Frozen && guard.enforce))
    }

    /// Has the guard armed with what was granted, and waits until it is: for a server that is about to be opened.
    pub(super) async fn arm_now(&self, until: Mono, stamp: Stamp) -> Result<(), super::orders::Unable> {
        let Some(client) = self.guard.borrow().clone() else { return Ok(()) };
        let Some(postmaster) = self.attached.borrow().clone() else { return Ok(()) };
        let unable =
            |error: GuardError| super::orders::Unable::Failed(format!("the guard is not armed: {error}"));
        if client.facts().is_none_or(|facts| facts.postmaster != Some(postmaster.pid())) {
            client.watch(postmaster.pid(), name_of(&postmaster)).await.map_err(unable)?;
        }
        client.arm(until, term(stamp)).await.map_err(unable)?;
        Ok(())
    }

    /// Waits until there is a guard, for a server that is about to be promoted: only what is armed may leave recovery.
    pub(super) async fn await_guard(&self) -> Result<(), super::orders::Unable> {
        if self.serving.guard.is_none() {
            return Ok(());
        }
        let mut guard = self.guard.subscribe();
        let there = tokio::time::timeout(AGAIN, guard.wait_for(Option::is_some)).await;
        match there {
            Ok(Ok(_)) => Ok(()),
            _ => Err(super::orders::Unable::Failed(
                "there is no guard beside the server, so it is not promoted".into(),
            )),
        }
    }

    /// A standby that is led elsewhere needs no right to serve: a lease that was taken for a promotion that did not come about
    /// must not freeze it. Its recovery is kept as before.
    pub(super) async fn keep_only(&self) {
        self.board.update(|s| s.ordered = false);
        let Some(client) = self.guard.borrow().clone() else { return };
        let armed = client.facts().filter(|facts| facts.state == GuardState::Armed);
        let Some(stamp) = armed.and_then(|facts| facts.stamp) else { return };
        if let Err(error) = client.disarm(term(stamp)).await {
            tracing::warn!(%error, "the guard of a standby stays armed");
        }
        if let Err(error) = client.keep().await {
            tracing::warn!(%error, "the guard does not keep this standby in recovery");
        }
    }

    /// Nobody takes this server's place without a person: the guard leaves it alone.
    pub(super) async fn disarm(&self) -> Result<(), GuardError> {
        let Some(client) = self.guard.borrow().clone() else { return Ok(()) };
        let stamp = client.facts().and_then(|facts| facts.stamp).max(self.board.read(|s| s.facts.promise));
        match stamp {
            Some(stamp) => client.disarm(term(stamp)).await.map(drop),
            None => Ok(()),
        }
    }
}
