//! A primary is declared: bring it to serve, lead clients to it, and keep it that way; or find that it failed.

use std::{collections::BTreeSet, time::Duration};

use super::{
    access, app, candidate, case::Case, crash, cut_off, floors, floors::Disk, health, health::Health, notes,
    rejoin, slots, switchover, sync_set, vacancy,
};
use crate::model::{
    Cause, Command, Durability, EndpointFacts, EndpointKind, Finding, Hold, Intent, LeaseRecord, Lsn, Member,
    Mode, NodeId, NodeView, Primary, Reign, RouteOrder, Seen, Server, Step, WalSender, lease,
};

/// Another member must have heard a node that this one misses less long ago than `detect` by so much: the last word of a lost host
/// may have reached it a beat later than this one, and a beat more is for what is late on its way.
const BEATS: Duration = Duration::from_millis(200);

pub(super) fn plan(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    fence_pretenders(case, intent, node);
    if let Some(lacks) = floors::lost_by_primary(case, intent, node) {
        return crash::replace_set_back(case, intent, node, lacks);
    }
    if let Some(why) = floors::unsure_of_primary(case, intent, node)
        && vacancy::could_be_filled(case, intent).is_ok()
        && !health::flapping(case)
    {
        return crash::replace_unsure(case, intent, node, why);
    }
    let health = health::of_primary(case, intent, node);
    if is_stopping(case, intent, node, &health) {
        return match &intent.handover {
            Some(_) => switchover::plan(case, intent, node),
            None => case.underway(format!("{node} still stops for a hand-over that was taken back")),
        };
    }
    match health {
        Health::NotYet => install(case, intent, node),
        Health::StoppedByUs if intent.handover.is_some() => switchover::plan(case, intent, node),
        Health::StoppedByUs => serve_again(case, intent, node),
        Health::Good(primary) => serve(case, intent, node, primary),
        Health::Suspected { finding, left } => {
            hold_while_it_recovers(case, intent, node);
            case.hold(Hold::Grace { finding, left });
        }
        Health::Refusing { said } => {
            lead_like_others(case, intent, node);
            case.hold(Hold::LoginRefused { node: node.clone(), said });
        }
        Health::Gone { finding, evidence } => crash::replace(case, intent, node, finding, evidence),
        Health::Silent { evidence } => silent(case, intent, node, evidence),
    }
}

/// A primary whose stop for a hand-over was ordered answers nobody while it writes its last checkpoint and sends its
/// last WAL: that is no failure. The limit of the hand-over bounds it; a stop that outlasts that is helped along by the
/// agent.
fn is_stopping(case: &Case<'_>, intent: &Intent, node: &NodeId, health: &Health<'_>) -> bool {
    let silent = matches!(
        health,
        Health::Suspected { .. }
            | Health::Refusing { .. }
            | Health::Gone { finding: Finding::PrimaryHung { .. } | Finding::CannotWrite { .. }, .. }
    );
    let drained = case.view.drained.is_some_and(|stamp| stamp >= intent.stamp());
    silent && (intent.handover.is_some() && drained || case.is_told_to_stop(intent, node))
}

/// Whoever takes writes without being declared is ended, whatever it is.
fn fence_pretenders(case: &mut Case<'_>, intent: &Intent, declared: &NodeId) {
    for node in case.others(Some(declared)) {
        let Some(agent) = case.heard(node) else { continue };
        let pretends = match &agent.server.value {
            Server::Primary(_) => true,
            // A start that was ordered in this epoch ends as a standby; any other may end as a primary. A promise of this
            // epoch may be no more than its word: what nobody is starting, and does not answer, is ended too.
            // It answers, and the primary sees it stream: a standby that its own agent cannot log into.
            Server::Starting | Server::Unknown if access::is_seen_streaming(case, intent, node) => false,
            Server::Starting | Server::Unknown => {
                let older = agent.promise.is_none_or(|stamp| stamp.epoch < intent.epoch);
                let lost = health::standby_lost_for(case, node).unwrap_or_default();
                older || (agent.job.is_none() && lost >= rejoin::PATIENCE)
            }
            Server::Standby(_) | Server::Down(_) => false,
        };
        if pretends {
            vacancy::fence(case, intent, node);
        }
    }
}

