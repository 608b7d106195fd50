//! What else goes on while a fault strikes: the bad day on which it comes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use locum::model::Snapshot;

use crate::{
    checker::Clients,
    lab::{Fault, Lab, Part, status::primary_of},
};

/// How long it may take until that goes on; if it does not, the fault comes all the same.
const GOES_ON: Duration = Duration::from_secs(20);

/// What else goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amid {
    /// All is well.
    Peace,
    /// A failover has begun.
    Promotion,
    /// The old primary comes home.
    Rewind,
    /// The leader has just been killed.
    NewLeader,
    /// No member of etcd answers.
    SilentStore,
}

impl Amid {
    /// All of them that a laboratory can bring about.
    pub(crate) fn all(etcd: bool, members: bool) -> Vec<Self> {
        let mut all = vec![Self::Peace, Self::Promotion, Self::Rewind];
        all.extend(members.then_some(Self::NewLeader));
        all.extend(etcd.then_some(Self::SilentStore));
        all
    }

    /// Only one server has everything then: what takes its data takes what was acknowledged.
    #[must_use]
    pub(crate) const fn leaves_one(self) -> bool {
        matches!(self, Self::Promotion | Self::Rewind)
    }

    /// As one sentence reads it, behind the fault.
    #[must_use]
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Peace => "",
            Self::Promotion => " in mid-promotion",
            Self::Rewind => " in mid-rewind",
            Self::NewLeader => " without a leader",
            Self::SilentStore => " without the store",
        }
    }

    /// Brings it about: what was broken for it, and is to be healed.
    ///
    /// # Errors
    /// It cannot be brought about here.
    pub(crate) async fn begin(self, lab: &Lab, clients: &Clients) -> Result<Vec<Fault>> {
        let primary = lab.primary().await;
        let broken = match self {
            Self::Peace => return Ok(Vec::new()),
            Self::Promotion => Fault::Kill(Part::Postmaster, primary.clone()),
            Self::Rewind => Fault::HostLost(primary.clone()),
            Self::NewLeader => {
                let leader = lab.leader().await.context("a leader")?;
                Fault::Kill(Part::Member, leader.node.as_str().to_owned())
            }
            Self::SilentStore => Fault::StoreStopped,
        };
        clients.begin(lab, &broken)?;
        let moved = |seen: &Snapshot| primary_of(seen) != Some(primary.as_str());
        match self {
            Self::Promotion => _ = lab.shows_within(GOES_ON, moved).await,
            Self::Rewind => {
                let serves = |seen: &Snapshot| primary_of(seen).is_some() && moved(seen);
                let _as_it_comes = lab.shows_within(GOES_ON, serves).await;
                clients.heal(lab, &broken)?;
                // A leader that has just begun may not show it yet.
                let comes_home = |seen: &Snapshot| {
                    let mut nodes = seen.nodes.iter();
                    nodes.any(|status| {
                        status.node.as_str() == primary && (status.job.is_some() || status.streaming)
                    })
                };
                let _as_it_comes = lab.shows_within(GOES_ON, comes_home).await;
                return Ok(Vec::new());
            }
            Self::Peace | Self::NewLeader | Self::SilentStore => {}
        }
        Ok(vec![broken])
    }
}
