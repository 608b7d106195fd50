//! The store as an actor: somebody copies it, puts an older copy back, and a person accepts what is there then.

use crate::{
    actions::{Action, Step},
    bounds::World,
    controller::write_intent,
    state::{Change, Intent, NodeId, Proof, Proposal, Set, Stamp, State, Way},
};

/// Everything that can happen to the store.
pub(crate) fn steps(state: &State, world: &World, steps: &mut Vec<Step>) {
    if state.spent.restores < world.bounds.restores {
        match state.copy {
            None => {
                let mut after = *state;
                after.copy = Some((state.intent, state.truth));
                steps.push(Step { action: Action::CopiesStore, after });
            }
            Some((copy, truth)) if (copy, truth) != (state.intent, state.truth) => {
                let mut after = *state;
                (after.copy, after.intent, after.truth) = (None, copy, truth);
                after.outdated = !world.bounds.floors;
                after.spent.restores += 1;
                for node in after.ids() {
                    after.node_mut(node).names.proof = Proof::NotSet;
                }
                steps.push(Step { action: Action::PutsBack(copy.stamp), after });
            }
            Some(_) => {}
        }
    }
    if state.outdated {
        accept(state, world, steps);
    }
}

/// Nothing is done on a store that is older than what anybody remembers of it. With a planted bug, the old primary is
/// silent, and so is every member but its standbys.
pub(crate) fn is_disbelieved(state: &State, world: &World) -> bool {
    let rules = &world.rules;
    let silent =
        if rules.who_remembers_is_heard { None } else { state.intent.primary.or(state.intent.previous) };
    let promised = state
        .ids()
        .filter(|node| Some(*node) != silent)
        .any(|node| state.node(node).promise > state.intent.stamp);
    if world.bounds.floors {
        return rules.old_store_is_not_believed && is_below_the_count(state, world);
    }
    let remembered = state.outdated && rules.members_remember_the_store && rules.who_remembers_is_heard;
    rules.old_store_is_not_believed && (promised || remembered)
}

/// An agent that is heard promised more, or remembers more writes, than the store tells of.
fn is_below_the_count(state: &State, world: &World) -> bool {
    let rules = &world.rules;
    state.ids().map(|node| state.node(node)).filter(|me| me.host.up).any(|me| {
        me.promise > state.intent.stamp
            || rules.writes_are_counted && me.host.notes.writes > state.truth.writes
            || rules.newer_directory_is_remembered && me.primary_since > state.intent.stamp.epoch
    })
}

/// A new life of the store: the running primary stays, with the highest epoch that any node holds, and nothing is
/// promised.
fn accept(state: &State, world: &World, steps: &mut Vec<Step>) {
    let (rules, stored) = (&world.rules, &state.intent);
    let highest = state.ids().map(|node| state.node(node).promise.epoch).max().unwrap_or(0);
    let newest = state.ids().map(|node| (state.node(node).primary_since, node)).max();
    let Some((_, primary)) = newest else { return };
    let life = stored.stamp.life + u8::from(rules.accept_begins_a_new_life);
    let stamp = Stamp { life, epoch: stored.stamp.epoch.max(highest), version: stored.stamp.version + 1 };
    let keeps = |set: Set| if rules.accept_empties_the_set { Set::EMPTY } else { set };
    let next = Intent {
        stamp,
        primary: Some(primary),
        previous: None,
        sync: keeps(stored.sync),
        sync_next: keeps(stored.sync_next),
        promotable: Set::EMPTY,
        promotable_next: Set::EMPTY,
        handover: None,
        attended: !(world.bounds.leases && rules.accept_is_unattended),
        way: Way::Settled,
        durability: stored.durability,
    };
    let mut after = *state;
    after.outdated = false;
    let proposal = Proposal { change: Change::Accept, basis: stored.stamp, next };
    write_intent(&mut after, proposal, world);
    if rules.accept_is_promised_first {
        after.ids().for_each(|node: NodeId| {
            let promise = &mut after.node_mut(node).promise;
            *promise = (*promise).max(stamp);
        });
    }
    steps.push(Step { action: Action::Writes(proposal), after });
}