/// The declared primary takes its place.
fn install(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    let Some(agent) = case.heard(node) else { return };
    if agent.unfinished.is_some() {
        return crash::replace_unfinished(case, intent, node);
    }
    match &agent.server.value {
        Server::Standby(_) => {
            let names = sync_set::names(&[], case, intent);
            let slots = slots::first(case, intent, node);
            case.order(intent, node, Command::Promote { names, slots, floor: intent.primary_floor });
        }
        Server::Primary(_) => order_serve(case, intent, node),
        Server::Down(_) if !is_known_whole(case, intent, node) => {
            until_known(case, intent, node);
        }
        Server::Down(_) => order_serve(case, intent, node),
        Server::Starting | Server::Unknown => case.underway(format!("{node} is starting")),
    }
}

/// Whether the stopped primary is known to have all of its WAL: its last renewal says what it had. One that went back was
/// replaced before this is asked.
fn is_known_whole(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    match case.heard(node).map(|agent| &agent.server.value) {
        Some(Server::Down(down)) if down.watched => true,
        Some(Server::Down(down)) => {
            vacancy::lease_is_read(case, intent) && floors::of_disk(case, intent, node, down) == Disk::Whole
        }
        _ => true,
    }
}

/// What a stopped primary waits for until it is started.
fn until_known(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    match notes::unsure(case, intent, node) {
        Some(why) => case.hold(Hold::Unsure { node: node.clone(), why }),
        None => case.underway(format!("{node} is started once its lease and the end of its WAL are read")),
    }
}

/// Everything that a healthy primary needs around it.
fn serve(case: &mut Case<'_>, intent: &Intent, node: &NodeId, primary: &Primary) {
    if intent.handover.is_some() {
        return switchover::plan(case, intent, node);
    }
    lead_clients(case, intent, node, primary);
    app::plan(case, intent);
    let verified = case.view.verified.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    if !verified && !commits_may_wait(intent, primary) {
        // What follows is not on the way to service: it waits until service is proven.
        return;
    }
    if let Some(switch) = primary.switch
        && (intent.switch != Some(switch) || !intent.settled)
    {
        return case.declare(intent.switched(switch));
    }
    if intent.durability != case.policy.durability {
        return case.declare(Intent { durability: case.policy.durability, ..intent.clone() }.raised());
    }
    admit(case, intent, node);
    rejoin::plan(case, intent, node, primary);
    sync_set::plan(case, intent, node, primary);
}

/// True if a commit may be waiting for a standby. Then the sync set is on the way to service: where that standby is
/// lost, no commit proves anything before the set has been mended, or the standby is back.
fn commits_may_wait(intent: &Intent, primary: &Primary) -> bool {
    let named = primary.names.as_ref().is_none_or(|names| !names.is_empty());
    named
        || !intent.sync.is_empty()
        || !intent.sync_next.is_empty()
        || intent.durability == Durability::SyncStrict
}

/// Points the endpoints to it and proves by a commit that they lead there.
fn lead_clients(case: &mut Case<'_>, intent: &Intent, node: &NodeId, primary: &Primary) {
    let Some(agent) = case.heard(node) else { return };
    // After a restart in place what waited for a standby must not become visible and then vanish.
    if !intent.sync.is_empty() && primary.names_proven.is_none() {
        case.underway(format!("clients wait until the sync names of {node} are proven in force"));
        return sync_set::plan(case, intent, node, primary);
    }
    if let Some(position) = unconfirmed(case, intent, primary) {
        case.underway(format!(
            "clients wait until a member of the sync set has flushed up to {position}: what {node} has beyond its standbys, a \
             failover would take back"
        ));
        return sync_set::plan(case, intent, node, primary);
    }
    let pointed = point(case, intent, node, &agent.address);
    let verified = case.view.verified.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    if pointed && !verified {
        case.step(Step::Verify { stamp: intent.stamp() });
    }
}

/// Clients are served as before, by a primary that its own agent cannot see: an endpoint that was restarted follows those that
/// lead there.
fn lead_like_others(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    let Some(agent) = case.heard(node).filter(|_| is_open(case, intent)) else { return };
    point(case, intent, node, &agent.address);
}

