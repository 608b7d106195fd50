//! Named problems that the planner derives from facts, and named reasons for not acting.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EndpointName, GuardLack, Hindrance, NodeId, WalPosition};

#[expect(missing_docs, reason = "each variant's sentence says what its fields are")]
/// A named problem. `locum status` shows them; a cause is one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// First-hand: the primary's postmaster ended without being told to.
    PrimaryCrashed { node: NodeId },
    /// First-hand: the primary's agent can neither connect anew nor commit on its own disk, for `hang` or longer.
    PrimaryHung { node: NodeId },
    /// The primary was stopped by somebody, cleanly, without Locum being asked.
    PrimaryStopped { node: NodeId },
    /// A probe of the primary fails, not yet for long enough to act.
    PrimarySuspected { node: NodeId },
    /// Nothing is heard from the primary's member.
    PrimaryUnreachable { node: NodeId },
    /// A standby is down or does not stream.
    StandbyLost { node: NodeId },
    /// A standby is connected and lacks WAL, but has flushed no more of it for `hang` or longer.
    ReplicationStalled { node: NodeId },
    /// Nothing is heard from a standby's member.
    StandbyUnreachable { node: NodeId },
    /// A person paused replay on a standby.
    ReplayPaused { node: NodeId },
    /// Two nodes take writes, or a node takes writes that the intent does not name.
    SplitBrain { node: NodeId },
    /// A standby became writable and Locum had not ordered it. It was stopped, and follows nobody yet.
    LeftRecovery { node: NodeId },
    /// A setting of a standby delays its replay, or can end its recovery without an order.
    RecoveryHindered { node: NodeId, hindrance: Hindrance },
    /// A node has another system identifier than the primary.
    ForeignData { node: NodeId },
    /// A node has something that neither streaming nor rewind nor clone could mend.
    Quarantined { node: NodeId },
    /// A person took a node out of service.
    Drained { node: NodeId },
    /// A person took this very member's node out of the cluster.
    Removed { node: NodeId },
    /// An absent standby's slot kept too much WAL and was dropped: the node is cloned when it returns.
    SlotGivenUp { node: NodeId },
    /// A logical slot of the primary is in step on no standby: a failover loses the place of whoever reads from it.
    LogicalSlotAlone { node: NodeId, slot: String },
    /// The primary answers, and its own agent's commits fail with an error, for `hang` or longer.
    CannotWrite { node: NodeId, said: String },
    /// A server answers, but does not let its own agent log in: it is not judged, and not commanded.
    LoginRefused { node: NodeId, said: String },
    /// `postgres.connect` of a node leads to another server: nothing is taken on that one's word.
    OtherServer { node: NodeId, said: String },
    /// A server runs on although its data directory was moved, removed or mounted over.
    DirectoryMoved { node: NodeId, now: String },
    /// A client's transactions are read-only by default at a node.
    ReadOnly { node: NodeId, setting: String, source: String },
    /// A client could not log in at a node's own address.
    ClientsRefused { node: NodeId, said: String },
    /// A guard could not have what it asks for: on a machine in trouble it may stop PostgreSQL late, or not at all.
    GuardLacks { node: NodeId, lacks: Vec<GuardLack> },
    /// Hardly anything is free on a node's disk: it is not promoted, and PostgreSQL may end itself.
    DiskFull { node: NodeId },
    /// A node has less WAL than it had: a snapshot of its disk was put back, or the disk lost what it had flushed.
    DiskWentBack { node: NodeId },
    /// Pages of a node were read whose checksum is wrong. A standby has its own copy of them, which may be whole.
    DataDamaged { node: NodeId },
    /// An app server refuses connections, or does not say that it is well.
    AppDown { node: NodeId },
    /// An app server does not answer its health probe in time.
    AppHung { node: NodeId },
    /// An endpoint does not report, or did not take the latest order.
    EndpointBehind { member: NodeId, endpoint: EndpointName },
    /// What an endpoint was last ordered is not done; `locum status` says why.
    EndpointUnconfirmed { member: NodeId, endpoint: EndpointName },
    /// Commits do not wait for a standby although they should.
    Exposed,
    /// The names in `synchronous_standby_names` are not the ones Locum set.
    NamesChanged { node: NodeId },
    /// The declared primary runs without the right to serve.
    NoRightToServe { node: NodeId },
    /// The declared primary serves and no guard counts beside it.
    Unguarded { node: NodeId },
    /// The member beside the primary was stopped in order.
    Unattended { node: NodeId },
    /// The store does not answer: no failover, and no change of anything, until it does.
    StoreLost,
    /// A standby's WAL receiver has held up a failover for longer than `veto_max`.
    VetoLasts { node: NodeId },
    /// The store is empty or older than what agents remember.
    StoreNotBelieved,
    /// More failovers than `max_failovers` within `flap_window`.
    Flapping,
    /// The primary crashed again after it had been started in its place as often as `max_failovers` within `flap_window`.
    CrashLoop { node: NodeId },
    /// An operator suspended automatic action.
    Paused,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrimaryCrashed { node } => write!(f, "the postmaster of primary {node} died"),
            Self::PrimaryHung { node } => write!(f, "primary {node} hangs: no new connection can commit"),
            Self::PrimaryStopped { node } => write!(f, "primary {node} was stopped cleanly, not by Locum"),
            Self::PrimarySuspected { node } => write!(f, "a probe of primary {node} fails"),
            Self::PrimaryUnreachable { node } => write!(f, "nothing is heard from primary {node}"),
            Self::StandbyLost { node } => write!(f, "standby {node} does not stream"),
            Self::ReplicationStalled { node } => {
                write!(f, "standby {node} is connected, but flushes nothing of what it lacks")
            }
            Self::StandbyUnreachable { node } => write!(f, "nothing is heard from standby {node}"),
            Self::ReplayPaused { node } => write!(f, "replay on standby {node} is paused, not by Locum"),
            Self::SplitBrain { node } => write!(f, "{node} takes writes without being the declared primary"),
            Self::LeftRecovery { node } => write!(
                f,
                "standby {node} left recovery without an order (pg_promote, `pg_ctl promote`, a trigger file or a \
                 recovery setting): it was stopped; what it wrote since is saved and listed before it follows again"
            ),
            Self::RecoveryHindered { node, hindrance } => {
                write!(f, "standby {node}: {}: {}", hindrance.named(), hindrance.consequence(true))
            }
            Self::ForeignData { node } => write!(f, "the data directory of {node} belongs to another system"),
            Self::Quarantined { node } => {
                write!(f, "{node} could be neither streamed to, rewound nor cloned")
            }
            Self::Drained { node } => write!(
                f,
                "{node} is drained: it is neither waited for nor promoted; `locum node drain {node} --undo` takes that back"
            ),
            Self::Removed { node } => {
                write!(f, "{node} was removed from the cluster; `locum node add` brings it back")
            }
            Self::SlotGivenUp { node } => {
                write!(
                    f,
                    "no WAL is kept for {node} any more, or the disk would fill: it is cloned when it returns"
                )
            }
            Self::LogicalSlotAlone { node, slot } => {
                write!(f, "logical slot {slot} is on {node} alone: a failover loses its reader's place")
            }
            Self::CannotWrite { node, said } => write!(f, "primary {node} cannot take writes: {said}"),
            Self::LoginRefused { node, said } => write!(
                f,
                "PostgreSQL of {node} runs, and refuses the login of its own agent: {said}; nothing is done with that server until \
                 `postgres.connect` is let in (pg_hba.conf, role, database, connection limits)"
            ),
            Self::OtherServer { node, said } => write!(
                f,
                "`postgres.connect` of {node} does not lead to the PostgreSQL of its data directory: {said}; correct it and restart \
                 the member"
            ),
            Self::DirectoryMoved { node, now } => write!(
                f,
                "the PostgreSQL of {node} runs on, but its data directory was {now}: as a standby it is neither waited for nor promoted \
                 until the directory is back at its path"
            ),
            Self::ReadOnly { node, setting, source } => write!(
                f,
                "clients cannot write at {node}, now or once it is promoted: {setting} is on, set by {source}; another standby is \
                 promoted sooner"
            ),
            Self::ClientsRefused { node, said } => write!(
                f,
                "a client with the role and database of `postgres.verify` cannot log in at the address of {node}: {said}; another \
                 standby is promoted sooner"
            ),
            Self::GuardLacks { node, lacks } => {
                let lacks: Vec<&str> = lacks.iter().map(|lack| lack.in_words()).collect();
                write!(
                    f,
                    "the guard of {node} could not have {}: on a machine in trouble it may stop PostgreSQL late",
                    lacks.join(", ")
                )
            }
            Self::DiskFull { node } => {
                write!(f, "the disk of {node} is full: it is not promoted until there is room")
            }
            Self::DiskWentBack { node } => write!(
                f,
                "{node} has less WAL than it is known to have had: if it does not catch up, its disk went back in time"
            ),
            Self::DataDamaged { node } => {
                write!(
                    f,
                    "{node} has read pages with a wrong checksum: look into its log, and compare with a standby"
                )
            }
            Self::AppDown { node } => write!(f, "the app server of {node} is not healthy"),
            Self::AppHung { node } => write!(f, "the app server of {node} does not answer"),
            Self::EndpointBehind { member, endpoint } => {
                write!(f, "endpoint {endpoint} of {member} has not taken the latest order")
            }
            Self::EndpointUnconfirmed { member, endpoint } => {
                write!(f, "endpoint {endpoint} of {member} could not do what it was ordered, and tries again")
            }
            Self::Exposed => f.write_str("commits are acknowledged by the primary alone"),
            Self::NamesChanged { node } => {
                write!(f, "synchronous_standby_names of {node} was changed by somebody else")
            }
            Self::NoRightToServe { node } => {
                write!(
                    f,
                    "primary {node} has no right to serve: its lease has run out and nobody vouches for it"
                )
            }
            Self::Unguarded { node } => {
                write!(
                    f,
                    "no guard counts beside primary {node}: nothing stops it if its member dies and its lease runs out"
                )
            }
            Self::Unattended { node } => write!(f, "the member beside primary {node} was stopped in order"),
            Self::StoreLost => f.write_str(
                "the store does not answer; until it does nobody can be promoted and nothing changed",
            ),
            Self::VetoLasts { node } => {
                write!(
                    f,
                    "nothing is heard from the primary, but {node} still receives its WAL; a person must look"
                )
            }
            Self::StoreNotBelieved => f.write_str("the store is older than what the agents remember"),
            Self::Flapping => f.write_str("too many failovers in a short time"),
            Self::CrashLoop { node } => {
                write!(f, "primary {node} crashes again and again: its log and its disk need a person's look")
            }
            Self::Paused => f.write_str("automatic action is paused"),
        }
    }
}

