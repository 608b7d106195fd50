//! What nobody in the world knows, and the properties need: who was primary last, whatever its disk says by now, and what
//! floors are excused for.

use crate::{
    actions::{Action, Step},
    bounds::World,
    log::{Commits, LOG_SIZE},
    state::{NodeId, Role, State},
};

/// What nobody in the world knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ghost {
    /// Disks may go back: the rest is kept only then.
    pub(crate) disks: bool,
    /// Who last began to take commits in the latest epoch that anybody did.
    pub(crate) newest: NodeId,
    /// That epoch.
    pub(crate) epoch: u8,
    /// What it held since it began.
    pub(crate) held: Commits,
    /// Acknowledged commits that floors must account for: a renewal, or a round of failsafe, was made after them.
    pub(crate) due: Commits,
    /// Acknowledged commits that they need not: the host of the primary went down before its next renewal.
    pub(crate) window: Commits,
    /// The primary asked the others since its last renewal.
    pub(crate) silent: bool,
    /// The greatest position that the present leader has seen of each node, in records. Kept for a planted bug only.
    pub(crate) leader_saw: [u8; 3],
    /// Of each commit, the timeline that it was written on.
    pub(crate) timelines: [u8; LOG_SIZE + 1],
}

impl Ghost {
    /// At the beginning: A is primary of epoch 1.
    pub(crate) fn new(disks: bool) -> Self {
        Self {
            disks,
            newest: NodeId::A,
            epoch: 1,
            held: Commits::default(),
            due: Commits::default(),
            window: Commits::default(),
            silent: false,
            leader_saw: [0; 3],
            timelines: [0; LOG_SIZE + 1],
        }
    }
}

/// Keeps it up to date with a step.
pub(crate) fn follow(before: &State, step: &mut Step, world: &World) {
    if !world.bounds.floors {
        return;
    }
    let after = &mut step.after;
    if let Action::Commits { node, commit } = step.action {
        after.ghost.timelines[usize::from(commit)] = before.node(node).history;
        if node == before.ghost.newest {
            after.ghost.held.insert(commit);
        }
    }
    for node in after.ids() {
        let (was, is) = (before.node(node), after.node(node));
        let began = is.up
            && is.role == Role::Primary
            && (!was.up || was.role != Role::Primary || was.primary_since != is.primary_since);
        if began && is.primary_since >= after.ghost.epoch {
            let log = is.log;
            (after.ghost.newest, after.ghost.epoch) = (node, is.primary_since);
            after.ghost.held = Commits::default();
            log.commits().filter(|commit| *commit != 0).for_each(|commit| after.ghost.held.insert(commit));
        }
    }
    if !world.rules.floors_outlive_the_leader && step.action != Action::LeaderChanges {
        see(after, false);
    }
    count_the_write(before, step, world);
}

/// The leader sees how far everybody is who runs; a new one has seen nothing before.
fn see(state: &mut State, anew: bool) {
    for node in state.ids() {
        let (me, seen) = (*state.node(node), &mut state.ghost.leader_saw[node as usize]);
        let before = if anew { 0 } else { *seen };
        *seen = if me.up { me.log.len().max(before) } else { before };
    }
}

/// Another leader takes over, and remembers nothing of what the old one saw.
pub(crate) fn steps(state: &State, world: &World, steps: &mut Vec<Step>) {
    if world.rules.floors_outlive_the_leader || state.spent.leader_changes >= world.bounds.leader_changes {
        return;
    }
    let mut after = *state;
    see(&mut after, true);
    if after != *state {
        after.spent.leader_changes += 1;
        steps.push(Step { action: Action::LeaderChanges, after });
    }
}

/// Each write of the store raises its count, and every agent that is heard remembers it.
fn count_the_write(before: &State, step: &mut Step, world: &World) {
    let put_back = matches!(step.action, Action::PutsBack(_));
    if world.bounds.restores == 0 || put_back {
        return;
    }
    let after = &mut step.after;
    let renewal = matches!(step.action, Action::WritesFloors { .. } | Action::Renews { .. });
    let wrote = (before.intent, before.truth) != (after.intent, after.truth);
    if wrote && (renewal || world.rules.every_write_is_counted) {
        after.truth.writes += 1;
        let writes = after.truth.writes;
        for node in after.ids() {
            let me = &mut after.node_mut(node).host;
            if me.up {
                me.notes.writes = writes;
            }
        }
    }
}
