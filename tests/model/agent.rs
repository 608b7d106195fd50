//! The agent as an actor: it keeps its promise, and does what fits it. Its lease is in [`crate::lease`].

use crate::{
    actions::{Action, Step},
    bounds::World,
    floors_judged, floors_written,
    lease::serves,
    log::Log,
    node::{Host, Renewal},
    postgres::{start_primary, stop},
    rules::Rules,
    state::{Command, Durability, Names, Node, NodeId, Order, Proof, Role, Set, Stamp, State},
};

/// Everything that the agent of `node` can do by itself.
pub(crate) fn steps(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    restart(state, node, world, steps);
    prove_names(state, node, world, steps);
    shrink_names(state, node, world, steps);
}

/// What `order` makes of the state. None: the agent refuses it, or it changes nothing.
pub(crate) fn obey(state: &State, order: Order, world: &World) -> Option<State> {
    let mut after = *state;
    let rules = &world.rules;
    if !is_heeded(state.node(order.to), order, rules) || !is_heard(state.node(order.to)) {
        return None;
    }
    let current = order.stamp == state.intent.stamp;
    let keeps_history = state.is_trio() || world.bounds.floors;
    let me = after.node_mut(order.to);
    me.promise = me.promise.max(order.stamp);
    if current && !rules.guard_in_every_mode {
        me.heard_async = state.intent.durability == Durability::Async;
    }
    let bound = me.vouched && rules.vouch_is_honoured;
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
        // Who vouched promises at once, and vouches no more; the rest waits until the vouch has run out.
        (Command::Recruit, Role::Standby) => {
            me.recruited |= !bound;
            if me.recruited && !state.node(order.to).recruited && current {
                floors_written::recruited(&mut after, order.to, world);
            }
        }
        (Command::Promote, Role::Standby)
            if me.up && !bound && floors_judged::may_promote(state, order.to, world) =>
        {
            (me.role, me.recruited, me.open) = (Role::Primary, false, true);
            me.primary_since = order.stamp.epoch;
            me.names = Names::NONE;
            if keeps_history {
                me.history = order.stamp.epoch;
            }
            floors_written::promoted(&mut after, order.to, world);
        }
        (Command::Serve, Role::Primary) => {
            if !me.up && !floors_judged::is_whole(state, order.to, world) {
                return None;
            }
            me.primary_since = me.primary_since.max(order.stamp.epoch);
            if !me.up {
                if world.bounds.floors && current && rules.starts_with_the_names_of_the_intent {
                    me.names.configured = state.intent.sync_next;
                }
                start_primary(&mut after, order.to, world);
                floors_written::started_in_place(&mut after, order.to, world);
            }
        }
        (Command::Stop, _) => stop(&mut after, order.to),
        (Command::Follow(source), Role::Standby) => {
            let upstream = state.node(source);
            (me.recruited, me.upstream) = (false, source);
            me.host.cut_off = false;
            if upstream.up && upstream.role == Role::Primary && me.log.begins(upstream.log) {
                me.history = upstream.history;
            }
        }
        (Command::Rewind(source), role) => {
            let upstream = state.node(source);
            let needed = if role == Role::Primary { !me.up } else { !me.log.begins(upstream.log) };
            if !needed || !upstream.up || upstream.role != Role::Primary {
                return None;
            }
            become_standby(me, me.log.common(upstream.log), source, upstream.history);
        }
        (Command::Clone(source), Role::Standby) => {
            become_standby(me, Log::default(), source, state.node(source).history);
        }
        (Command::Note(promotable), Role::Primary) => me.noted = promotable,
        (Command::PauseReplay, Role::Standby) => {}
        _ => return None,
    }
    (after != *state).then_some(after)
}

