//! The intents that follow one another, as in `src/model/intent.rs`.

use crate::{
    bounds::World,
    state::{Intent, NodeId, Set, Stamp, Way},
};

/// The same intent, with the next version.
pub(crate) fn raised(intent: &Intent) -> Intent {
    let stamp = Stamp { version: intent.stamp.version + 1, ..intent.stamp };
    Intent { stamp, ..*intent }
}

fn next_epoch(intent: &Intent) -> Intent {
    let Intent { stamp, .. } = raised(intent);
    Intent { stamp: Stamp { epoch: stamp.epoch + 1, ..stamp }, handover: None, ..*intent }
}

/// The next epoch, with nobody as primary.
pub(crate) fn vacated(intent: &Intent) -> Intent {
    let previous = intent.primary.or(intent.previous);
    Intent { primary: None, previous, way: Way::Settled, ..next_epoch(intent) }
}

/// A primary for an epoch that has none.
pub(crate) fn declared(vacant: &Intent, primary: NodeId, way: Way, world: &World) -> Intent {
    emptied(Intent { primary: Some(primary), way, ..raised(vacant) }, world)
}

/// The next epoch, with an old primary as primary.
pub(crate) fn reinstated(intent: &Intent, primary: NodeId, world: &World) -> Intent {
    emptied(Intent { primary: Some(primary), way: Way::Reinstated, ..next_epoch(intent) }, world)
}

/// What was promised under another primary is not under this one.
fn emptied(mut intent: Intent, world: &World) -> Intent {
    let rules = &world.rules;
    if rules.declare_empties_the_set {
        (intent.sync, intent.sync_next) = (Set::EMPTY, Set::EMPTY);
    }
    if rules.declare_empties_the_promotable {
        (intent.promotable, intent.promotable_next) = (Set::EMPTY, Set::EMPTY);
    }
    intent
}