/// Points every endpoint that does not lead there. True: all do.
fn point(case: &mut Case<'_>, intent: &Intent, node: &NodeId, address: &str) -> bool {
    let mut pointed = true;
    for (member, name, facts) in case.endpoints(EndpointKind::Primary) {
        let there = facts.target.as_ref() == Some(node) && facts.mode == Mode::Open;
        if !(there && facts.stamp.same_epoch(intent.stamp())) {
            pointed = false;
            let order = RouteOrder::Point { node: node.clone(), address: address.to_owned() };
            case.route(intent, member, name, order);
        }
    }
    pointed
}

/// The position that no member of the sync set has flushed yet, where clients have not been let in since the start: it is the one
/// at which the names were proven, at or behind the end of recovery. None: clients may come in.
///
/// One member is enough. Whatever members the set has, a failover by the set recruits every one of them and promotes none that
/// has less than another; without one of them the old agent must confirm the end of its WAL, and the candidate must reach that.
/// And a set takes another's place only when one of the new members has flushed past its own proof, which lies behind this one.
fn unconfirmed(case: &mut Case<'_>, intent: &Intent, primary: &Primary) -> Option<Lsn> {
    let proof = primary.names_proven.filter(|_| !intent.sync.is_empty())?;
    let has_it = |member: &Member| {
        let of = |sender: &&WalSender| sender.name == member.name && sender.streaming;
        primary.senders.iter().filter(of).any(|sender| sender.flushed >= proof.1)
    };
    // A leader that has just begun to lead takes nothing back that is open.
    if intent.sync.iter().any(has_it) || is_open(case, intent) {
        case.memory().confirmed = Some(proof);
    }
    (case.memory().confirmed != Some(proof)).then_some(proof.1)
}

/// True if clients are let in already: by an endpoint, or straight where there is none.
fn is_open(case: &Case<'_>, intent: &Intent) -> bool {
    let open = |facts: &EndpointFacts| {
        facts.mode == Mode::Open && facts.target == intent.primary && facts.stamp.same_epoch(intent.stamp())
    };
    let endpoints = case.endpoints(EndpointKind::Primary);
    let verified = case.view.verified.is_some_and(|stamp| stamp.same_epoch(intent.stamp()));
    endpoints.iter().any(|(_, _, facts)| open(facts)) || endpoints.is_empty() && verified
}

/// Starts the primary again in its place. With a sync set, clients come in only after its names were proven in force
/// anew: until then a commit could be acknowledged by this server alone. So the endpoints hold them.
pub(super) fn serve_again(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    if !is_known_whole(case, intent, node) {
        return until_known(case, intent, node);
    }
    hold_clients(case, intent);
    order_serve(case, intent, node);
}

/// What it must have goes along: the order may be carried out long after the server was looked at, and its disk go back between.
fn order_serve(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    let floor = floors::highest(case, intent);
    case.order(intent, node, Command::Serve { floor });
}

/// PostgreSQL restarts behind its living postmaster, after a killed backend: it opens by itself when it has recovered, so clients
/// are held now and let in like after a start in place.
fn hold_while_it_recovers(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    // An agent that has just begun to watch does not know yet either, and its server may be well.
    if case.heard(node).is_some_and(|agent| agent.access.recovering) {
        hold_clients(case, intent);
    }
}

/// With a sync set: nobody new is let in at the endpoints.
fn hold_clients(case: &mut Case<'_>, intent: &Intent) {
    if intent.sync.is_empty() {
        return;
    }
    for (member, name, facts) in case.endpoints(EndpointKind::Primary) {
        if facts.mode == Mode::Open {
            case.route(intent, member, name, RouteOrder::Hold);
        }
    }
}

