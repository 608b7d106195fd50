//! Nobody is primary: take the pen from the old one, compare positions that stand still, declare the candidate.
//!
//! SAFETY, "Taking the pen from the old primary": which way applies is decided by the intent's sync sets, never by
//! the name of the mode. Both sets filled: recruiting every member is enough, and no clock or answer of the old
//! primary is involved. Otherwise the pen is taken by the old agent's attestation that no process is left, by the fence
//! command, or by the lease that has run out; whichever comes first.

use std::time::Duration;

use super::{access, app, candidate, case::Case, cut_off, disbelief, floors, floors::Disk, rescue};
use crate::model::{
    AppTie, Cause, Command, Down, Durability, EndpointKind, Hold, Intent, Lsn, Member, Mode, NodeId,
    RouteOrder, Server, Step, WalPosition, lease,
};

pub(super) fn plan(case: &mut Case<'_>, intent: &Intent) {
    cut_endpoints(case, intent);
    if let Some(old) = &intent.previous {
        fence(case, intent, old);
    }
    recruit(case, intent);
    let standing = standing(case, intent);
    let pen = match pen(case, intent, &standing) {
        Ok(pen) => pen,
        Err(hold) => {
            case.hold(hold);
            fence_by_command(case, intent);
            return reinstate(case, intent);
        }
    };
    // Whoever is being rescued will have more than it is known to have: another one that is declared now would leave it with
    // WAL of its own.
    if let Some(node) = rescue::awaited(case, intent) {
        return case.underway(format!("{node} gets the WAL that only the old primary has"));
    }
    // After a recruit nothing acknowledged is missing, and what the old primary had is not known where it is not heard.
    if let Pen::Fenced { end } = pen
        && rescue::plan(case, intent, &standing, end.known())
    {
        return;
    }
    if !lease_is_read(case, intent) {
        // It says what the old primary and its standbys had: no position is judged without it.
        return case.hold(Hold::Pen { missing: "its lease is being read".into() });
    }
    let affordable = |(node, lsn): &(NodeId, Lsn)| candidate::affordable(case, intent, node, *lsn);
    let mut eligible: Vec<(NodeId, Lsn)> = standing
        .iter()
        .filter(|one| holds_enough(case, intent, &pen, one) && affordable(one).is_ok())
        .cloned()
        .collect();
    // Who would not serve clients is not eligible while another one is. Never at the price of a commit that was promised.
    if access::any_serves(case, eligible.iter().map(|(node, _)| node)) {
        eligible.retain(|(node, _)| access::why_no_service(case, node).is_none());
    }
    match candidate::best(case, &eligible) {
        Some((_, lsn)) if let Some(further) = awaited(case, intent, *lsn) => {
            case.underway(format!("{further} has more, and is being recruited"));
        }
        Some((node, _)) => {
            let position = floors::of_recruit(case, node);
            let doubt = floors::doubt(case, intent, node);
            case.doubt(doubt);
            case.declare(with_app_of(case, intent.declared(node.clone(), position), node));
        }
        None => {
            let (_, mut reasons) = candidate::survey(case, intent, intent.previous.as_ref());
            let refused = |one: &(NodeId, Lsn)| {
                Some((one.0.clone(), candidate::affordable(case, intent, &one.0, one.1).err()?))
            };
            reasons.extend(standing.iter().filter_map(refused));
            match pen {
                Pen::Fenced { end } => reasons.extend(lacking(case, intent, end)),
                Pen::Recruited => reasons.extend(set_back(case, intent)),
                Pen::Expired => {}
            }
            candidate::hold(case, intent, reasons);
            reinstate(case, intent);
            if let Some(next) = floors::recruited_further(case, intent) {
                case.declare(next);
            }
        }
    }
}

/// How the pen was taken.
enum Pen {
    /// No commit can be acknowledged without a recruited standby.
    Recruited,
    /// No process of the old primary is left.
    Fenced { end: End },
    /// Its right to serve has run out, or the fence command has made sure of it. What it had is not known.
    Expired,
}

