//! A standby that has left recovery without an order: it is ended at once, and remembered until its data directory follows
//! again.
//!
//! The guard freezes it within milliseconds, and says so. Without a guard the agent's own look finds it. What it wrote
//! since is on a timeline that nobody else has, so it is saved and counted like the tail of a former primary.

use std::sync::Arc;

use super::{board::State, inner::Inner, orders::Unable};
use crate::model::{GuardState, Mono, Server, Stray};

impl State {
    /// A standby that was seen here is out of recovery, and nobody ordered that. `guarded`: a guard is expected beside it.
    pub(super) fn has_strayed(&self, pid: Option<u32>, guarded: bool, now: Mono) -> bool {
        let is_primary = matches!(self.facts.server.value, Server::Primary(_));
        // One that was out of recovery before this agent looked is closed until its right is confirmed: a person may have
        // promoted it while Locum was gone for good.
        if !is_primary || !self.was_standby || self.ordered || self.facts.promise.is_none() {
            return false;
        }
        let of_this = self.facts.guard.filter(|guard| guard.postmaster.is_some() && guard.postmaster == pid);
        // A promotion that an agent before this one ordered: its guard holds the lease it was ordered under.
        let may = |guard: crate::model::GuardFacts| {
            guard.state == GuardState::Armed && guard.deadline.is_some_and(|deadline| deadline > now)
        };
        if of_this.is_some_and(may) {
            return false;
        }
        // Who was told whom to follow, and was not recruited since, cannot have been ordered to be promoted.
        let follows = self.facts.told.is_some() && !self.is_recruit();
        follows || of_this.is_some() || !guarded
    }
}

impl Inner {
    /// The guard says that the server left recovery without an order, or the agent saw it itself: ends the server. Does
    /// nothing where that is under way.
    pub(super) fn end_stray(self: &Arc<Self>, how: &str) {
        let first = self.board.update(|s| !std::mem::replace(&mut s.strays, true));
        if !first {
            return;
        }
        tracing::error!(how, "this standby left recovery without an order: it is ended");
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let Some(under) = inner.board.read(|s| s.facts.promise) else { return };
            // At once, side by side: should the agent die in between, its directory tells the next one.
            let (kept, fenced) = tokio::join!(inner.remember_stray(under), inner.fence(under));
            if let Err(unable) = &kept {
                tracing::error!(?unable, "that this standby left recovery could not be written down");
            }
            if let Err(unable) = &fenced {
                tracing::error!(?unable, "this standby could not be ended; the guard will");
                inner.board.update(|s| s.strays = false);
            }
        });
    }

    async fn remember_stray(self: &Arc<Self>, under: crate::model::Stamp) -> Result<(), Unable> {
        let stray = Stray { under, at: self.clock.wall() };
        self.remember(move |p| {
            p.strayed.get_or_insert(stray);
            p.recruited = None;
        })
        .await
    }

    /// Looks at the board after a look at the server.
    pub(super) fn mind_stray(self: &Arc<Self>) {
        let pid = self.attached.borrow().as_ref().map(crate::postgres::Postmaster::pid);
        let (guarded, now) = (self.serving.guard.is_some(), self.now());
        if self.board.read(|s| s.has_strayed(pid, guarded, now)) && !self.confirms() {
            self.end_stray("seen by its agent");
        }
    }

    /// A follower's directory without `standby.signal` has left recovery while no agent looked, unless it was just
    /// copied and not made a standby's yet: a copy has a `backup_label`.
    pub(super) async fn mind_stray_directory(self: &Arc<Self>) -> Result<(), Unable> {
        let held = self.held().await;
        let follows = held.upstream.is_some()
            && held.recruited.is_none()
            && held.primary_since.is_none()
            && held.unfinished.is_none();
        let Some(under) = held.promise.filter(|_| follows && held.strayed.is_none()) else { return Ok(()) };
        let left = self.peek().await.is_some_and(|peek| !peek.in_recovery);
        if left && !self.instance.has_standby_signal().await? && !self.instance.is_a_fresh_copy().await? {
            tracing::error!("this standby has left recovery while no agent looked");
            self.remember_stray(under).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::board::Board,
        model::{Epoch, GuardFacts, Incarnation, NodeId, Seen, Stamp, Upstream, Version},
        planner::fixture,
    };

    const NOW: Mono = Mono(1_000);

    fn stamp(epoch: u64) -> Stamp {
        Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(1) }
    }

    fn upstream() -> Upstream {
        let node = NodeId::new("tokyo").expect("a name");
        Upstream { node, address: "tokyo:5432".into(), slot: "locum_seoul".into() }
    }

    /// A server out of recovery, whose agent was told to follow (or recruited), and has seen it as a standby (or not).
    fn out_of_recovery(told: bool, recruited: bool, was_standby: bool) -> Board {
        let dir = tempfile::tempdir().expect("dir");
        let node = NodeId::new("seoul").expect("a name");
        let mut file = crate::agent::promise::PromiseFile::open(dir.path(), &node).expect("a file");
        let mut next = file.held().clone();
        next.promise = Some(stamp(5));
        next.upstream = told.then(upstream);
        next.recruited = recruited.then_some(stamp(5));
        file.keep(next).expect("kept");
        let mut view = fixture::healthy();
        let board = Board::new(view.agent_mut(&fixture::tokyo()).clone(), file.held().clone());
        board.update(|s| {
            s.promised(file.held());
            s.facts.server = Seen { value: Server::Primary(fixture::primary()), at: NOW };
            s.facts.guard = None;
            s.was_standby = was_standby;
        });
        board
    }

    fn guard(deadline: Option<Mono>) -> GuardFacts {
        let state = if deadline.is_some() { GuardState::Armed } else { GuardState::Off };
        GuardFacts { state, deadline, postmaster: Some(7), ..fixture::armed() }
    }

    #[test]
    fn who_was_told_to_follow_and_is_out_of_recovery_has_strayed() {
        let board = out_of_recovery(true, false, true);
        assert!(board.read(|s| s.has_strayed(Some(7), true, NOW)));
        board.update(|s| s.ordered = true);
        assert!(!board.read(|s| s.has_strayed(Some(7), true, NOW)), "this agent ordered it");
    }

    #[test]
    fn a_promotion_that_an_earlier_agent_ordered_is_known_by_the_lease_that_its_guard_holds() {
        for board in [out_of_recovery(true, false, true), out_of_recovery(false, true, true)] {
            board.update(|s| s.facts.guard = Some(guard(Some(Mono(1_001)))));
            assert!(!board.read(|s| s.has_strayed(Some(7), true, NOW)));
            assert!(board.read(|s| s.has_strayed(Some(8), false, NOW)), "that is another server's guard");
            board.update(|s| s.facts.guard = Some(guard(Some(NOW))));
            assert!(board.read(|s| s.has_strayed(Some(7), true, NOW)), "it has run out");
        }
    }

    #[test]
    fn of_a_recruit_nothing_is_said_before_its_guard_was_heard() {
        let board = out_of_recovery(false, true, true);
        assert!(!board.read(|s| s.has_strayed(Some(7), true, NOW)));
        board.update(|s| s.facts.guard = Some(guard(None)));
        assert!(board.read(|s| s.has_strayed(Some(7), true, NOW)));
    }

    #[test]
    fn one_that_this_agent_never_saw_as_a_standby_is_closed_and_not_ended() {
        let board = out_of_recovery(true, false, false);
        assert!(!board.read(|s| s.has_strayed(Some(7), true, NOW)));
    }
}