#[expect(missing_docs, reason = "each variant's sentence says what its fields are")]
/// Why the planner does not do what somebody might expect. Each is a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum Hold {
    /// Everything is as it should be.
    AllWell,
    /// This member is not the leader.
    NotLeader,
    /// Bootstrapping: not every configured member has reported, or not exactly one primary was seen.
    WaitingForMembers { missing: Vec<NodeId>, primaries: Vec<NodeId> },
    /// Automatic action is suspended.
    Paused,
    /// The store is not believed until a person accepts it.
    StoreNotBelieved,
    /// The store has not answered since this member began: what is declared is not known.
    StoreLost,
    /// A suspicion must last this much longer before it counts.
    Grace { finding: Finding, left: Duration },
    /// Too many failovers within the flap window.
    Flapping,
    /// The primary crashes again and again: it is started in its place again only after a while.
    CrashLoop { node: NodeId, left: Duration },
    /// The primary answers, but refuses the login of its own agent: that is no hang.
    LoginRefused { node: NodeId, said: String },
    /// The pen is not taken yet: what is missing.
    Pen { missing: String },
    /// The disk of the declared primary lacks what led up to that position: it is not started.
    DiskWentBack { node: NodeId, lacks: WalPosition },
    /// What the stopped primary must have had is not known, so it is not started.
    Unsure { node: NodeId, why: String },
    /// No standby may be promoted; each with the reason.
    NoCandidate { reasons: Vec<(NodeId, String)> },
    /// A step that was ordered has not shown its effect yet.
    Underway { what: String },
    /// The silence of a member is no proof: its PostgreSQL may be serving. A lease or fence is needed to go on.
    SilenceIsNoProof { node: NodeId, missing: Vec<NodeId> },
    /// A silent primary's lease is still being renewed: it reaches the store, so it is not lost.
    LeaseIsRenewed { node: NodeId },
    /// Another member hears the primary, which this one does not, and its lease has not run out: only the way from here is cut.
    OthersHearIt { node: NodeId, by: NodeId },
    /// A standby still receives new WAL of a silent primary.
    WalStillComes { node: NodeId },
    /// The old primary's lease must run out first.
    LeaseRuns { left: Duration },
    /// A switchover is refused or rolled back; each blocker.
    Blocked { blockers: Vec<String> },
    /// A switchover is to begin at that time; to the best standby, if to nobody by name.
    Scheduled { to: Option<NodeId>, at: Timestamp },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllWell => f.write_str("all is well"),
            Self::NotLeader => f.write_str("another member leads"),
            Self::WaitingForMembers { missing, primaries } => {
                let names =
                    |nodes: &[NodeId]| nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
                match (missing.is_empty(), primaries.len()) {
                    (false, _) => write!(f, "no cluster is declared yet; waiting for {}", names(missing)),
                    (true, 0) => f.write_str("no cluster is declared yet, and no node is a running primary"),
                    (true, _) => write!(
                        f,
                        "no cluster is declared yet; exactly one primary is needed, seen: {}",
                        names(primaries)
                    ),
                }
            }
            Self::Paused => f.write_str("paused by an operator; `locum resume` lifts it"),
            Self::StoreNotBelieved => {
                f.write_str(
                    "the store is older than what the agents remember; `locum store accept` believes it all the same",
                )
            }
            Self::StoreLost => f.write_str(
                "the store has not answered since this member began, so who is primary is not known and nobody is started or \
                 promoted; bring back a majority of the store's members",
            ),
            Self::Grace { finding, left } => write!(f, "{finding}; acts in {left:.1?} unless it passes"),
            Self::Flapping => f.write_str("too many failovers in a short time; a person must look"),
            Self::CrashLoop { node, left } => {
                write!(f, "primary {node} crashes again and again; it is started again in {left:.0?}, and a person must look")
            }
            Self::LoginRefused { node, said } => {
                write!(f, "primary {node} answers, and refuses its own agent's login, which is no hang: {said}")
            }
            Self::Pen { missing } => write!(f, "the old primary may still acknowledge commits: {missing}"),
            Self::DiskWentBack { node, lacks } => write!(
                f,
                "{node} is not started: its WAL does not contain {lacks}, which it or its standby is known to have had; put back \
                 the disk that it had, or follow BREAK-GLASS.md"
            ),
            Self::Unsure { node, why } => {
                write!(f, "{node} is not started: {why}; if nobody else comes back, follow BREAK-GLASS.md")
            }
            Self::NoCandidate { reasons } => {
                f.write_str("nobody can be promoted:")?;
                reasons.iter().try_for_each(|(node, why)| write!(f, " {node}: {why};"))
            }
            Self::Underway { what } => write!(f, "underway: {what}"),
            Self::SilenceIsNoProof { node, missing } if missing.is_empty() => write!(
                f,
                "nothing is heard from {node}, which acknowledged commits alone: no standby is known to have all of them. \
                 Bring {node} back; if it is lost for good, follow BREAK-GLASS.md"
            ),
            Self::SilenceIsNoProof { node, missing } => {
                let names = missing.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
                write!(
                    f,
                    "nothing is heard from {node}, and it may acknowledge commits as long as {names} is not recruited. \
                     Bring back {node} or {names}; if both are lost for good, follow BREAK-GLASS.md"
                )
            }
            Self::LeaseIsRenewed { node } => {
                write!(f, "nothing is heard from {node}, but it renews its lease: it reaches the store, and serves")
            }
            Self::OthersHearIt { node, by } => {
                write!(f, "nothing is heard from {node}, but {by} hears it: only the way from here is cut")
            }
            Self::WalStillComes { node } => {
                write!(f, "nothing is heard from the primary, but {node} still receives new WAL from it")
            }
            Self::LeaseRuns { left } => {
                write!(f, "the old primary's lease runs out in {left:.1?}; until then it may acknowledge commits")
            }
            Self::Blocked { blockers } => write!(f, "blocked: {}", blockers.join("; ")),
            Self::Scheduled { to, at } => {
                let to = to.as_ref().map_or("the best standby", NodeId::as_str);
                write!(f, "a switchover to {to} is scheduled for {at}; `locum switchover --cancel` drops it")
            }
        }
    }
}
