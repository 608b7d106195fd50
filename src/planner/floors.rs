//! Disks that went back in time: what the WAL of each node must contain before it counts for anything.
//!
//! The renewals of the primary's lease carry how far it was and what it saw each standby confirm; the intent carries what was
//! proven when a sync set was settled or a candidate declared. Whoever has less lost acknowledged commits, however
//! healthy it looks. A standby below its floor must still be recruited, because the old primary could acknowledge commits
//! by it; but it counts only if the candidate contains that floor.

use super::{candidate, case::Case, health, notes};
use crate::model::{
    AgentFacts, Down, Finding, Intent, LeaseRecord, Member, NodeId, Server, Standby, StandbyName, Wal,
    WalPosition,
};

/// Whether the disk of a stopped primary has all that it is known to have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// It has.
    Whole,
    /// It lacks what led up to this position.
    WentBack(WalPosition),
    /// The end of its WAL has not been read, or it is not known what it must have.
    Unread,
}

/// The last renewal of the primary of this term: where nobody is primary, of the term before.
fn renewal<'a>(case: &Case<'a>, intent: &Intent) -> Option<&'a LeaseRecord> {
    let last = &case.view.lease.last.as_ref()?.value;
    let of_term = match &intent.primary {
        Some(primary) => last.node == *primary && last.epoch == intent.epoch,
        None => intent.previous.as_ref() == Some(&last.node) && last.epoch < intent.epoch,
    };
    (of_term && last.incarnation == intent.incarnation).then_some(last)
}

/// What the primary saw a standby of this name confirm. None: nothing is known of it.
fn of_standby(case: &Case<'_>, intent: &Intent, name: &StandbyName) -> Option<WalPosition> {
    let renewed = renewal(case, intent).and_then(|renewal| renewal.floors.get(name));
    intent.floors.get(name).max(renewed).max(notes::of_standby(case, intent, name))
}

/// How far the primary of this term was, or of the term before where nobody is primary.
fn of_primary(case: &Case<'_>, intent: &Intent) -> Option<WalPosition> {
    let renewed = renewal(case, intent).and_then(LeaseRecord::position);
    intent.primary_floor.max(renewed).max(notes::of_primary(case, intent))
}

fn members(intent: &Intent) -> impl Iterator<Item = &Member> {
    intent.sync.iter().chain(&intent.sync_next)
}

/// Everything that the primary and the members of its sync sets are known to have had.
fn of_old_primary(case: &Case<'_>, intent: &Intent) -> impl Iterator<Item = WalPosition> {
    let of_members = members(intent).filter_map(|member| of_standby(case, intent, &member.name));
    of_primary(case, intent).into_iter().chain(of_members)
}

/// The highest of that: what a primary that is declared again must contain.
pub(super) fn highest(case: &Case<'_>, intent: &Intent) -> Option<WalPosition> {
    of_old_primary(case, intent).max()
}

/// Judges the disk of a stopped server that was the primary. One that the agent saw end is the one that it was.
pub(super) fn of_disk(case: &Case<'_>, intent: &Intent, node: &NodeId, down: &Down) -> Disk {
    if down.watched || (highest(case, intent).is_none() && further(case, intent, node, None).is_none()) {
        return Disk::Whole;
    }
    let Some(wal) = down.wal() else {
        let lost = highest(case, intent).filter(|_| down.wal_gone);
        return lost.map_or(Disk::Unread, Disk::WentBack);
    };
    let lacking = of_old_primary(case, intent).find(|floor| !wal.contains(*floor));
    match lacking.or_else(|| further(case, intent, node, Some(&wal))) {
        Some(lacks) => Disk::WentBack(lacks),
        None if notes::unsure(case, intent, node).is_some() => Disk::Unread,
        None => Disk::Whole,
    }
}

