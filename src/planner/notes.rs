//! Failsafe time: what a primary told the other members while the store had left it alone.
//!
//! Such a note says how far everybody was after the last renewal of the lease. It counts against whoever has less. A disk that goes
//! back takes the note along that lies beside it, so a node that was told is judged only where another one that was told is
//! heard, or where nothing on its disk can have gone back since. In a cluster of two there is no other one.

use super::case::Case;
use crate::model::{Intent, NodeId, NodeView, Note, Noted, StandbyName, WalPosition};

/// With fewer members nobody else can have been told.
const OTHERS: usize = 3;

fn heard<'a>(case: &Case<'a>) -> impl Iterator<Item = (&'a NodeId, &'a NodeView)> {
    let (now, detect) = (case.now, case.policy.detect);
    case.view.nodes.iter().filter(move |(_, view)| now.since(view.heard) <= detect)
}

/// The notes about the primary of this term, or of the term before where nobody is primary, that no renewal has carried since. Also of
/// members that are not heard any more: what was told was told.
fn binding<'a>(case: &Case<'a>, intent: &Intent) -> Vec<(&'a NodeId, &'a Noted)> {
    let noted = case.view.nodes.iter().filter_map(|(node, view)| Some((node, view.noted.as_ref()?)));
    noted.filter(|(_, noted)| binds(case, intent, &noted.note)).collect()
}

fn binds(case: &Case<'_>, intent: &Intent, note: &Note) -> bool {
    let of_term = match &intent.primary {
        Some(primary) => *primary == note.node && note.stamp.epoch <= intent.epoch,
        None => intent.previous.as_ref() == Some(&note.node) && note.stamp.epoch < intent.epoch,
    };
    let last = case.view.lease.last.as_ref().map(|last| &last.value);
    let last = last.filter(|last| last.incarnation == intent.incarnation);
    let carried = last.is_some_and(|last| {
        last.epoch > note.stamp.epoch
            || last.epoch == note.stamp.epoch && note.renewals.is_some_and(|before| last.renewals() > before)
    });
    of_term && note.reached.is_some() && note.stamp.incarnation == intent.incarnation && !carried
}

/// What a standby of this name was seen to confirm in failsafe time.
pub(super) fn of_standby(case: &Case<'_>, intent: &Intent, name: &StandbyName) -> Option<WalPosition> {
    binding(case, intent).iter().filter_map(|(_, noted)| noted.note.floors.get(name)).max()
}

/// How far the primary was in failsafe time.
pub(super) fn of_primary(case: &Case<'_>, intent: &Intent) -> Option<WalPosition> {
    binding(case, intent).iter().filter_map(|(_, noted)| noted.note.reached).max()
}

/// The primary is known to have used failsafe time since its last renewal.
pub(super) fn followed(case: &Case<'_>, intent: &Intent) -> bool {
    !binding(case, intent).is_empty()
}

/// Why it is not known how far everybody was in failsafe time. None: it is, or there was none.
pub(super) fn unsure(case: &Case<'_>, intent: &Intent, node: &NodeId) -> Option<String> {
    if case.view.members.len() < OTHERS {
        return None;
    }
    let notes = binding(case, intent);
    let its_own = notes.iter().find(|(by, noted)| *by == node && !noted.watched);
    // Also one that was told later that a renewal had carried everything.
    let by_another = |own: &Note| {
        let same = |note: &Note| note.node == own.node && note.stamp.same_epoch(own.stamp);
        heard(case).any(|(by, view)| by != node && view.noted.as_ref().is_some_and(|noted| same(&noted.note)))
    };
    if its_own.is_some_and(|(_, noted)| !by_another(&noted.note)) {
        let why = "the primary served without the store, and nobody else is heard who was told how far everybody was then";
        return Some(why.into());
    }
    let alone = heard(case).all(|(other, _)| other == node);
    let fresh = case.view.lease.last.is_some() && !case.view.lease.renewed;
    (alone && fresh).then(|| {
        "whether the primary served without the store is not known: no other member is heard, and this one has just started".into()
    })
}
