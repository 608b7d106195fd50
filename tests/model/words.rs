//! The sentences that a trace is made of.

use std::fmt;

use crate::{
    actions::Action,
    disk::WentBack,
    state::{Change, Command, Order, Proposal},
};

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Commits { node, commit } => write!(f, "{node:?} writes commit {commit}"),
            Self::Acknowledges { node, commit, names } => {
                write!(f, "{node:?} acknowledges commit {commit} (names in force: {})", names)
            }
            Self::Receives { node, commit, from } => {
                write!(f, "{node:?} receives commit {commit} from {from:?} and flushes it")
            }
            Self::TakesNames { node, names } => {
                write!(f, "{node:?}: the checkpointer takes the names {}", names)
            }
            Self::Crashes { node } => write!(f, "{node:?} crashes"),
            Self::RestartsItself { node } => write!(f, "{node:?}: PostgreSQL restarts by itself"),
            Self::MemberRestarts { node } => write!(f, "{node:?}: the member restarts"),
            Self::StandbyStarts { node, cut: true } => write!(f, "{node:?} starts as a standby, cut"),
            Self::StandbyStarts { node, cut: false } => write!(f, "{node:?} starts as a standby, streaming"),
            Self::ProvesNames { node, names, position } => {
                write!(f, "{node:?} reports the names {} in force, position {position}", names)
            }
            Self::ShrinksNames { node } => write!(f, "{node:?} empties its names by itself"),
            Self::Renews { node } => write!(f, "{node:?} renews its lease"),
            Self::RenewsUnheard { node } => write!(f, "{node:?} renews its lease; the answer is slow"),
            Self::HearsRenewal { node } => write!(f, "{node:?} hears the slow answer: its lease was renewed"),
            Self::LeaseRunsOut { node } => write!(f, "the lease of {node:?} runs out"),
            Self::RenewalGrowsOld { node } => {
                write!(f, "the time of the renewal that {node:?} has not heard of passes, too")
            }
            Self::KeyVanishes => f.write_str("the key of the lease is gone from the store"),
            Self::Vouches { by, to } => {
                write!(f, "{by:?} vouches to {to:?}: no higher epoch for the next ttl")
            }
            Self::AnswersRunOut { node } => write!(f, "what was vouched to {node:?} runs out there"),
            Self::VouchRunsOut { node } => write!(f, "{node:?} is no longer bound by its vouch"),
            Self::GuardKills { node } => write!(f, "{node:?}: the guard kills the frozen PostgreSQL"),
            Self::Disarms { node } => write!(f, "{node:?}: the member stops and disarms the guard"),
            Self::Arms { node } => write!(f, "{node:?}: the member is back and arms the guard"),
            Self::HostGoesDown { node } => write!(f, "the host of {node:?} goes down"),
            Self::HostComesBack { node, went } => {
                let what = match went {
                    WentBack::Nothing => "its disk as it was",
                    WentBack::Data => "the data directory of an earlier moment",
                    WentBack::Memory => "the agent's memory of an earlier moment",
                    WentBack::Both => "data directory and memory of an earlier moment",
                };
                write!(f, "the host of {node:?} comes back with {what}")
            }
            Self::CopiesDisk { node } => write!(f, "somebody makes a copy of the disk of {node:?}"),
            Self::ReadsIntent { node } => write!(f, "the agent of {node:?} reads the intent"),
            Self::StartsCutOff { node } => {
                write!(f, "{node:?} starts as a standby, cut off from its upstream")
            }
            Self::FollowsAgain { node } => write!(f, "{node:?} follows its upstream again, which lives"),
            Self::LeaderChanges => f.write_str("the leader changes: what only it remembered is gone"),
            Self::Connects { node, to } => write!(f, "{node:?} connects to {to:?}, and tells its position"),
            Self::WritesHalf { node } => write!(f, "{node:?} writes half of a record"),
            Self::ReceivesHalf { node, from } => {
                write!(f, "{node:?} receives half of a record from {from:?} and flushes it")
            }
            Self::OverwritesHalf { node, from } => {
                write!(f, "{node:?} streams anew from {from:?}: half of a record is overwritten")
            }
            Self::WritesFloors { node } => write!(f, "a renewal of {node:?} carries the floors to the store"),
            Self::NotesInFailsafe { node } => {
                write!(f, "{node:?} does not hear the store: the others note the floors")
            }
            Self::CopiesStore => f.write_str("somebody makes a copy of the store"),
            Self::PutsBack(stamp) => write!(f, "somebody puts the copy of the store back: {stamp}"),
            Self::Obeys(order) => write!(f, "{:?} obeys: {order}", order.to),
            Self::OnlyPromises(order) => {
                write!(f, "{:?} promises, and dies before it obeys: {order}", order.to)
            }
            Self::SendsLate(order) => write!(f, "an order to {:?} is under way: {order}", order.to),
            Self::ObeysLate(order) => write!(f, "{:?} obeys a late order: {order}", order.to),
            Self::Loses(order) => write!(f, "an order to {:?} is lost: {order}", order.to),
            Self::Writes(proposal) => write!(f, "the intent becomes {proposal}"),
            Self::DecidesLate(proposal) => write!(f, "a slow controller decides on {proposal}"),
            Self::WritesLate(proposal) => {
                write!(f, "the slow controller's write arrives: the intent becomes {proposal}")
            }
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            Command::SetNames(names) => write!(f, "set names {}", names)?,
            Command::Recruit => f.write_str("recruit")?,
            Command::Promote => f.write_str("promote")?,
            Command::Serve => f.write_str("serve")?,
            Command::Stop => f.write_str("stop")?,
            Command::Follow(node) => write!(f, "follow {node:?}")?,
            Command::Rewind(node) => write!(f, "rewind, then follow {node:?}")?,
            Command::Clone(node) => write!(f, "clone {node:?}")?,
            Command::Note(promotable) => write!(f, "note that {promotable} may be promoted")?,
            Command::PauseReplay => f.write_str("pause replay, for the proof")?,
        }
        write!(f, " ({})", self.stamp)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = &self.next;
        let sets = format!("sync {}, next {}", next.sync, next.sync_next);
        let primary = next.primary.map_or_else(|| "nobody".to_owned(), |node| format!("{node:?}"));
        write!(f, "{}: ", next.stamp)?;
        match self.change {
            Change::Vacate => write!(f, "nobody is primary; {sets}"),
            Change::DeclareRecruited => {
                write!(f, "{primary} is declared, as all it needed is recruited; {sets}")
            }
            Change::DeclareFenced => write!(f, "{primary} is declared, as the old primary is gone; {sets}"),
            Change::DeclareExpired => {
                write!(f, "{primary} is declared, as the lease of the old primary has run out; {sets}")
            }
            Change::Reinstate => write!(f, "{primary} is declared again; {sets}"),
            Change::PassOver => {
                write!(f, "{primary} is declared again, as the candidate is passed over; {sets}")
            }
            Change::AnnounceSet => write!(f, "next set announced; {sets}"),
            Change::SettleSet => write!(f, "next set settled; {sets}"),
            Change::BeginHandover => f.write_str("a switchover begins"),
            Change::GiveUpHandover => f.write_str("the switchover is given up"),
            Change::HandOver => write!(f, "{primary} takes over, as the old primary has stopped; {sets}"),
            Change::ShrinkSet => write!(f, "the primary's own agent empties the set; {sets}"),
            Change::AnnouncePromotable => {
                write!(f, "promotable {}, next {}", next.promotable, next.promotable_next)
            }
            Change::SettlePromotable => write!(f, "promotable {}", next.promotable),
            Change::Leave => f.write_str("the primary's member is about to stop: unattended"),
            Change::Return => f.write_str("the primary's member is back: attended"),
            Change::Accept => write!(f, "a person accepts the store: {primary} is primary; {sets}"),
            Change::SetDurability => write!(f, "durability {:?}", next.durability),
        }
    }
}
