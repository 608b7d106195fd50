//! Floors: how far a disk is known to have come, remembered where that disk is not. Plain values.
//!
//! Positions are counted in halves of a record, so that one can be in the middle of a record.

use crate::{log::Log, set::NodeId, state::State};

/// A position that some disk is known to have reached, with the timeline of the WAL there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Floor {
    /// The epoch whose promotion began the timeline.
    pub(crate) timeline: u8,
    /// In half records.
    pub(crate) position: u8,
}

impl Floor {
    /// The greater of this and what is known: a later timeline is, whatever the position.
    pub(crate) fn raise(self, known: &mut Option<Self>, only_grows: bool) {
        if !only_grows || known.is_none_or(|known| self > known) {
            *known = Some(self);
        }
    }

    /// Everything known above this is cut to it: a later timeline begins here.
    pub(crate) fn cut(self, known: &mut Option<Self>) {
        if known.is_some_and(|known| known.position > self.position) {
            *known = Some(self);
        }
    }
}

/// A floor for each node, if there is one.
pub(crate) type Floors = [Option<Floor>; 3];

/// What an agent notes on its own disk about the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Notes {
    /// Of each node, as a primary without the store told.
    pub(crate) floors: Floors,
    /// The primary's own position, as it told then, and its epoch.
    pub(crate) reached: Option<(u8, Floor)>,
    /// How many writes the store had taken when its agent last heard of it.
    pub(crate) writes: u8,
}

impl Notes {
    /// Nothing noted.
    pub(crate) const NONE: Self = Self { floors: [None; 3], reached: None, writes: 0 };

    /// Something was noted in failsafe.
    pub(crate) fn is_noted(&self) -> bool {
        self.reached.is_some() || self.floors.iter().any(Option::is_some)
    }
}

/// What the store keeps beside the intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Truth {
    /// Of each node's disk.
    pub(crate) floors: Floors,
    /// Of the primary's disk, whoever that is.
    pub(crate) reached: Option<Floor>,
    /// The latest epoch for which a lease was written.
    pub(crate) leased: u8,
    /// By whom.
    pub(crate) leased_by: NodeId,
    /// The latest switch: the epoch that it began, and the position it began at, in records. Epoch 0: none yet.
    pub(crate) switch: (u8, u8),
    /// How many writes the store has taken.
    pub(crate) writes: u8,
}

impl Truth {
    /// Of a store that knows nothing yet.
    pub(crate) const NONE: Self =
        Self { floors: [None; 3], reached: None, leased: 1, leased_by: NodeId::A, switch: (0, 0), writes: 0 };
}

impl State {
    /// How far the disk of `node` is, its torn record included.
    pub(crate) fn flushed(&self, node: NodeId) -> u8 {
        let me = self.node(node);
        2 * me.log.len() + u8::from(me.host.torn)
    }

    /// How far the disk of `node` is, as a floor.
    pub(crate) fn floor_at(&self, node: NodeId, position: u8) -> Floor {
        Floor { timeline: self.timeline_at(self.node(node).log, position), position }
    }

    /// The timeline of what ends at this position.
    pub(crate) fn timeline_at(&self, log: Log, position: u8) -> u8 {
        let (records, torn) = (usize::from(position / 2), position % 2 == 1);
        let at = |place: usize| log.commits().nth(place).filter(|commit| *commit != 0);
        let begun = if torn { at(records) } else { None };
        let last = begun.or_else(|| at(records.checked_sub(1)?));
        last.map_or(0, |commit| self.ghost.timelines[usize::from(commit)])
    }

    /// The history of `node` has the latest switch in it, as far as its WAL goes.
    pub(crate) fn has_the_switch(&self, node: NodeId) -> bool {
        let (epoch, at) = self.truth.switch;
        let beyond = self.node(node).log.commits().nth(usize::from(at)).filter(|commit| *commit != 0);
        beyond.is_none_or(|commit| self.ghost.timelines[usize::from(commit)] >= epoch)
    }
}