/// What the old primary had at its end.
#[derive(Clone, Copy)]
enum End {
    /// It is not known yet, or there is no old primary.
    Unread,
    /// All of its WAL ends there.
    At(Lsn),
    /// Its disk lacks what led up to this position, so that the end of its WAL says nothing.
    WentBack(WalPosition),
}

impl End {
    const fn known(self) -> Option<Lsn> {
        match self {
            Self::At(lsn) => Some(lsn),
            Self::Unread | Self::WentBack(_) => None,
        }
    }
}

fn cut_endpoints(case: &mut Case<'_>, intent: &Intent) {
    let stale =
        |stamp: crate::model::Stamp, mode: Mode| !stamp.same_epoch(intent.stamp()) || mode != Mode::Cut;
    for (member, name, facts) in case.endpoints(EndpointKind::Primary) {
        if stale(facts.stamp, facts.mode) {
            case.route(intent, member, name, RouteOrder::Cut);
        }
    }
}

pub(super) fn fenced<'a>(case: &Case<'a>, intent: &Intent, node: &NodeId) -> Option<&'a Down> {
    match &case.heard(node)?.server.value {
        Server::Down(down) if down.fenced.is_some_and(|stamp| stamp.same_epoch(intent.stamp())) => Some(down),
        _ => None,
    }
}

/// True if its agent remembers a rewind or a clone that has not ended.
fn is_unfinished(case: &Case<'_>, node: &NodeId) -> bool {
    case.heard(node).is_some_and(|agent| agent.unfinished.is_some())
}

/// Orders the fence, unless it is attested already in the intent's epoch.
pub(super) fn fence(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    if case.heard(node).is_some() && fenced(case, intent, node).is_none() {
        case.order(intent, node, Command::Fence);
    }
}

fn recruit(case: &mut Case<'_>, intent: &Intent) {
    // What they have may be all that is left.
    cut_off::start(case, intent, intent.previous.as_ref());
    for node in case.others(intent.previous.as_ref()) {
        // One that is being rescued is cut already, and attests anew by itself.
        let cut =
            candidate::recruited_at(case, intent, node).is_some() || rescue::is_under_way(case, intent, node);
        if case.is_standby(node) && !cut {
            case.order(intent, node, Command::Recruit);
        }
    }
}

/// The recruited who may be promoted, with their positions.
fn standing(case: &Case<'_>, intent: &Intent) -> Vec<(NodeId, Lsn)> {
    let (possible, _) = candidate::survey(case, intent, intent.previous.as_ref());
    possible
        .into_iter()
        .filter_map(|node| Some((node.clone(), candidate::recruited_at(case, intent, &node)?)))
        .collect()
}

fn pen(case: &Case<'_>, intent: &Intent, standing: &[(NodeId, Lsn)]) -> Result<Pen, Hold> {
    let both = !intent.sync.is_empty() && !intent.sync_next.is_empty();
    let members = || intent.sync.iter().chain(&intent.sync_next);
    let is_missing = |member: &&Member| candidate::recruited_at(case, intent, &member.node).is_none();
    let missing: Vec<&str> = members().filter(is_missing).map(|member| member.node.as_str()).collect();
    if both && missing.is_empty() {
        return Ok(Pen::Recruited);
    }
    let Some(old) = &intent.previous else { return Ok(Pen::Fenced { end: End::Unread }) };
    if let Some(down) = fenced(case, intent, old) {
        let end = match floors::of_disk(case, intent, old, down) {
            Disk::WentBack(lacks) => End::WentBack(lacks),
            Disk::Whole | Disk::Unread if is_unfinished(case, old) => End::Unread,
            Disk::Whole | Disk::Unread => down.wal_end.map_or(End::Unread, End::At),
        };
        return Ok(Pen::Fenced { end });
    }
    if both {
        let missing = format!(
            "neither is {} recruited nor has the agent of {old} attested the fence",
            missing.join(", ")
        );
        return Err(Hold::Pen { missing });
    }
    if intent.durability != Durability::Async {
        let missing =
            format!("no standby is proven to hold every commit, so the agent of {old} must attest the fence");
        return Err(Hold::Pen { missing });
    }
    if is_fenced_by_command(case, intent, old) {
        return Ok(Pen::Expired);
    }
    // Whoever is to be promoted must have been recruited: from then on it vouches for nobody.
    match lease_left(case, intent, old)? {
        Some(left) if left.is_zero() && !standing.is_empty() => Ok(Pen::Expired),
        Some(left) if left.is_zero() => Err(Hold::Pen { missing: "nobody is recruited yet".into() }),
        Some(left) => Err(Hold::LeaseRuns { left }),
        None => Err(Hold::Pen { missing: "its lease is being read".into() }),
    }
}

