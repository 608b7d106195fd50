//! Who may be promoted: the primary's agent has noted them before they are, for as long as they are.

use crate::{
    bounds::World,
    changes::raised,
    state::{Change, Intent, NodeId, Role, Set, State},
};

/// The changes that are possible now.
pub(crate) fn change_intent(
    state: &State,
    primary: NodeId,
    world: &World,
    propose: &mut impl FnMut(Change, Intent),
) {
    let (intent, rules, server) = (&state.intent, &world.rules, state.node(primary));
    let (now, next) = (intent.promotable, intent.promotable_next);
    let announce = |set: Set| Intent { promotable_next: set, ..raised(intent) };
    let settle = |set: Set| Intent { promotable: set, promotable_next: set, ..raised(intent) };
    let has_noted = |set: Set| !rules.promotable_is_noted_first || set.is_within(server.noted);
    if now != next {
        let heard = server.promise >= intent.stamp || !rules.promotable_is_noted_first;
        if has_noted(next) && heard {
            propose(Change::SettlePromotable, settle(next));
        }
        return propose(Change::AnnouncePromotable, announce(now));
    }
    for node in state.others(primary) {
        if now.contains(node) {
            propose(Change::SettlePromotable, settle(now.without(node)));
        } else if state.node(node).role == Role::Standby {
            let more = now.with(node);
            if rules.promotable_is_announced_first {
                propose(Change::AnnouncePromotable, announce(more));
            } else if has_noted(more) {
                propose(Change::SettlePromotable, settle(more));
            }
        }
    }
}

/// What the primary's agent may be told to note under the stored intent.
pub(crate) fn to_note(intent: &Intent, standbys: Set, world: &World) -> Vec<Set> {
    let stored = intent.promotable.union(intent.promotable_next);
    let mut sets = vec![stored];
    if !world.rules.promotable_is_announced_first {
        sets.extend(standbys.iter().filter(|node| !stored.contains(*node)).map(|node| stored.with(node)));
    }
    if !world.rules.promotable_is_stored_before_forgotten {
        sets.extend(stored.iter().map(|node| stored.without(node)));
    }
    sets
}
