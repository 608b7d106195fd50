//! What must be possible, or the model shows nothing.

use crate::{
    actions::{Action, Step},
    log::Log,
    state::{Change, Command, Intent, NodeId, Role, Set, State, Way},
};

/// What must be reachable, or the model shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Milestone {
    /// A recruited standby became primary and acknowledged a commit.
    FailoverByRecruit,
    /// A standby became primary after the old one was fenced, and acknowledged a commit.
    FailoverByFence,
    /// A standby became primary after the old one's lease had run out, and acknowledged a commit.
    FailoverByLease,
    /// A primary acknowledged a commit on what others vouched, without a lease.
    ServedOnVouches,
    /// A primary acknowledged a commit while its member was stopped, without any right.
    ServedUnattended,
    /// The member beside the primary was stopped in order, and was back.
    Returned,
    /// A set with somebody in it was moved to another with somebody in it.
    SetMoved,
    /// A recruit was declared whose floor is in the middle of a record.
    DeclaredInMidRecord,
    /// A recruit was declared of whose disk half of a record is gone, as the primary had lost it when it started in place.
    DeclaredAfterATornRecord,
    /// A recruit was declared that had been rewound below the floor it had under the primary before.
    DeclaredAfterARewind,
    /// A recruit was declared that was ahead of another member of the set.
    MostAdvancedDeclared,
    /// A standby whose history was another was rewound.
    ThirdNodeRewound,
    /// A standby became promotable under a primary that had noted it.
    MadePromotable,
    /// The primary's own agent emptied the set.
    SetShrunkByAgent,
    /// A primary acknowledged a commit in a later life of the store.
    ServedAfterAccept,
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
    pub(crate) fn of(before: &State, step: &Step) -> Option<Self> {
        let intent = &step.after.intent;
        match step.action {
            Action::Acknowledges { node, .. } => Self::of_service(before, node),
            Action::Writes(proposal) => Self::of_change(before, proposal.change, intent),
            Action::Obeys(order) => match (order.command, before.node(order.to).role) {
                (Command::Rewind(_), Role::Primary) => Some(Self::OldPrimaryRejoined),
                (Command::Rewind(_), Role::Standby) => Some(Self::ThirdNodeRewound),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_service(state: &State, node: NodeId) -> Option<Self> {
        let (me, intent) = (state.node(node), &state.intent);
        if !me.guarded {
            return Some(Self::ServedUnattended);
        }
        if !me.lease && !me.vouchers.is_empty() {
            return Some(Self::ServedOnVouches);
        }
        if intent.primary != Some(node) || me.primary_since != intent.stamp.epoch {
            return None;
        }
        match intent.way {
            Way::Settled if me.promise.life > 0 => Some(Self::ServedAfterAccept),
            Way::Settled => None,
            Way::Recruited => Some(Self::FailoverByRecruit),
            Way::Fenced => Some(Self::FailoverByFence),
            Way::Expired => Some(Self::FailoverByLease),
            Way::HandedOver => Some(Self::Switchover),
            Way::Reinstated => Some(Self::Reinstated),
        }
    }

    fn of_change(before: &State, change: Change, intent: &Intent) -> Option<Self> {
        let behind = |heir: NodeId, other: NodeId| before.node(other).log.len() < before.node(heir).log.len();
        match change {
            Change::PassOver => Some(Self::CandidatePassedOver),
            Change::SettleSet if intent.sync.contains(NodeId::A) => Some(Self::SetReestablished),
            Change::SettleSet if !intent.sync.is_empty() && !before.intent.sync.is_empty() => {
                Some(Self::SetMoved)
            }
            Change::SettlePromotable if intent.promotable != Set::EMPTY => Some(Self::MadePromotable),
            Change::Return => Some(Self::Returned),
            Change::ShrinkSet => Some(Self::SetShrunkByAgent),
            Change::DeclareRecruited => {
                let heir = intent.primary?;
                if let Some(torn) = Self::of_lost_records(before, heir) {
                    return Some(torn);
                }
                let members = before.intent.sync.union(before.intent.sync_next);
                members.iter().any(|other| behind(heir, other)).then_some(Self::MostAdvancedDeclared)
            }
            _ => None,
        }
    }

    fn of_lost_records(before: &State, heir: NodeId) -> Option<Self> {
        let floor = before.truth.floors[heir as usize].map_or(0, |floor| floor.position);
        let (me, has_nothing) = (before.node(heir), before.node(heir).log == Log::default());
        match me.host.floor_was {
            _ if floor % 2 == 1 => Some(Self::DeclaredInMidRecord),
            1 if has_nothing && before.written == 0 && !me.host.torn => Some(Self::DeclaredAfterATornRecord),
            2.. if has_nothing && before.intent.stamp.epoch > 2 => Some(Self::DeclaredAfterARewind),
            _ => None,
        }
    }
}
