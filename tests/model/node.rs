//! One node: its PostgreSQL, its agent and its guard, as values.

use crate::{
    floor::Notes,
    log::Log,
    set::{NodeId, Set},
    state::Stamp,
};

/// What a data directory is, whether or not a server runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// It recovers from another.
    Standby,
    /// It takes writes, or did until it stopped.
    Primary,
}

/// How far the names of the intent's present version have come on a primary. Every write of the intent begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proof {
    /// They were not set under this version.
    NotSet,
    /// They were set under this version.
    Set,
    /// They were proven under this version, and then the primary's flush position was this.
    Proven(u8),
}

/// A primary's `synchronous_standby_names`: ANY 1 of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Names {
    /// As the file and SHOW tell.
    pub(crate) configured: Set,
    /// As commits wait for: the checkpointer may take the new ones later.
    pub(crate) in_force: Set,
    /// What the agent knows about them.
    pub(crate) proof: Proof,
}

impl Names {
    /// No names, and nothing proven.
    pub(crate) const NONE: Self = Self { configured: Set::EMPTY, in_force: Set::EMPTY, proof: Proof::NotSet };
}

/// A renewal of the lease that the store took, and whose answer is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Renewal {
    /// There is none.
    None,
    /// It was asked for less than a lease ago.
    Young,
    /// It was asked for longer ago than that: whoever waits for it to run out has done so.
    Old,
}

/// One node: its PostgreSQL, its agent and its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    /// A server runs.
    pub(crate) up: bool,
    /// What its data directory is.
    pub(crate) role: Role,
    /// Clients are let in.
    pub(crate) open: bool,
    /// Its WAL, all of it on disk.
    pub(crate) log: Log,
    /// The highest stamp its agent promised to refuse anything below.
    pub(crate) promise: Stamp,
    /// The epoch under which it last became primary; 0: never.
    pub(crate) primary_since: u8,
    /// As a standby: cut from its upstream, on disk, until it is told to follow.
    pub(crate) recruited: bool,
    /// As a standby: whom it streams from.
    pub(crate) upstream: NodeId,
    /// The epoch whose promotion began the newest timeline in its history. Kept only in a trio: in a pair nobody is left
    /// with another history than the one primary's.
    pub(crate) history: u8,
    /// As a primary.
    pub(crate) names: Names,
    /// As a primary: its lease runs, by its own clock.
    pub(crate) lease: bool,
    /// As a primary: an answer of the store that is slow.
    pub(crate) renewal: Renewal,
    /// As a primary, on disk: who may be promoted. With nobody in it, no right to serve is needed.
    pub(crate) noted: Set,
    /// As a primary: who vouched in answer to its present question.
    pub(crate) vouchers: Set,
    /// It vouched, and that still binds it.
    pub(crate) vouched: bool,
    /// Its guard stops a primary without the right to serve. Not so while its member is stopped in order.
    pub(crate) guarded: bool,
    /// Its agent has written that it leaves, and has not tried to return since.
    pub(crate) left: bool,
    /// Its agent last heard that the durability is async. Kept only where that decides anything.
    pub(crate) heard_async: bool,
    /// What only worlds with disks that go back know of it.
    pub(crate) host: Host,
}

/// The host of a node, and what its agent knows in this life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host {
    /// It runs: its agent is heard.
    pub(crate) up: bool,
    /// Its agent has read the intent since the host started.
    pub(crate) has_read: bool,
    /// As a standby: started cut off from its upstream, until something shows that it lives.
    pub(crate) cut_off: bool,
    /// The WAL on its disk ends with half of a record.
    pub(crate) torn: bool,
    /// The greatest position that its floor in the store ever had. Only milestones look at it, where no disk goes back.
    pub(crate) floor_was: u8,
    /// As a primary: since its host started, its agent has renewed its lease, and so knows who may be promoted.
    pub(crate) list_confirmed: bool,
    /// As a primary, in the memory of its agent: the greatest position it saw each standby flush, plus one; 0: none.
    pub(crate) samples: [u8; 3],
    /// On disk, beside the promise: what its agent noted of the others.
    pub(crate) notes: Notes,
}

impl Host {
    /// One that has run for long, with nothing noted.
    pub(crate) const RUNNING: Self = Self {
        up: true,
        has_read: true,
        cut_off: false,
        torn: false,
        floor_was: 0,
        list_confirmed: true,
        samples: [0; 3],
        notes: Notes::NONE,
    };
}

impl Node {
    /// A standby of `upstream` that has promised `promise`.
    pub(crate) fn standby(promise: Stamp, upstream: NodeId) -> Self {
        Self {
            up: true,
            role: Role::Standby,
            open: false,
            log: Log::default(),
            promise,
            primary_since: 0,
            recruited: false,
            upstream,
            history: 0,
            names: Names::NONE,
            lease: false,
            renewal: Renewal::None,
            noted: Set::EMPTY,
            vouchers: Set::EMPTY,
            vouched: false,
            guarded: true,
            left: false,
            heard_async: false,
            host: Host::RUNNING,
        }
    }

    /// It would take commits of clients, if it has the right to serve.
    pub(crate) fn is_open(&self) -> bool {
        self.up && self.open && self.role == Role::Primary
    }

    /// A standby that streams, or would if its upstream ran.
    pub(crate) fn streams(&self) -> bool {
        self.up && self.role == Role::Standby && !self.recruited && !self.host.cut_off
    }

    /// The lease runs, or everybody who could be promoted has vouched, or nobody could be.
    pub(crate) fn has_right_to_serve(&self) -> bool {
        self.lease || (self.host.list_confirmed && self.noted.is_within(self.vouchers))
    }

    /// Its server is gone, and its agent will not start it below this stamp.
    pub(crate) fn is_fenced(&self, stamp: Stamp) -> bool {
        !self.up && self.promise >= stamp
    }
}
