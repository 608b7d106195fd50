//! What must never be.

use std::fmt;

use crate::{
    actions::{Action, Step},
    state::{Node, Role, State},
};

/// What must hold in every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// Once a newer epoch has a primary, an older one acknowledges nothing that the newer one does not hold.
    OneWriter,
    /// The newest primary holds every acknowledged commit, but for those that an async failover was allowed to lose.
    NothingAcknowledgedIsLost,
    /// No two nodes are primaries of one epoch.
    OnePrimaryPerEpoch,
    /// An agent's promise never goes back.
    PromisesOnlyGrow,
}

impl Property {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::OneWriter, Self::NothingAcknowledgedIsLost, Self::OnePrimaryPerEpoch, Self::PromisesOnlyGrow];

    /// True if the step from `before` breaks it.
    pub(crate) fn is_broken(self, before: &State, step: &Step) -> bool {
        if step.after.ghost.disks
            && let Some(broken) = self.is_broken_by_a_disk(before, step)
        {
            return broken;
        }
        let (newest, acknowledged) = (step.after.newest_primary(), step.after.acknowledged);
        match self {
            Self::OneWriter => match step.action {
                Action::Acknowledges { node, commit, .. } => {
                    before.node(node).primary_since < newest.primary_since && !newest.log.holds(commit)
                }
                _ => false,
            },
            Self::NothingAcknowledgedIsLost => {
                !newest.log.lacks(acknowledged.without(step.after.forgiven)).is_empty()
            }
            Self::OnePrimaryPerEpoch => match step.action {
                Action::Obeys(order) | Action::ObeysLate(order) => {
                    let me = step.after.node(order.to);
                    let same =
                        |other: &Node| other.role == Role::Primary && other.primary_since == me.primary_since;
                    me.role == Role::Primary
                        && step.after.others(order.to).any(|other| same(step.after.node(other)))
                }
                _ => false,
            },
            Self::PromisesOnlyGrow => {
                before.ids().any(|node| step.after.node(node).promise < before.node(node).promise)
            }
        }
    }

    /// Where disks go back, what a node was once is not told by its disk; and what a disk lacks does no harm while its
    /// server takes no commits. None: as everywhere.
    fn is_broken_by_a_disk(self, before: &State, step: &Step) -> Option<bool> {
        let (ghost, acknowledged) = (&step.after.ghost, step.after.acknowledged);
        match self {
            Self::OneWriter => Some(match step.action {
                Action::Acknowledges { node, commit, .. } => {
                    before.node(node).primary_since < ghost.epoch && !ghost.held.contains(commit)
                }
                _ => false,
            }),
            Self::NothingAcknowledgedIsLost => {
                let newest = step.after.node(ghost.newest);
                let serves = newest.up && newest.role == Role::Primary && newest.primary_since >= ghost.epoch;
                Some(serves && !newest.log.lacks(acknowledged.without(step.after.forgiven)).is_empty())
            }
            Self::PromisesOnlyGrow if matches!(step.action, Action::HostComesBack { .. }) => Some(false),
            Self::OnePrimaryPerEpoch | Self::PromisesOnlyGrow => None,
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneWriter => "an older primary acknowledges what the newer one does not hold",
            Self::NothingAcknowledgedIsLost => "the newest primary lacks an acknowledged commit",
            Self::OnePrimaryPerEpoch => "two nodes are primaries of one epoch",
            Self::PromisesOnlyGrow => "a promise goes back",
        })
    }
}
