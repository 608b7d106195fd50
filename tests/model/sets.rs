//! How the sync set changes: store, PostgreSQL, proof, store. ANY 1 of a set: `need` is 1.

use crate::{
    bounds::World,
    changes::raised,
    state::{Change, Durability, Intent, NodeId, Proof, Role, Set, State, Way},
};

/// True if nothing acknowledged is on the primary alone: both sets name somebody.
pub(crate) fn promises(intent: &Intent) -> bool {
    !intent.sync.is_empty() && !intent.sync_next.is_empty()
}

/// The changes of the set that are possible now.
pub(crate) fn change_intent(
    state: &State,
    primary: NodeId,
    world: &World,
    propose: &mut impl FnMut(Change, Intent),
) {
    let (intent, rules) = (&state.intent, &world.rules);
    let (now, next) = (intent.sync, intent.sync_next);
    let announce = |set: Set| Intent { sync_next: set, way: Way::Settled, ..raised(intent) };
    let settle = |set: Set| Intent { sync: set, sync_next: set, way: Way::Settled, ..raised(intent) };
    if now != next {
        if is_proven(state, primary, next, world) || !removes_with_proof(now, next, world) {
            propose(Change::SettleSet, settle(next));
        }
        if world.bounds.strict {
            return;
        }
        if now.is_empty() {
            propose(Change::AnnounceSet, announce(Set::EMPTY));
        } else if !next.is_empty() && world.bounds.empties_midway {
            propose(Change::SettleSet, settle(Set::EMPTY));
        }
        if !rules.removal_is_carried_through && !now.is_empty() {
            propose(Change::AnnounceSet, announce(now));
        }
        return;
    }
    let standbys = state.others(primary).filter(|node| state.node(*node).role == Role::Standby);
    let possible = standbys.fold(Set::EMPTY, Set::with).union(now);
    for target in
        possible.subsets().filter(|target| *target != now && !(world.bounds.strict && target.is_empty()))
    {
        let adds = !target.is_within(now);
        if adds && intent.durability == Durability::Async {
            continue;
        }
        match (adds, rules.set_is_announced_first, rules.removal_is_announced_first) {
            (true, true, _) | (false, _, true) => propose(Change::AnnounceSet, announce(target)),
            (true, false, _) if is_proven(state, primary, target, world) => {
                propose(Change::SettleSet, settle(target));
            }
            (true, false, _) => {}
            (false, _, false) => propose(Change::SettleSet, settle(target)),
        }
    }
}

/// True if the change needs a proof; with a planted bug, a removal that leaves somebody in the set does not.
fn removes_with_proof(now: Set, next: Set, world: &World) -> bool {
    let leaves_some = next.is_within(now) && !next.is_empty();
    world.rules.removal_is_proven || !leaves_some
}

/// The proof: the names of this very version are in force, and one of them streams and has flushed past the position
/// taken then.
fn is_proven(state: &State, primary: NodeId, set: Set, world: &World) -> bool {
    let server = state.node(primary);
    let Proof::Proven(position) = server.names.proof else { return false };
    let is_caught_up = |member: NodeId| has_caught_up(state, member, primary, position, world);
    server.names.configured == set && (set.is_empty() || set.iter().any(is_caught_up))
}

fn has_caught_up(state: &State, node: NodeId, primary: NodeId, position: u8, world: &World) -> bool {
    let (member, rules) = (state.node(node), &world.rules);
    let shares = member.upstream == primary && member.log.begins(state.node(primary).log);
    let counts = shares || !rules.member_shares_the_history;
    member.streams() && counts && (member.log.len() >= position || !rules.member_is_caught_up)
}