/// True if the lease was read since the vacancy made renewals impossible, and nobody knows of a later renewal.
pub(super) fn lease_is_read(case: &Case<'_>, intent: &Intent) -> bool {
    case.view.lease.read_under.is_some_and(|stamp| stamp.same_epoch(intent.stamp()))
        && !disbelief::awaits_renewal(case, intent)
}

/// How long the old primary's lease may still run. None: it was not read since the vacancy made renewals impossible.
///
/// By this member's own clock, from when it first saw the last renewal. That the key is not there proves nothing: a
/// primary that never took a lease has no guard that would stop it.
fn lease_left(case: &Case<'_>, intent: &Intent, old: &NodeId) -> Result<Option<Duration>, Hold> {
    if !lease_is_read(case, intent) {
        return Ok(None);
    }
    match case.view.lease.last.as_ref().filter(|last| last.value.node == *old) {
        Some(last) => Ok(Some(lease::expired_from(last.at, last.value.ttl()).since(case.now))),
        None => {
            let missing =
                format!("{old} never took a lease that could run out, so its agent must attest the fence");
            Err(Hold::Pen { missing })
        }
    }
}

fn is_fenced_by_command(case: &Case<'_>, intent: &Intent, old: &NodeId) -> bool {
    case.view
        .fenced_by_command
        .as_ref()
        .is_some_and(|(node, stamp)| node == old && stamp.same_epoch(intent.stamp()))
}

/// Where one is configured, and the old primary's agent cannot be heard, the fence command makes sure of it.
fn fence_by_command(case: &mut Case<'_>, intent: &Intent) {
    let Some(old) = intent.previous.clone().filter(|_| case.policy.has_fence_command) else { return };
    if case.heard(&old).is_none() && !is_fenced_by_command(case, intent, &old) {
        case.step(Step::FenceCommand { node: old, stamp: intent.stamp() });
    }
}

/// After a recruit the candidate must hold what any member of the sets holds. After a fence in a sync mode, everything
/// the old primary had; in async the loss was judged by its live RPO before.
fn holds_enough(case: &Case<'_>, intent: &Intent, pen: &Pen, (node, lsn): &(NodeId, Lsn)) -> bool {
    let promised = !intent.sync.is_empty() && !intent.sync_next.is_empty();
    match pen {
        Pen::Recruited => {
            let mut members = intent.sync.iter().chain(&intent.sync_next);
            members.all(|member| {
                candidate::recruited_at(case, intent, &member.node).is_some_and(|other| *lsn >= other)
                    && floors::stands_for(case, intent, member, node)
            })
        }
        Pen::Expired => true,
        // A set that is not empty was promised to hold everything, whatever the mode is called by now.
        Pen::Fenced { .. } if intent.durability == Durability::Async && !promised => true,
        // What it acknowledged alone went with its disk. Whoever has all that the store tells of lacks no more than what came
        // after the last renewal.
        Pen::Fenced { end: End::WentBack(_) } => floors::has_reached_all(case, intent, node),
        Pen::Fenced { end } => end.known().is_some_and(|end| *lsn >= end),
    }
}