/// The position of a standby that can be heard, has all that `wal` has, and more: its primary had that, too. Without `wal`:
/// of any standby that has something.
///
/// Of a candidate that has not reported yet where it left its timeline, nobody has anything but what is on a later one: whoever
/// is further on the one where it was declared has that from the primary before.
fn further(case: &Case<'_>, intent: &Intent, node: &NodeId, wal: Option<&Wal<'_>>) -> Option<WalPosition> {
    let system = case.heard(node).and_then(|agent| agent.system);
    let declared_on = intent.primary_floor.filter(|_| !intent.settled).map(|floor| floor.timeline);
    case.others(Some(node)).into_iter().find_map(|other| {
        let agent = case.heard(other).filter(|agent| agent.system == system)?;
        let Server::Standby(standby) = &agent.server.value else { return None };
        let its = standby.wal();
        let by_it = declared_on.is_none_or(|timeline| its.position().timeline > timeline);
        let further = wal.is_none_or(|wal| !wal.contains(its.position()) && its.contains(wal.position()));
        (by_it && further).then(|| its.position())
    })
}

/// Why it is not known what a stopped primary must have. None: it is known, or its agent saw it end.
pub(super) fn unsure_of_primary(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Option<String> {
    match &case.heard(node)?.server.value {
        Server::Down(down) if !down.watched => notes::unsure(case, intent, node),
        _ => None,
    }
}

/// What the declared primary lacks of what it is known to have had. None: nothing is known to be missing.
///
/// A server that is a standby again, although it renewed the lease of this epoch as a primary, is of the time before its
/// promotion: promoting it once more would take back what it acknowledged.
pub(super) fn lost_by_primary(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Option<WalPosition> {
    match &case.heard(node)?.server.value {
        Server::Down(down) => match of_disk(case, intent, node, down) {
            Disk::WentBack(lacks) => Some(lacks),
            Disk::Whole | Disk::Unread => None,
        },
        Server::Standby(standby) => {
            let served = renewal(case, intent).and_then(LeaseRecord::position);
            let floor = intent.primary_floor.filter(|floor| !standby.wal().contains(*floor));
            served.or(floor)
        }
        Server::Primary(_) | Server::Starting | Server::Unknown => None,
    }
}

/// Why a member of the sync sets may not be promoted. Where it stands is judged only once it does not stream: what it
/// reported while it streamed is older than what the primary saw it confirm.
pub(super) fn forbids(
    case: &Case<'_>,
    intent: &Intent,
    node: &NodeId,
    agent: &AgentFacts,
    standby: &Standby,
) -> Option<String> {
    let mut its = members(intent).filter(|member| member.node == *node).peekable();
    its.peek()?;
    if its.all(|member| member.name != agent.standby_name) {
        let why = "its name is not the one that the sync set was proven with: it was cloned since, or what its agent remembers went \
                   back in time";
        return Some(why.into());
    }
    if !standby.streaming
        && let Some(why) = notes::unsure(case, intent, node)
    {
        return Some(why);
    }
    let floor = of_standby(case, intent, &agent.standby_name)?;
    (!standby.streaming && !standby.wal().contains(floor)).then(|| {
        format!(
            "it has {}, less than the {floor} that the primary saw it confirm: it still replays, or its disk went back in time",
            standby.flushed
        )
    })
}

/// Whether a recruited member of the sync sets stands for what the old primary acknowledged because of it: it has its
/// floor itself, or the candidate has.
pub(super) fn stands_for(case: &Case<'_>, intent: &Intent, member: &Member, candidate: &NodeId) -> bool {
    let Some(floor) = of_standby(case, intent, &member.name) else { return true };
    let contains = |node: &NodeId| match case.heard(node).map(|agent| &agent.server.value) {
        Some(Server::Standby(standby)) => standby.wal().contains(floor),
        _ => false,
    };
    let named = case.heard(&member.node).is_some_and(|agent| agent.standby_name == member.name);
    (named && contains(&member.node)) || contains(candidate)
}

/// Whether a standby has everything that the old primary is known to have had, where its renewals told how far it was: what is left
/// on its disk, and what another standby is heard to have, it had, too.
pub(super) fn has_reached_all(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    let told = renewal(case, intent).and_then(LeaseRecord::position).is_some();
    let left = intent.previous.as_ref().and_then(|old| match &case.heard(old)?.server.value {
        Server::Down(down) => Some(down.wal()?.position()),
        _ => None,
    });
    match case.heard(node).map(|agent| &agent.server.value) {
        Some(Server::Standby(standby)) => {
            let wal = standby.wal();
            told && notes::unsure(case, intent, node).is_none()
                && of_old_primary(case, intent).chain(left).all(|floor| wal.contains(floor))
                && further(case, intent, node, Some(&wal)).is_none()
        }
        _ => false,
    }
}

/// Positions at which members were recruited and that are beyond what is written: while nobody can be declared, the
/// next leader has to know them.
pub(super) fn recruited_further(case: &Case<'_>, intent: &Intent) -> Option<Intent> {
    let mut next = intent.clone();
    for member in members(intent) {
        let recruited = candidate::recruited_at(case, intent, &member.node).is_some();
        let Some(agent) =
            case.heard(&member.node).filter(|agent| recruited && agent.standby_name == member.name)
        else {
            continue;
        };
        let Server::Standby(standby) = &agent.server.value else { continue };
        if intent.switch.is_none_or(|switch| standby.history.contains(&switch))
            && of_standby(case, intent, &member.name) < Some(standby.applied())
        {
            next.floors.raise(&member.name, standby.applied());
            next.primary_floor = next.primary_floor.max(Some(standby.applied()));
        }
    }
    (next != *intent).then(|| next.raised())
}

/// Why it is not known whether a candidate has everything that was acknowledged.
pub(super) fn doubt(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Option<String> {
    let old = intent.previous.as_ref()?;
    let end = match case.heard(old).map(|agent| &agent.server.value) {
        Some(Server::Down(down)) => Some(of_disk(case, intent, old, down)),
        _ => None,
    };
    let Some(Server::Standby(standby)) = case.heard(node).map(|agent| &agent.server.value) else {
        return None;
    };
    if let Some(Disk::WentBack(lacks)) = end {
        return Some(format!(
            "unknown, at most what {old} acknowledged after its last renewal of the lease: its disk went back in time and lacks {lacks}"
        ));
    }
    if end == Some(Disk::Whole) && case.heard(old).is_some_and(|agent| wal_is_within(agent, standby)) {
        return None;
    }
    let missing = of_old_primary(case, intent).filter(|floor| !standby.wal().contains(*floor)).max();
    if let Some(floor) = missing {
        let bytes = floor.lsn.bytes_since(standby.flushed);
        return Some(format!(
            "unknown, at most {bytes} bytes and what {old} acknowledged after it had reached {floor}"
        ));
    }
    if notes::followed(case, intent) {
        return Some(format!(
            "unknown, at most what {old} acknowledged after it last told others how far everybody was: it served without the store"
        ));
    }
    // A set that was settled since the last renewal was proven with members that stream.
    let fresh = |member: &Member| match renewal(case, intent).map(|renewal| &renewal.floors) {
        Some(floors) if floors.get(&member.name).is_some() => floors.is_fresh(&member.name),
        _ => intent.floors.get(&member.name).is_some(),
    };
    let stale = members(intent).find(|member| !fresh(member))?;
    Some(format!(
        "unknown, at most what was acknowledged because of {} after the last renewal before {old} was last started: it has not streamed \
         since",
        stale.node
    ))
}

/// All of the WAL of a stopped server is on a standby.
fn wal_is_within(agent: &AgentFacts, standby: &Standby) -> bool {
    match &agent.server.value {
        Server::Down(down) => down.wal().is_some_and(|wal| standby.wal().contains(wal.position())),
        _ => false,
    }
}

/// What a recruit has applied: what it must have from the moment it is declared.
pub(super) fn of_recruit(case: &Case<'_>, node: &NodeId) -> Option<WalPosition> {
    match &case.heard(node)?.server.value {
        Server::Standby(standby) => Some(standby.applied()),
        _ => None,
    }
}

/// Names every disk that went back.
pub(super) fn find(case: &mut Case<'_>, intent: &Intent) {
    let old = intent.primary.clone().or_else(|| intent.previous.clone());
    if let Some(node) = old.filter(|node| lost_by_primary(case, intent, node).is_some()) {
        case.find(Finding::DiskWentBack { node });
    }
    let standbys: Vec<NodeId> = case.others(intent.primary.as_ref()).into_iter().cloned().collect();
    for node in standbys {
        let Some(agent) = case.heard(&node).filter(|agent| !health::foreign(case, intent, agent)) else {
            continue;
        };
        let Server::Standby(standby) = &agent.server.value else { continue };
        let floor = of_standby(case, intent, &agent.standby_name);
        if !standby.streaming && floor.is_some_and(|floor| !standby.wal().contains(floor)) {
            case.find(Finding::DiskWentBack { node });
        }
    }
}