/// A data directory that was made anew from `source`. What it vouched for binds it still.
fn become_standby(me: &mut Node, log: Log, source: NodeId, history: u8) {
    let host = Host { torn: false, cut_off: false, list_confirmed: true, samples: [0; 3], ..me.host };
    *me = Node {
        host,
        up: true,
        role: Role::Standby,
        log,
        names: Names::NONE,
        recruited: false,
        upstream: source,
        history,
        lease: false,
        renewal: Renewal::None,
        noted: Set::EMPTY,
        vouchers: Set::EMPTY,
        guarded: true,
        left: false,
        ..*me
    };
}

/// Its host runs, and it has read the intent in this life: before that it confirms nothing, and does nothing.
pub(crate) fn is_heard(me: &Node) -> bool {
    me.host.up && me.host.has_read
}

/// The promise: nothing below it is done.
fn is_heeded(me: &Node, order: Order, rules: &Rules) -> bool {
    if order.command == Command::Promote && !rules.promote_checks_epoch {
        return true;
    }
    let (mine, theirs) = (me.promise, order.stamp);
    if rules.version_is_checked {
        theirs >= mine
    } else {
        (theirs.life, theirs.epoch) >= (mine.life, mine.epoch)
    }
}

/// A member restarts and reads its promise file; a standby that is down is started by its agent, unasked.
fn restart(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let me = state.node(node);
    if !world.rules.promise_is_persisted {
        let mut after = *state;
        after.node_mut(node).promise = Stamp::default();
        steps.push(Step { action: Action::MemberRestarts { node }, after });
    }
    if !world.rules.vouch_survives_restart && me.vouched {
        let mut after = *state;
        after.node_mut(node).vouched = false;
        steps.push(Step { action: Action::MemberRestarts { node }, after });
    }
    if !me.up && me.role == Role::Standby && me.host.up {
        let mut after = *state;
        let cut = me.recruited && world.rules.recruit_is_persisted;
        (after.node_mut(node).up, after.node_mut(node).recruited) = (true, cut);
        steps.push(Step { action: Action::StandbyStarts { node, cut }, after });
        if world.bounds.starts_cut_off && !cut {
            after.node_mut(node).host.cut_off = true;
            steps.push(Step { action: Action::StartsCutOff { node }, after });
        }
    }
    let upstream = state.node(me.upstream);
    let lives = upstream.up && upstream.role == Role::Primary;
    let promised = me.promise.epoch > upstream.primary_since;
    let may_follow = !promised || !world.rules.follows_nobody_older_than_its_promise;
    if me.up && me.host.cut_off && me.host.has_read && lives && may_follow {
        let mut after = *state;
        after.node_mut(node).host.cut_off = false;
        steps.push(Step { action: Action::FollowsAgain { node }, after });
    }
}

/// `ProveNames`: a commit of the agent's own was seen waiting, or not waiting; then the position is taken. It is ordered
/// once whoever is named has promised this version: what a destructive order took from it before does not count then.
fn prove_names(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let (me, rules) = (state.node(node), &world.rules);
    let Names { configured, in_force, proof } = me.names;
    let seen = in_force == configured || !rules.names_are_proven_in_force;
    let promised = configured.iter().all(|member| state.node(member).promise >= state.intent.stamp);
    if serves(me, world) && proof == Proof::Set && seen && (promised || !rules.member_has_promised) {
        let mut after = *state;
        let position = me.log.len();
        after.node_mut(node).names.proof = Proof::Proven(position);
        steps.push(Step { action: Action::ProvesNames { node, names: configured, position }, after });
    }
}

/// Planted: the agent empties the names before the store knows.
fn shrink_names(state: &State, node: NodeId, world: &World, steps: &mut Vec<Step>) {
    let me = state.node(node);
    let alone = world.bounds.self_shrinks && !world.rules.shrink_is_stored_first;
    if alone && me.is_open() && !me.names.configured.is_empty() {
        let mut after = *state;
        after.node_mut(node).names.configured = Set::EMPTY;
        steps.push(Step { action: Action::ShrinksNames { node }, after });
    }
}
