//! The agent as an actor: it keeps its promise, and does what fits it.

use crate::{
    actions::{Action, Step},
    postgres::start_primary,
    rules::{Rules, World},
    state::{Command, Log, Names, Node, NodeId, Order, Proof, Role, Stamp, State},
};

/// Everything that the agent of `node` can do by itself.
pub(crate) fn steps(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    restart(state, node, world, steps);
    prove_names(state, node, world, steps);
}

/// What `order` makes of the state. None: the agent refuses it, or it changes nothing.
pub(crate) fn obey(state: &State, order: Order, world: &World) -> Option<State> {
    let mut after = *state;
    if !is_heeded(state.node(order.to), order, &world.rules) {
        return None;
    }
    let current = order.stamp.version == state.intent.stamp.version;
    let source = state.node(order.to.other());
    let me = after.node_mut(order.to);
    me.promise = me.promise.max(order.stamp);
    match (order.command, me.role) {
        (Command::SetNames(names), Role::Primary) if me.up => {
            me.names.configured = names;
            me.open |= me.names.in_force == names;
            if !current {
                me.names.proof = Proof::NotSet;
            } else if me.names.proof == Proof::NotSet {
                me.names.proof = Proof::Set;
            }
        }
        (Command::Recruit, Role::Standby) => me.recruited = true,
        (Command::Promote, Role::Standby) if me.up => {
            (me.role, me.recruited, me.open) = (Role::Primary, false, true);
            me.primary_since = order.stamp.epoch;
            me.names = Names::NONE;
        }
        (Command::Serve, Role::Primary) => {
            me.primary_since = me.primary_since.max(order.stamp.epoch);
            if !me.up {
                start_primary(&mut after, order.to, world);
            }
        }
        (Command::Stop, _) => (me.up, me.open, me.names.in_force) = (false, false, None),
        (Command::Follow, Role::Standby) => me.recruited = false,
        (Command::Rewind, Role::Primary) if !me.up && source.up && source.role == Role::Primary => {
            (me.log, me.names) = (me.log.common(source.log), Names::NONE);
            (me.role, me.up) = (Role::Standby, true);
        }
        (Command::Clone, Role::Standby) => {
            (me.log, me.recruited, me.up) = (Log::default(), false, true);
        }
        (Command::PauseReplay, Role::Standby) => {}
        _ => return None,
    }
    (after != *state).then_some(after)
}

/// The promise: nothing below it is done.
fn is_heeded(me: &Node, order: Order, rules: &Rules) -> bool {
    if order.command == Command::Promote && !rules.promote_checks_epoch {
        return true;
    }
    if rules.version_is_checked { order.stamp >= me.promise } else { order.stamp.epoch >= me.promise.epoch }
}

/// A member restarts and reads its promise file; a standby that is down is started by its agent, unasked.
fn restart(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    if !world.rules.promise_is_persisted {
        let mut after = *state;
        after.node_mut(node).promise = Stamp::default();
        steps.push(Step { action: Action::MemberRestarts { node }, after });
    }
    let me = state.node(node);
    if !me.up && me.role == Role::Standby {
        let mut after = *state;
        let cut = me.recruited && world.rules.recruit_is_persisted;
        (after.node_mut(node).up, after.node_mut(node).recruited) = (true, cut);
        steps.push(Step { action: Action::StandbyStarts { node, cut }, after });
    }
}

/// `ProveNames`: a commit of the agent's own was seen waiting, or not waiting; then the position is taken. It is ordered
/// once whoever joins has promised this version: what a destructive order took from it before does not count then.
fn prove_names(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let (me, rules) = (state.node(node), &world.rules);
    let Names { configured, in_force, proof } = me.names;
    let seen = in_force == configured || !rules.names_are_proven_in_force;
    let promised = configured.is_none_or(|member| state.node(member).promise >= state.intent.stamp);
    if me.serves() && proof == Proof::Set && seen && (promised || !rules.member_has_promised) {
        let mut after = *state;
        let position = me.log.len();
        after.node_mut(node).names.proof = Proof::Proven(position);
        steps.push(Step { action: Action::ProvesNames { node, names: configured, position }, after });
    }
}
