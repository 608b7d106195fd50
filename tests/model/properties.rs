//! What must never be, and what must be possible.

use std::fmt;

use crate::{
    actions::{Action, Step},
    state::{Change, Command, NodeId, State, Way},
};

/// What must hold in every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// Once a newer epoch has a primary, an older one acknowledges nothing that the newer one does not hold.
    OneWriter,
    /// The newest primary holds every acknowledged commit, but for those that an async failover was allowed to lose.
    NothingAcknowledgedIsLost,
    /// An agent's promise never goes back.
    PromisesOnlyGrow,
}

impl Property {
    /// All of them.
    pub(crate) const ALL: [Self; 3] =
        [Self::OneWriter, Self::NothingAcknowledgedIsLost, Self::PromisesOnlyGrow];

    /// True if the step from `before` breaks it.
    pub(crate) fn is_broken(self, before: &State, step: &Step) -> bool {
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
            Self::PromisesOnlyGrow => {
                NodeId::BOTH.iter().any(|node| step.after.node(*node).promise < before.node(*node).promise)
            }
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneWriter => "an older primary acknowledges what the newer one does not hold",
            Self::NothingAcknowledgedIsLost => "the newest primary lacks an acknowledged commit",
            Self::PromisesOnlyGrow => "a promise goes back",
        })
    }
}

/// What must be reachable, or the model shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Milestone {
    /// A recruited standby became primary and acknowledged a commit.
    FailoverByRecruit,
    /// A standby became primary after the old one was fenced, and acknowledged a commit.
    FailoverByFence,
    /// A switchover ended with a commit that the new primary acknowledged.
    Switchover,
    /// The old primary was declared again, and acknowledged a commit.
    Reinstated,
    /// A candidate that never promoted was passed over.
    CandidatePassedOver,
    /// An old primary follows the new one.
    OldPrimaryRejoined,
    /// The set is proven again under a primary other than the first.
    SetReestablished,
}

impl Milestone {
    /// The milestone that a step reaches.
    pub(crate) fn of(step: &Step) -> Option<Self> {
        let intent = &step.after.intent;
        match step.action {
            Action::Acknowledges { node, .. } => {
                let newest = step.after.node(node).primary_since == intent.stamp.epoch;
                match intent.way {
                    _ if intent.primary != Some(node) || !newest => None,
                    Way::Settled => None,
                    Way::Recruited => Some(Self::FailoverByRecruit),
                    Way::Fenced => Some(Self::FailoverByFence),
                    Way::HandedOver => Some(Self::Switchover),
                    Way::Reinstated => Some(Self::Reinstated),
                }
            }
            Action::Writes(proposal) => match proposal.change {
                Change::PassOver => Some(Self::CandidatePassedOver),
                Change::SettleSet if intent.sync == Some(NodeId::A) => Some(Self::SetReestablished),
                _ => None,
            },
            Action::Obeys(order) => (order.command == Command::Rewind).then_some(Self::OldPrimaryRejoined),
            _ => None,
        }
    }
}
