//! What this primary sees its standbys confirm, for the floors that its renewals carry into the store.
//!
//! Taken from the primary's own list of walsenders and from its slots, never from a standby's word: a standby whose disk went
//! back would say less. The slots keep what was confirmed between two looks by a standby that is not connected any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{Floors, Lsn, Primary, Reached, StandbyName, Switch, WalPosition},
    postgres::observe::PrimaryMore,
};

/// Names of standbys that are remembered of one postmaster. Each clone has a new one; nobody clones so often.
const NAMES: usize = 64;

/// What was seen since the postmaster was found.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    /// How far the server had flushed at the first look.
    began: Option<Lsn>,
    /// How far each standby has.
    by_name: BTreeMap<StandbyName, Lsn>,
    /// Who has streamed.
    streamed: BTreeSet<StandbyName>,
    /// Who streamed by each slot last.
    by_slot: BTreeMap<String, StandbyName>,
}

impl Confirmed {
    /// Another postmaster was found.
    pub(super) fn begins_anew(&mut self) {
        *self = Self::default();
    }

    /// True if a standby that was connected at the last look is not in this one: its slot knows what it confirmed meanwhile.
    pub(super) fn misses(&self, senders: &[crate::model::WalSender]) -> bool {
        self.by_slot.values().any(|name| !senders.iter().any(|sender| sender.name == *name))
    }

    /// The server was looked at.
    pub(super) fn looked(&mut self, primary: &Primary, more: Option<&PrimaryMore>) {
        self.began.get_or_insert(primary.flushed);
        for sender in primary.senders.iter().filter(|sender| sender.flushed > Lsn(0)) {
            if let Some(slot) = slot_of(&sender.name) {
                self.by_slot.insert(slot, sender.name.clone());
                if sender.streaming {
                    self.streamed.insert(sender.name.clone());
                }
                self.raise(sender.name.clone(), sender.flushed, primary.flushed);
            }
        }
        for (slot, confirmed) in more.iter().flat_map(|more| &more.confirmed) {
            if let Some(name) = self.user_of(slot, primary.names.as_deref().unwrap_or_default()) {
                self.raise(name, *confirmed, primary.flushed);
            }
        }
        if more.is_some() {
            let connected = |name: &StandbyName| primary.senders.iter().any(|sender| sender.name == *name);
            // Its slot was read since it went: nothing more can be confirmed by it before it is back.
            self.by_slot.retain(|_, name| connected(name));
        }
    }

    /// Who streamed by a slot: who was seen to, else the member of the sync set that the name of the slot belongs to.
    fn user_of(&self, slot: &str, names: &[StandbyName]) -> Option<StandbyName> {
        let of_set = || names.iter().find(|name| slot_of(name).as_deref() == Some(slot)).cloned();
        let seen_later = |name: &StandbyName| {
            self.by_name.keys().any(|seen| seen != name && slot_of(seen).as_deref() == Some(slot))
        };
        self.by_slot.get(slot).cloned().or_else(|| of_set().filter(|name| !seen_later(name)))
    }

    /// Nobody can have confirmed what the primary does not have.
    fn raise(&mut self, name: StandbyName, confirmed: Lsn, own: Lsn) {
        if self.by_name.len() < NAMES || self.by_name.contains_key(&name) {
            let known = self.by_name.entry(name).or_default();
            *known = (*known).max(confirmed.min(own));
        }
    }

    /// For a renewal, where the server is on `primary.timeline` and came there by `switches`. None: not looked at yet.
    pub(super) fn reached(&self, primary: &Primary, switches: &[Switch]) -> Option<Reached> {
        let at = |lsn: Lsn| WalPosition::of(primary.timeline, switches, lsn);
        let mut floors = Floors::default();
        self.by_name.iter().for_each(|(name, lsn)| floors.raise(name, at(*lsn)));
        Some(Reached {
            at: at(primary.flushed),
            began: at(self.began?),
            floors,
            streamed: self.streamed.clone(),
        })
    }
}

/// The slot of the node that a standby of this name is on: the name is that and eight random digits. None: it is not
/// one of Locum's names.
fn slot_of(name: &StandbyName) -> Option<String> {
    let (slot, random) = name.0.rsplit_once('_')?;
    let ours =
        slot.starts_with("locum_") && random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit());
    ours.then(|| slot.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Timeline, WalSender},
        planner::fixture,
    };

    const NAME: &str = "locum_b_00000001";

    fn name(text: &str) -> StandbyName {
        StandbyName(text.into())
    }

    fn primary(flushed: u64, senders: &[(&str, u64)]) -> Primary {
        let sender = |(name, flushed): &(&str, u64)| WalSender {
            name: StandbyName((*name).into()),
            streaming: true,
            flushed: Lsn(*flushed),
            sync: true,
        };
        Primary {
            timeline: Timeline(1),
            flushed: Lsn(flushed),
            names: Some(vec![name(NAME)]),
            senders: senders.iter().map(sender).collect(),
            ..fixture::primary()
        }
    }

    fn more(confirmed: &[(&str, u64)]) -> PrimaryMore {
        PrimaryMore {
            timeline: Timeline(1),
            checkpoint_timeline: Timeline(1),
            redo: Lsn(0),
            names: String::new(),
            slots: Vec::new(),
            checksum_failures: None,
            logical_slots: Vec::new(),
            confirmed: confirmed.iter().map(|(slot, lsn)| ((*slot).to_owned(), Lsn(*lsn))).collect(),
        }
    }

    fn floor(seen: &Confirmed, primary: &Primary, of: &str) -> Option<u64> {
        seen.reached(primary, &[]).expect("looked at").floors.get(&name(of)).map(|at| at.lsn.0)
    }

    #[test]
    fn what_a_standby_confirmed_stays_when_it_is_gone() {
        let mut seen = Confirmed::default();
        seen.looked(&primary(100, &[(NAME, 90)]), None);
        let alone = primary(120, &[]);
        assert!(seen.misses(&alone.senders));
        seen.looked(&alone, Some(&more(&[("locum_b", 95)])));
        assert_eq!(
            floor(&seen, &alone, NAME),
            Some(95),
            "its slot knows what it confirmed after the last look"
        );
        assert!(!seen.misses(&alone.senders), "its slot was read");
        seen.looked(&primary(130, &[(NAME, 80)]), None);
        assert_eq!(floor(&seen, &alone, NAME), Some(95), "its disk went back");
    }

    #[test]
    fn a_slot_speaks_for_the_member_of_the_set_after_a_restart_and_not_for_an_older_clone() {
        let mut seen = Confirmed::default();
        seen.looked(&primary(100, &[]), Some(&more(&[("locum_b", 95), ("foreign", 99)])));
        assert_eq!(floor(&seen, &primary(100, &[]), NAME), Some(95));
        let mut seen = Confirmed::default();
        seen.looked(&primary(100, &[("locum_b_00000002", 97)]), Some(&more(&[("locum_b", 97)])));
        assert_eq!(floor(&seen, &primary(100, &[]), NAME), None, "it streams as another clone by now");
    }

    #[test]
    fn nobody_confirms_more_than_the_primary_has() {
        let mut seen = Confirmed::default();
        seen.looked(&primary(100, &[(NAME, 900), ("walreceiver", 50)]), None);
        let known = seen.reached(&primary(100, &[]), &[]).expect("looked at");
        assert_eq!(known.floors.iter().map(|floor| floor.at.lsn.0).collect::<Vec<_>>(), [100]);
    }
}
