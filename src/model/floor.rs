//! Floors: how much WAL each disk is known to have held, kept where that disk is not.
//!
//! A disk can go back in time: a snapshot is restored, a volume is replaced, a cache lied about fsync. A standby whose disk
//! went back lacks commits that were acknowledged because of it, and nothing on that disk says so. So the agent of the
//! primary writes into the store what it saw each standby confirm, and how far the primary itself was.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::{Lsn, NodeId, Renewals, Stamp, StandbyName, Switch, Timeline};

/// A position in the WAL, with the timeline of the record that ends there. A later timeline is later, wherever it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WalPosition {
    /// The timeline of the record that ends there.
    pub timeline: Timeline,
    /// The position.
    pub lsn: Lsn,
}

impl WalPosition {
    /// `lsn` in the WAL of a server that is on `timeline` and came there by `switches`, oldest first.
    #[must_use]
    pub fn of(timeline: Timeline, switches: &[Switch], lsn: Lsn) -> Self {
        let left = switches.iter().find(|switch| lsn <= switch.at);
        Self { timeline: left.map_or(timeline, |switch| switch.timeline), lsn }
    }
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {}", self.lsn, self.timeline)
    }
}

/// The WAL that a node has.
#[derive(Clone, Copy, Debug)]
pub struct Wal<'a> {
    /// The timeline that it ends on.
    pub timeline: Timeline,
    /// The switches that led to that timeline, oldest first.
    pub switches: &'a [Switch],
    /// Where it ends.
    pub end: Lsn,
    /// A record begins at the end and is unfinished: it would end here. A position within that record is not missing: no
    /// commit can have been acknowledged between two ends of records. None: no record begins there.
    pub unfinished_until: Option<Lsn>,
}

impl Wal<'_> {
    /// Where it ends.
    #[must_use]
    pub fn position(&self) -> WalPosition {
        WalPosition::of(self.timeline, self.switches, self.end)
    }

    /// Whether it contains everything up to `floor`: it reaches that far, and the timeline there is the same.
    #[must_use]
    pub fn contains(&self, floor: WalPosition) -> bool {
        let reaches = self.end >= floor.lsn || self.unfinished_until.is_some_and(|end| floor.lsn < end);
        reaches && (floor.lsn == Lsn(0) || self.is_on(floor))
    }

    /// Whether `floor` lies on a timeline of this history, where that timeline was the current one. Both of its ends count:
    /// of two timelines that met at one position the same WAL is before it.
    fn is_on(&self, floor: WalPosition) -> bool {
        let began = |at: usize| at.checked_sub(1).map_or(Lsn(0), |before| self.switches[before].at);
        match self.switches.iter().position(|switch| switch.timeline == floor.timeline) {
            Some(at) => (began(at)..=self.switches[at].at).contains(&floor.lsn),
            None => floor.timeline == self.timeline && floor.lsn >= began(self.switches.len()),
        }
    }
}

/// What one standby was seen to have confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The `application_name` it streams under: random for each clone, so a new data directory has no floor.
    pub name: StandbyName,
    /// How far.
    pub at: WalPosition,
    /// It was seen before the primary's server was last started, and the standby has not streamed since: what it confirmed to the
    /// earlier one after its last renewal is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// The floors of several standbys, one for each name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Floors(Vec<Floor>);

impl Floors {
    /// The floor of one standby. None: nothing is known of it.
    #[must_use]
    pub fn get(&self, name: &StandbyName) -> Option<WalPosition> {
        self.0.iter().find(|floor| floor.name == *name).map(|floor| floor.at)
    }

    /// Notes that a standby has confirmed `at`. A floor never falls by this.
    pub fn raise(&mut self, name: &StandbyName, at: WalPosition) {
        match self.0.iter_mut().find(|floor| floor.name == *name) {
            Some(floor) => floor.at = floor.at.max(at),
            None => {
                self.0.push(Floor { name: name.clone(), at, stale: false });
                self.0.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
    }

    /// Notes everything that `other` knows, too.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|floor| self.raise(&floor.name, floor.at));
    }

    /// Lowers every floor that is beyond `end` to it. Only for WAL that nobody has any more: the unfinished record at the end
    /// of a primary that was started again in its place.
    pub fn cap(&mut self, end: WalPosition) {
        self.0.iter_mut().for_each(|floor| floor.at = floor.at.min(end));
    }

    /// Whose floors are fresh: of those standbys that have streamed to the server that runs now.
    pub fn freshen(&mut self, streamed: &BTreeSet<StandbyName>) {
        self.0.iter_mut().for_each(|floor| floor.stale = !streamed.contains(&floor.name));
    }

    /// The floor of one standby is known, and fresh.
    #[must_use]
    pub fn is_fresh(&self, name: &StandbyName) -> bool {
        self.0.iter().any(|floor| floor.name == *name && !floor.stale)
    }

    /// Each floor.
    pub fn iter(&self) -> impl Iterator<Item = &Floor> {
        self.0.iter()
    }

    /// True if there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the agent of a primary knows of its own WAL and of its standbys', for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// How far the primary has flushed.
    pub at: WalPosition,
    /// How far it had when its postmaster was first seen to serve: what was known to be beyond that before is gone.
    pub began: WalPosition,
    /// What each of its standbys has confirmed to it since then.
    pub floors: Floors,
    /// Who of them has streamed to it since then.
    pub streamed: BTreeSet<StandbyName>,
}

/// What a primary told the other members while the store had left it alone. They write it down; it counts until a renewal of its
/// lease carries what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who told it.
    pub node: NodeId,
    /// The stamp that it serves under.
    pub stamp: Stamp,
    /// The latest renewal of its lease that there can have been before. None: it does not know.
    pub renewals: Option<Renewals>,
    /// How far it had flushed. None: it tells by this that a renewal has carried everything.
    pub reached: Option<WalPosition>,
    /// What it had seen its standbys confirm.
    pub floors: Floors,
}

