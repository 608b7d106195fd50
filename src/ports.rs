//! The edges of the world: every trait here has a real adapter and a fake for tests.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Command, EndpointFacts, EndpointName, Incident, LeaseRecord, LossList, Lsn, MemberFacts, Mono,
        NodeId, Note, Reign, Reply, RequestKind, RouteOrder, ServerIdentity, Snapshot, Stamp, SystemId,
        Timeline,
    },
    sidecars::Sidecars,
};

/// The only place time comes from.
pub trait Clock: Send + Sync {
    /// `CLOCK_BOOTTIME`.
    fn now(&self) -> Mono;
    /// Wall-clock time, for people only.
    fn wall(&self) -> Timestamp;
}

/// A store's revision: grows with every committed write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub i64);

/// A lease: keys put under it vanish when it runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// The revision that created the key; a key deleted and put again is created anew.
    pub created: Revision,
    /// The revision that last changed it.
    pub modified: Revision,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Absent(String),
    /// The key exists and was created by this revision.
    Created(String, Revision),
    /// The key exists and was last changed by this revision.
    Modified(String, Revision),
    /// The key exists and its value is this. Revisions come again in a store that was put back from a copy; a value that names
    /// its own life does not.
    Holds(String, String),
}

/// A write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Create or replace.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The lease it vanishes with.
        lease: Option<LeaseId>,
    },
    /// Delete, if it exists.
    Delete(String),
}

/// What a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every guard held, and every write was made, with this revision. It is durable.
    Committed(Revision),
    /// A guard did not hold; nothing was written.
    GuardFailed,
}

/// Why the store did not answer, by what the caller does.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A passing disturbance: try again soon.
    #[error("store is busy: {0}")]
    Busy(String),
    /// It cannot be reached. The outcome of a write is unknown.
    #[error("store cannot be reached: {0}")]
    Outage(String),
    /// It answered and will not: permission, corruption, a lease that is gone. Trying again will not help.
    #[error("store refuses: {0}")]
    Refused(String),
}

/// A small ordered key-value store with guarded transactions and leases, as etcd has them.
///
/// Contract (`store::contract` runs it against every back end): reads are linearizable; a transaction is atomic and
/// durable when it returns; revisions grow; a key under a lease vanishes when the lease runs out, never before.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads one key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;
    /// Reads every key that begins with `prefix`, in order of key.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError>;
    /// Writes all, if every guard holds.
    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Outcome, StoreError>;
    /// A new lease that runs out `ttl` after its last renewal.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;
    /// Renews a lease. False: it has run out or was revoked.
    async fn renew(&self, lease: LeaseId) -> Result<bool, StoreError>;
    /// Ends a lease and deletes its keys.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
    /// Waits until a key that begins with `prefix` has changed beyond `since`, and returns the store's revision, which is
    /// beyond `since`. May coalesce; may also return for a change elsewhere, so that whoever waits looks again.
    async fn changed(&self, prefix: &str, since: Revision) -> Result<Revision, StoreError>;
    /// Moves what leads the store itself off `host` (a name or an address), where the store has such a thing and it is
    /// there: the loss of that host would cost its election, too. True if it was moved.
    async fn keep_leader_off(&self, _host: &str) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// The primary lease, as the agent of a primary renews it.
#[async_trait]
pub trait Lease: Send + Sync {
    /// Who reigns, and the revision that renewals are guarded by.
    async fn reign(&self) -> Result<Option<(Reign, Revision)>, StoreError>;
    /// The last renewal.
    async fn last(&self) -> Result<Option<(LeaseRecord, Revision)>, StoreError>;
    /// Renews, if the reign that was read with revision `reign` stands and nobody has renewed since `last`.
    async fn renew(
        &self,
        reign: Revision,
        last: Option<Revision>,
        record: &LeaseRecord,
    ) -> Result<Outcome, StoreError>;
}

/// The other members, as far as they are known.
pub trait Peers: Send + Sync {
    /// One of them. None: nobody has told yet where it is reached.
    fn member(&self, node: &NodeId) -> Option<Arc<dyn Member>>;
    /// All of them.
    fn all(&self) -> Vec<NodeId> {
        Vec::new()
    }
}

/// A client session of a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The client's TCP port, as PostgreSQL sees it: an endpoint's local port. None: over a Unix socket, where no endpoint
    /// leads.
    pub client_port: Option<u16>,
    /// It is between transactions.
    pub idle: bool,
    /// A proxy beside an app may lead it, and could let it begin another one.
    #[serde(default)]
    pub loose: bool,
}

/// The sessions at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsLook {
    /// When, on the clock of the member that looked.
    pub at: Mono,
    /// All of them.
    pub sessions: Vec<Session>,
}

impl Session {
    /// The ports on which nobody is inside a transaction: two hosts may have chosen the same one.
    #[must_use]
    pub fn idle_ports(sessions: &[Self]) -> BTreeSet<u16> {
        let ports = |idle: bool| {
            let those = sessions.iter().filter(move |session| session.idle == idle);
            those.filter_map(|session| session.client_port)
        };
        let busy: BTreeSet<u16> = ports(false).collect();
        ports(true).filter(|port| !busy.contains(port)).collect()
    }
}

/// Which WAL a fenced node is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalAsk {
    /// Under which it must be fenced: this stamp's epoch, or a later one.
    pub stamp: Stamp,
    /// Whose data it must be.
    pub system: SystemId,
    /// The timeline that the asker has.
    pub timeline: Timeline,
    /// Bytes of a segment.
    pub segment: u64,
    /// The beginning of a page.
    pub from: Lsn,
}

