//! The orders of the controllers: whatever the stored intent allows, at any time. Whether an order fits is for the agent
//! to judge.

use crate::{
    actions::{Action, Step},
    agent::{is_heard, obey},
    bounds::World,
    promotable::to_note,
    state::{Command, NodeId, Order, Role, Set, State},
};

/// Every order that the stored intent allows, prompt or late.
pub(crate) fn steps(state: &State, world: &World, steps: &mut Vec<Step>) {
    let mut give = |to, command: Command| {
        let order = Order { to, command, stamp: state.intent.stamp };
        let mut base = *state;
        base.spent.clones += u8::from(matches!(command, Command::Clone(_)));
        if let Some(after) = obey(&base, order, world) {
            steps.push(Step { action: Action::Obeys(order), after });
            if order.stamp > base.node(to).promise
                && is_heard(base.node(to))
                && base.spent.crashes < world.bounds.crashes
            {
                let mut after = base;
                after.spent.crashes += 1;
                after.node_mut(to).promise = order.stamp;
                steps.push(Step { action: Action::OnlyPromises(order), after });
            }
        }
        if base.send_late(order, world.bounds.late_orders) {
            steps.push(Step { action: Action::SendsLate(order), after: base });
        }
    };
    let intent = &state.intent;
    let Some(primary) = intent.primary else {
        for node in state.ids().filter(|node| state.node(*node).role == Role::Standby) {
            give(node, Command::Recruit);
        }
        return intent.previous.into_iter().for_each(|old| give(old, Command::Stop));
    };
    match state.node(primary).role {
        Role::Standby => give(primary, Command::Promote),
        Role::Primary => order_primary(state, primary, world, &mut give),
    }
    for other in state.others(primary) {
        order_other(state, primary, other, world, &mut give);
    }
}

fn order_primary(state: &State, primary: NodeId, world: &World, give: &mut impl FnMut(NodeId, Command)) {
    let (intent, rules) = (&state.intent, &world.rules);
    let is_moving = intent.handover.is_some();
    if is_moving {
        give(primary, Command::Stop);
    } else {
        give(primary, Command::SetNames(intent.sync_next));
        if !rules.set_is_announced_first && intent.sync == intent.sync_next {
            for node in state.others(primary).filter(|node| !intent.sync.contains(*node)) {
                give(primary, Command::SetNames(intent.sync.with(node)));
            }
        }
        if world.bounds.leases && world.bounds.promotable_changes {
            let standbys = state.others(primary).fold(Set::EMPTY, Set::with);
            for set in to_note(intent, standbys, world) {
                give(primary, Command::Note(set));
            }
        }
    }
    if !is_moving || !rules.no_serve_during_handover {
        give(primary, Command::Serve);
    }
}

/// Orders to a node that is not the declared primary.
fn order_other(
    state: &State,
    primary: NodeId,
    other: NodeId,
    world: &World,
    give: &mut impl FnMut(NodeId, Command),
) {
    let (intent, rules) = (&state.intent, &world.rules);
    if let Some(heir) = intent.handover {
        if heir == other {
            give(other, Command::Recruit);
        }
        return;
    }
    let (source, me) = (state.node(primary), state.node(other));
    let can_be_followed =
        source.up && source.role == Role::Primary && source.primary_since == intent.stamp.epoch;
    if me.role == Role::Primary {
        give(other, Command::Stop);
        if can_be_followed {
            give(other, Command::Rewind(primary));
        }
        return;
    }
    if can_be_followed {
        give(other, Command::Follow(primary));
    }
    let named = intent.sync != intent.sync_next && intent.sync_next.contains(other);
    if named || intent.sync.is_empty() && !rules.set_is_announced_first {
        give(other, Command::PauseReplay);
    }
    let member = intent.sync.contains(other) || intent.sync_next.contains(other);
    if member && rules.members_are_not_cloned {
        return;
    }
    if can_be_followed && !me.log.begins(source.log) {
        give(other, Command::Rewind(primary));
    }
    if state.spent.clones < world.bounds.clones {
        give(other, Command::Clone(primary));
    }
}