impl Note {
    /// What is to be remembered where `before` was. A late one of an earlier term says nothing, and one without a position that a
    /// renewal has carried everything.
    #[must_use]
    pub fn over(mut self, before: Option<Self>) -> Self {
        let Some(before) = before else { return self };
        let same = self.stamp.same_epoch(before.stamp);
        if !same && self.stamp < before.stamp {
            return before;
        }
        // What a renewal has carried does no harm, and a primary that was started again does not know what one has.
        if same && self.reached.is_some() {
            self.floors.merge(&before.floors);
            self.reached = self.reached.max(before.reached);
        }
        self
    }
}

/// A note as a member has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// What was told.
    pub note: Note,
    /// It was told to this life of the member: no disk beside it can have gone back since.
    pub watched: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, lsn: u64) -> WalPosition {
        WalPosition { timeline: Timeline(timeline), lsn: Lsn(lsn) }
    }

    fn switch(timeline: u32, at: u64) -> Switch {
        Switch { timeline: Timeline(timeline), at: Lsn(at) }
    }

    fn wal(timeline: u32, switches: &[Switch], end: u64) -> Wal<'_> {
        Wal { timeline: Timeline(timeline), switches, end: Lsn(end), unfinished_until: None }
    }

    #[test]
    fn a_position_has_the_timeline_of_the_record_that_ends_there() {
        let switches = [switch(1, 50), switch(2, 80)];
        let of = |lsn| WalPosition::of(Timeline(3), &switches, Lsn(lsn)).timeline.0;
        assert_eq!([of(10), of(50), of(51), of(80), of(81)], [1, 1, 2, 2, 3]);
    }

    #[test]
    fn wal_contains_what_it_reaches_on_the_same_timeline() {
        let switches = [switch(1, 50), switch(2, 80)];
        let wal = wal(3, &switches, 100);
        for inside in [at(1, 0), at(1, 50), at(2, 50), at(2, 60), at(2, 80), at(3, 81), at(3, 100)] {
            assert!(wal.contains(inside), "{inside}");
        }
        for outside in [at(3, 101), at(1, 51), at(2, 81), at(3, 79), at(4, 90), at(2, 49)] {
            assert!(!wal.contains(outside), "{outside}");
        }
    }

    #[test]
    fn two_switches_at_one_position_leave_both_timelines_in_the_history() {
        let switches = [switch(1, 50), switch(2, 50)];
        let wal = wal(3, &switches, 60);
        assert!([at(1, 50), at(2, 50), at(3, 51)].into_iter().all(|floor| wal.contains(floor)));
    }

    #[test]
    fn a_floor_within_an_unfinished_record_is_not_missing() {
        let torn = Wal { unfinished_until: Some(Lsn(120)), ..wal(1, &[], 100) };
        assert!(torn.contains(at(1, 119)));
        assert!(!torn.contains(at(1, 120)), "the record is complete there");
        assert!(!wal(1, &[], 100).contains(at(1, 101)));
    }

    #[test]
    fn a_floor_only_grows_unless_its_wal_is_gone() {
        let name = StandbyName("locum_b_1".into());
        let mut floors = Floors::default();
        floors.raise(&name, at(1, 50));
        floors.raise(&name, at(1, 40));
        assert_eq!(floors.get(&name), Some(at(1, 50)));
        floors.raise(&name, at(2, 45));
        assert_eq!(floors.get(&name), Some(at(2, 45)), "a later timeline is later, wherever it began");
        floors.cap(at(2, 44));
        assert_eq!(floors.get(&name), Some(at(2, 44)));
    }
}