/// A fit node that is known to be further than this and whose recruit has not failed.
pub(super) fn awaited(case: &Case<'_>, intent: &Intent, lsn: Lsn) -> Option<NodeId> {
    let (possible, _) = candidate::survey(case, intent, intent.previous.as_ref());
    possible.into_iter().find(|node| {
        let order = Step::Order { node: node.clone(), command: Command::Recruit, stamp: intent.stamp() };
        let further = case.heard(node).is_some_and(|agent| match &agent.server.value {
            Server::Standby(standby) => standby.flushed > lsn,
            _ => false,
        });
        let recruited = candidate::recruited_at(case, intent, node).is_some();
        further && !recruited && !case.view.attempts.contains_key(&order.key())
    })
}

fn lacking(case: &Case<'_>, intent: &Intent, end: End) -> Vec<(NodeId, String)> {
    let why = |lsn: Lsn| match end {
        End::At(end) => {
            format!("it has {lsn}, the old primary had {end}, and no commit was promised to be on a standby")
        }
        End::Unread => "the end of the old primary's WAL is not determined yet".to_owned(),
        End::WentBack(lacks) => format!(
            "whether it has every commit is not known: the disk of the old primary went back in time and lacks {lacks}"
        ),
    };
    standing(case, intent).into_iter().map(|(node, lsn)| (node, why(lsn))).collect()
}

/// Recruited members of the sync sets for which nobody stands: they have less than they confirmed, and so has everybody else.
fn set_back(case: &Case<'_>, intent: &Intent) -> Vec<(NodeId, String)> {
    let members = intent.sync.iter().chain(&intent.sync_next);
    let lost = members.filter(|member| {
        !standing(case, intent).iter().any(|(node, _)| floors::stands_for(case, intent, member, node))
    });
    lost.map(|member| {
        (member.node.clone(), "it has less than it confirmed, and no candidate has that".to_owned())
    })
    .collect()
}

/// The old primary counts as a candidate that has everything until somebody is declared: when nobody else can be,
/// and it stands fenced and whole, it is declared again.
fn reinstate(case: &mut Case<'_>, intent: &Intent) {
    let Some(old) = &intent.previous else { return };
    if case.now.since(case.view.awake_since) < case.policy.detect {
        // Whoever may know that another was declared has not had the time to say so.
        return case.underway("this member has just started, and waits until it could have heard the others");
    }
    let (possible, _) = candidate::survey(case, intent, Some(old));
    let waiting = fenced(case, intent, old).is_some_and(|down| down.wal_end.is_none());
    let whole = fenced(case, intent, old)
        .is_some_and(|down| floors::of_disk(case, intent, old, down) == Disk::Whole)
        && !is_unfinished(case, old);
    let lacks = !possible.is_empty()
        && possible.iter().any(|node| candidate::recruited_at(case, intent, node).is_none());
    if !whole || waiting || lacks {
        return;
    }
    if !lease_is_read(case, intent) {
        return case.underway("the lease of the old primary is being read");
    }
    // Its end was read, and may be further than its last renewal: it is started only with all of that.
    let end = fenced(case, intent, old).and_then(|down| Some(down.wal()?.position()));
    if let Some(next) = intent.reinstated(floors::highest(case, intent).max(end)) {
        let cause = Cause {
            summary: format!("nobody else can be promoted; {old} is declared again"),
            evidence: Vec::new(),
        };
        case.declare_because(next, cause);
    }
}

/// The app server of the new primary's node becomes the active one, unless it is free to stay where it is and well there.
pub(super) fn with_app_of(case: &Case<'_>, next: Intent, node: &NodeId) -> Intent {
    let has_app = case.view.agent(node).is_some_and(|agent| agent.app.is_some());
    let stays = case.policy.app == AppTie::Free
        && next.app.as_ref().and_then(|active| app::of(case, active)).is_some_and(|app| app.healthy);
    if has_app && !stays { Intent { app: Some(node.clone()), ..next } } else { next }
}

/// Whether declaring a vacancy could lead anywhere, before anything is given up.
pub(super) fn could_be_filled(case: &Case<'_>, intent: &Intent) -> Result<(), Vec<(NodeId, String)>> {
    let (possible, reasons) = candidate::survey(case, intent, intent.primary.as_ref());
    if possible.is_empty() { Err(reasons) } else { Ok(()) }
}