/// What a member answers to an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub reply: Reply,
    /// What the member knows right after.
    pub facts: MemberFacts,
}

/// A member could not be asked, or did not answer in time. The outcome of an order is unknown.
#[derive(Debug, thiserror::Error)]
#[error("member does not answer: {0}")]
pub struct NoAnswer(pub String);

/// One member's agent and endpoints, here or on another host.
#[async_trait]
pub trait Member: Send + Sync {
    /// Orders the agent.
    async fn order(&self, stamp: Stamp, command: Command) -> Result<Answer, NoAnswer>;
    /// Orders an endpoint.
    async fn route(
        &self,
        endpoint: &EndpointName,
        stamp: Stamp,
        order: RouteOrder,
    ) -> Result<Answer, NoAnswer>;
    /// Asks for its word that it knows of no higher epoch than the stamp's and takes part in none for `ttl`; zero: only whether
    /// it knows of one.
    async fn vouch(&self, stamp: Stamp, ttl: Duration) -> Result<bool, NoAnswer>;
    /// Tells it how far everybody is, as a primary that the store has left alone: it remembers that.
    async fn note(&self, note: Note) -> Result<(), NoAnswer>;
    /// The client sessions of its primary. None: its PostgreSQL does not tell them.
    async fn sessions(&self) -> Result<Option<Vec<Session>>, NoAnswer>;
    /// Pages of WAL of its fenced server, from a position on and within one segment; empty: there is none.
    async fn wal(&self, _ask: WalAsk) -> Result<Vec<u8>, NoAnswer> {
        Err(NoAnswer("it hands out no WAL".into()))
    }
    /// Lets an endpoint forward nothing more from these clients, named by the endpoint's local ports toward the
    /// server, and everything from all others. Ends with the next [`RouteOrder`].
    async fn park(&self, endpoint: &EndpointName, stamp: Stamp, ports: BTreeSet<u16>)
    -> Result<(), NoAnswer>;
}

/// One endpoint: what leads clients to a node, whatever does it.
///
/// It remembers the stamp of the last order it took and refuses lower ones. It takes an order at once; what that needs may
/// take longer, and is in the facts then. So nobody waits for an endpoint whose world does not answer.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// Takes an order.
    fn order(&self, stamp: Stamp, order: RouteOrder) -> Reply;
    /// In a switchover: lets the clients on these ports begin nothing more (a pooler: all of its clients). Ends with the next
    /// order.
    async fn park(&self, stamp: Stamp, ports: BTreeSet<u16>) -> Reply;
    /// What it knows now.
    fn facts(&self) -> EndpointFacts;
    /// Changes whenever `facts` would differ in anything worth acting on.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
    /// The member ends: nothing may be left that only it could undo.
    async fn close(&self);
}

/// The member of this process: what its peer port and its own controller talk to.
pub trait Local: Member {
    /// What it knows now.
    fn facts(&self) -> MemberFacts;
    /// Changes whenever `facts` would differ in anything worth acting on; not for mere positions.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// This member does not lead; the named one does, if anybody.
    #[error("this member does not lead; the leader is {}", .0.as_ref().map_or("not known", |n| n.as_str()))]
    NotLeader(Option<NodeId>),
    /// Too many requests are waiting, or another one of the kind is under way.
    #[error("{0}")]
    Busy(String),
}

/// What the API and the CLI see of the controller.
#[async_trait]
pub trait Console: Send + Sync {
    /// The cluster now.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Changes with every new snapshot.
    fn snapshots(&self) -> tokio::sync::watch::Receiver<Arc<Snapshot>>;
    /// Hands a request to the leader. Returns the operation's identifier at once.
    fn submit(&self, kind: RequestKind) -> Result<String, SubmitError>;
    /// What stands in the way of a request right now; empty: nothing. Changes nothing.
    fn blockers(&self, kind: &RequestKind) -> Vec<String>;
    /// The last incidents, oldest first.
    async fn incidents(&self, last: usize) -> Result<Vec<Incident>, StoreError>;
    /// The list of lost transactions in one of this node's own salvage folders, with the first ones of them. None: there
    /// is no such folder here.
    async fn lost(&self, _folder: &str) -> Result<Option<LossList>, String> {
        Ok(None)
    }
    /// The client sessions of this node's server, while it is handing over and clients are held: for endpoints that no member
    /// runs. None: it is not.
    async fn sessions(&self) -> Option<SessionsLook> {
        None
    }
    /// The proxies that no member runs and that follow this one. None: they are not counted here.
    fn sidecars(&self) -> Option<Arc<Sidecars>> {
        None
    }
}

/// Commits through endpoints, as clients would make them.
#[async_trait]
pub trait Client: Send + Sync {
    /// Connects to each address (`host:port`) and commits, with the defaults that a client gets. `server`: which one has to
    /// answer; None: it is not known. Bounded by a deadline of its own.
    ///
    /// # Errors
    /// A sentence: what clients would meet, with the SQLSTATE where the server answered.
    async fn commit(&self, addresses: &[String], server: Option<&ServerIdentity>) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::Session;

    #[test]
    fn a_port_that_two_hosts_have_chosen_is_idle_when_both_are() {
        let session =
            |client_port: u16, idle: bool| Session { client_port: Some(client_port), idle, loose: false };
        let sessions =
            [session(4, true), session(5, true), session(5, false), session(6, false), session(4, true)];
        assert_eq!(Session::idle_ports(&sessions).into_iter().collect::<Vec<_>>(), [4]);
    }
}
