//! The orders of the controllers: whatever the stored intent allows, at any time. Whether an order fits is for the agent
//! to judge.

use crate::{
    actions::{Action, Step},
    agent::obey,
    rules::World,
    state::{Command, NodeId, Order, Role, State},
};

/// Every order that the stored intent allows, prompt or late.
pub(crate) fn steps(state: &State, world: &World, steps: &mut Vec<Step>) {
    let mut give = |to, command| {
        let order = Order { to, command, stamp: state.intent.stamp };
        let mut base = *state;
        base.spent.clones += u8::from(command == Command::Clone);
        if let Some(after) = obey(&base, order, world) {
            steps.push(Step { action: Action::Obeys(order), after });
            if order.stamp > base.node(to).promise && base.spent.crashes < world.bounds.crashes {
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
        for node in NodeId::BOTH.into_iter().filter(|node| state.node(*node).role == Role::Standby) {
            give(node, Command::Recruit);
        }
        return intent.previous.into_iter().for_each(|old| give(old, Command::Stop));
    };
    match state.node(primary).role {
        Role::Standby => give(primary, Command::Promote),
        Role::Primary => order_primary(state, primary, world, &mut give),
    }
    order_other(state, primary, world, &mut give);
}

fn order_primary(state: &State, primary: NodeId, world: &World, give: &mut impl FnMut(NodeId, Command)) {
    let intent = &state.intent;
    if intent.handover {
        give(primary, Command::Stop);
    } else {
        give(primary, Command::SetNames(intent.sync_next));
        if !world.rules.set_is_announced_first && intent.sync.is_none() {
            give(primary, Command::SetNames(Some(primary.other())));
        }
    }
    if !intent.handover || !world.rules.no_serve_during_handover {
        give(primary, Command::Serve);
    }
}

/// Orders to the node that is not the declared primary.
fn order_other(state: &State, primary: NodeId, world: &World, give: &mut impl FnMut(NodeId, Command)) {
    let (intent, rules, other) = (&state.intent, &world.rules, primary.other());
    if intent.handover {
        return give(other, Command::Recruit);
    }
    let source = state.node(primary);
    let can_be_followed =
        source.up && source.role == Role::Primary && source.primary_since == intent.stamp.epoch;
    if state.node(other).role == Role::Primary {
        give(other, Command::Stop);
        if can_be_followed {
            give(other, Command::Rewind);
        }
        return;
    }
    if can_be_followed {
        give(other, Command::Follow);
    }
    let joins = intent.sync.is_none() && (intent.sync_next == Some(other) || !rules.set_is_announced_first);
    if joins {
        give(other, Command::PauseReplay);
    }
    let member = intent.sync == Some(other) || intent.sync_next == Some(other);
    if (!member || !rules.members_are_not_cloned) && state.spent.clones < world.bounds.clones {
        give(other, Command::Clone);
    }
}
