//! What a primary's agent saw its standbys confirm, as `agent::floors` has it: from the walsenders, and from the slots of
//! those that are gone.

use std::collections::{BTreeMap, BTreeSet};

use locum::model::{Floors, Lsn, Primary, Reached, StandbyName, Switch, WalPosition, WalSender};

use super::{
    Tick,
    postgres::{lsn, slot_of},
};

/// What was seen since the postmaster was found.
#[derive(Default)]
pub(crate) struct Confirmed {
    /// How far the server had flushed at the first look.
    began: Option<Lsn>,
    by_name: BTreeMap<StandbyName, Lsn>,
    by_slot: BTreeMap<String, StandbyName>,
    streamed: BTreeSet<StandbyName>,
    /// When the server was looked at last.
    pub(crate) looked_at: Tick,
}

impl Confirmed {
    /// The server was looked at; `slots` is how far each slot has been confirmed.
    pub(crate) fn looked(&mut self, primary: &Primary, slots: &BTreeMap<String, usize>, now: Tick) {
        let own = primary.flushed;
        let first = self.began.is_none();
        self.looked_at = now;
        self.began.get_or_insert(own);
        let misses = self.misses(&primary.senders);
        for sender in &primary.senders {
            self.by_slot.insert(slot_of(&sender.name), sender.name.clone());
            if sender.streaming {
                self.streamed.insert(sender.name.clone());
            }
            self.raise(sender.name.clone(), sender.flushed, own);
        }
        if !(first || misses) {
            return;
        }
        for (slot, confirmed) in slots {
            if let Some(name) = self.user_of(slot, primary.names.as_deref().unwrap_or_default()) {
                self.raise(name, lsn(*confirmed), own);
            }
        }
        self.by_slot.retain(|_, name| primary.senders.iter().any(|sender| sender.name == *name));
    }

    fn misses(&self, senders: &[WalSender]) -> bool {
        self.by_slot.values().any(|name| !senders.iter().any(|sender| sender.name == *name))
    }

    fn user_of(&self, slot: &str, names: &[StandbyName]) -> Option<StandbyName> {
        let of_set = || names.iter().find(|name| slot_of(name) == slot).cloned();
        let seen_later =
            |name: &StandbyName| self.by_name.keys().any(|seen| seen != name && slot_of(seen) == slot);
        self.by_slot.get(slot).cloned().or_else(|| of_set().filter(|name| !seen_later(name)))
    }

    fn raise(&mut self, name: StandbyName, confirmed: Lsn, own: Lsn) {
        let known = self.by_name.entry(name).or_default();
        *known = (*known).max(confirmed.min(own));
    }

    /// For a renewal. None: the server was not looked at yet.
    pub(crate) fn reached(&self, primary: &Primary, switches: &[Switch]) -> Option<Reached> {
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