/// Nothing is heard from the primary's member. Inferred evidence: it needs corroboration. A lease that is being renewed
/// shows that it is only this member that does not hear it, another member that hears it shows the same for as long as the
/// lease lasts (a renewal may be late: a cut between hosts cuts the store's own ways, too), and a standby that still receives
/// new WAL vetoes.
///
/// With a sync set, recruiting its members makes a silent primary harmless. In async its lease must run out, which the
/// vacancy waits for. In a sync mode without a set nothing short of its own agent's word would do.
fn silent(case: &mut Case<'_>, intent: &Intent, node: &NodeId, mut evidence: Vec<String>) {
    if lease_is_renewed(case, intent, node) {
        return case.hold(Hold::LeaseIsRenewed { node: node.clone() });
    }
    if let Some(by) = heard_by(case, node).filter(|_| lease_lasts(case, intent, node)) {
        return case.hold(Hold::OthersHearIt { node: node.clone(), by });
    }
    if let Some(standby) = health::still_receives(case, node) {
        let silent = case.stood(&Finding::PrimaryUnreachable { node: node.clone() }).unwrap_or_default();
        if silent > case.policy.veto_max {
            case.find(Finding::VetoLasts { node: standby.clone() });
        }
        return case.hold(Hold::WalStillComes { node: standby });
    }
    let promised = !intent.sync.is_empty() && !intent.sync_next.is_empty();
    let members = || intent.sync.iter().chain(&intent.sync_next).map(|member| &member.node);
    let missing: BTreeSet<NodeId> = members().filter(|node| !case.is_standby(node)).cloned().collect();
    let recruits = promised && missing.is_empty();
    let decides = recruits || intent.durability == Durability::Async;
    if (promised || decides) && cut_off::start(case, intent, Some(node)) {
        return case
            .underway("stopped standbys are started without an upstream, to see how far they have come");
    }
    if !decides {
        let missing = missing.into_iter().collect();
        return case.hold(Hold::SilenceIsNoProof { node: node.clone(), missing });
    }
    if health::flapping(case) {
        case.find(Finding::Flapping);
        return case.hold(Hold::Flapping);
    }
    if let Err(reasons) = vacancy::could_be_filled(case, intent) {
        return candidate::hold(case, intent, reasons);
    }
    evidence.push("no standby receives new WAL from it, and its lease is not renewed".to_owned());
    let summary = Finding::PrimaryUnreachable { node: node.clone() }.to_string();
    case.suspect(case.view.nodes.get(node).map(|view| view.heard));
    case.declare_because(intent.vacated(candidate::reached(case)), Cause { summary, evidence });
}

/// True if the primary's lease was renewed within `detect`: its member is alive and reaches the store.
fn lease_is_renewed(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    its_lease(case, intent, node).is_some_and(|seen| case.now.since(seen.at) <= case.policy.detect)
}

/// True if the primary's lease has not run out for certain.
fn lease_lasts(case: &Case<'_>, intent: &Intent, node: &NodeId) -> bool {
    its_lease(case, intent, node)
        .is_some_and(|seen| lease::expired_from(seen.at, seen.value.ttl()) > case.now)
}

fn its_lease<'a>(case: &Case<'a>, intent: &Intent, node: &NodeId) -> Option<&'a Seen<LeaseRecord>> {
    let of_this_reign = |record: &LeaseRecord| record.node == *node && Reign::of(intent).is_of_lease(record);
    case.view.lease.last.as_ref().filter(|seen| of_this_reign(&seen.value))
}

/// A member that has heard a node too lately for it to be lost.
fn heard_by(case: &Case<'_>, node: &NodeId) -> Option<NodeId> {
    let limit = case.policy.detect.saturating_sub(BEATS);
    let hears = |member: &NodeView| member.hears.get(node).is_some_and(|at| case.now.since(*at) <= limit);
    case.view.nodes.iter().find(|(_, member)| hears(member)).map(|(member, _)| member.clone())
}

/// Keeps the list of who may be promoted: the primary's agent notes a node first, then the store lists it.
fn admit(case: &mut Case<'_>, intent: &Intent, node: &NodeId) {
    let Some(agent) = case.heard(node) else { return };
    let system = agent.system;
    let fit = |other: &NodeId| {
        let known = case.view.agent(other);
        let in_service = !intent.drained.contains(other);
        known.is_some_and(|known| {
            in_service && !known.no_failover && known.system == system && known.promise.is_some()
        })
    };
    let stays = |other: &&NodeId| *other != node && !intent.drained.contains(*other);
    let mut wanted: Vec<NodeId> = intent.promotable.iter().filter(stays).cloned().collect();
    wanted.extend(case.others(Some(node)).into_iter().filter(|other| fit(other)).cloned());
    wanted.sort();
    wanted.dedup();
    let noted = agent.admitted.as_ref();
    if !noted.is_some_and(|noted| wanted.iter().all(|other| noted.contains(other))) {
        return case.order(intent, node, Command::Admit(wanted));
    }
    if intent.promotable != wanted {
        case.declare(Intent { promotable: wanted, ..intent.clone() }.raised());
    }
}
