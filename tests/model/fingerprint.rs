//! A state as a few packed numbers, and those as one. Searches spend most of their time here.
//!
//! Packing loses nothing: each field has the bits that its bounds need, and one that does not fit is a panic.

use crate::{
    disk::DiskCopy,
    floor::{Floor, Floors, Notes, Truth},
    node::{Host, Node, Proof},
    state::{Command, Intent, Order, Proposal, Stamp, State},
};

/// Bits that are filled from below.
#[derive(Default)]
struct Bits {
    filled: u64,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: impl Into<u64>, width: u32) {
        let value = value.into();
        assert!(value >> width == 0 && self.used + width <= u64::BITS, "a field needs more bits");
        self.filled |= value << self.used;
        self.used += width;
    }

    fn stamp(&mut self, stamp: Stamp) {
        self.put(stamp.life, 2);
        self.put(stamp.epoch, 3);
        self.put(stamp.version, 4);
    }

    fn intent(&mut self, intent: &Intent) {
        self.stamp(intent.stamp);
        for node in [intent.primary, intent.previous, intent.handover] {
            self.put(node.map_or(3, |node| node as u8), 2);
        }
        for set in [intent.sync, intent.sync_next, intent.promotable, intent.promotable_next] {
            self.put(set.bits(), 3);
        }
        self.put(intent.durability as u8, 1);
        self.put(intent.attended, 1);
        self.put(intent.way as u8, 3);
    }

    fn node(&mut self, node: &Node) {
        for flag in [
            node.up,
            node.open,
            node.recruited,
            node.lease,
            node.vouched,
            node.guarded,
            node.left,
            node.heard_async,
        ] {
            self.put(flag, 1);
        }
        self.put(node.role as u8, 1);
        self.put(node.upstream as u8, 2);
        self.put(node.renewal as u8, 2);
        self.put(node.primary_since, 3);
        self.put(node.history, 3);
        self.stamp(node.promise);
        node.log.commits().for_each(|commit| self.put(commit, 3));
        for set in [node.names.configured, node.names.in_force, node.noted, node.vouchers] {
            self.put(set.bits(), 3);
        }
        let proof = match node.names.proof {
            Proof::NotSet => 0,
            Proof::Set => 1,
            Proof::Proven(position) => 2 + position,
        };
        self.put(proof, 3);
    }

    fn floor(&mut self, floor: Option<Floor>) {
        let Floor { timeline, position } = floor.unwrap_or(Floor { timeline: 7, position: 7 });
        self.put(timeline, 3);
        self.put(position, 3);
    }

    fn floors(&mut self, floors: &Floors) {
        floors.iter().for_each(|floor| self.floor(*floor));
    }

    fn truth(&mut self, truth: &Truth) {
        self.floor(truth.reached);
        self.put(truth.leased, 3);
        self.put(truth.leased_by as u8, 2);
        self.put(truth.switch.0, 3);
        self.put(truth.switch.1, 3);
        self.put(truth.writes, 5);
    }

    fn notes(&mut self, notes: &Notes) {
        self.floors(&notes.floors);
        self.put(notes.reached.map_or(0, |(epoch, _)| epoch), 3);
        self.floor(notes.reached.map(|(_, floor)| floor));
        self.put(notes.writes, 5);
    }

    fn host(&mut self, host: &Host) {
        for flag in [host.up, host.has_read, host.cut_off, host.torn, host.list_confirmed] {
            self.put(flag, 1);
        }
        self.put(host.floor_was, 3);
        host.samples.iter().for_each(|sample| self.put(*sample, 3));
    }

    fn ghost(&mut self, state: &State) {
        let ghost = &state.ghost;
        self.put(ghost.newest as u8, 2);
        self.put(ghost.epoch, 3);
        self.put(ghost.silent, 1);
        for commits in [ghost.held, ghost.due, ghost.window] {
            self.put(commits.bits(), 8);
        }
        ghost.timelines.iter().for_each(|epoch| self.put(*epoch, 3));
        self.put(state.spent.host_losses, 2);
        self.put(state.spent.disk_backs, 2);
        self.put(state.spent.halves, 2);
        self.put(state.spent.leader_changes, 2);
        ghost.leader_saw.iter().for_each(|seen| self.put(*seen, 2));
    }

    fn order(&mut self, order: &Order) {
        let (kind, argument) = match order.command {
            Command::SetNames(set) => (0_u8, set.bits()),
            Command::Recruit => (1, 0),
            Command::Promote => (2, 0),
            Command::Serve => (3, 0),
            Command::Stop => (4, 0),
            Command::Follow(node) => (5, node as u8),
            Command::Rewind(node) => (6, node as u8),
            Command::Clone(node) => (7, node as u8),
            Command::PauseReplay => (8, 0),
            Command::Note(set) => (9, set.bits()),
        };
        self.put(order.to as u8, 2);
        self.put(kind, 4);
        self.put(argument, 3);
        self.stamp(order.stamp);
    }
}

/// One number for a state: equal states have equal ones, and others almost surely do not.
pub(crate) fn fingerprint(state: &State) -> u64 {
    let mut number = Fold(0);
    for node in state.ids() {
        number.fold(|bits| bits.node(state.node(node)));
    }
    number.fold(|bits| {
        bits.intent(&state.intent);
        let spent = &state.spent;
        for count in [
            spent.crashes,
            spent.handovers,
            spent.clones,
            spent.durability_changes,
            spent.leaves,
            spent.restores,
        ] {
            bits.put(count, 2);
        }
        bits.put(state.outdated, 1);
        bits.put(state.lease_key, 1);
        bits.put(state.written, 3);
    });
    number.fold(|bits| {
        state.late_orders().for_each(|order| bits.order(&order));
        bits.put(state.acknowledged.bits(), 8);
        bits.put(state.forgiven.bits(), 8);
    });
    if let Some((copy, truth)) = &state.copy {
        number.fold(|bits| {
            bits.put(1_u8, 1);
            bits.intent(copy);
        });
        if state.ghost.disks {
            number.fold(|bits| bits.floors(&truth.floors));
            number.fold(|bits| bits.truth(truth));
        }
    }
    if state.ghost.disks {
        disks(state, &mut number);
    }
    if let Some(Proposal { change, basis, next }) = &state.late_write {
        number.fold(|bits| {
            bits.put(2_u8, 2);
            bits.put(*change as u8, 5);
            bits.stamp(*basis);
            bits.intent(next);
        });
    }
    number.0
}

/// What only worlds with disks that go back have.
fn disks(state: &State, number: &mut Fold) {
    number.fold(|bits| bits.floors(&state.truth.floors));
    number.fold(|bits| bits.truth(&state.truth));
    number.fold(|bits| bits.ghost(state));
    for node in state.ids() {
        let host = &state.node(node).host;
        number.fold(|bits| bits.host(host));
        number.fold(|bits| bits.notes(&host.notes));
    }
    if let Some(DiskCopy { of, data, memory }) = &state.disk_copy {
        number.fold(|bits| {
            bits.put(*of as u8, 2);
            bits.put(data.role as u8, 1);
            bits.put(data.torn, 1);
            bits.put(data.primary_since, 3);
            bits.put(data.recruited, 1);
            bits.put(data.upstream as u8, 2);
            bits.put(data.history, 3);
            bits.put(data.configured.bits(), 3);
            data.log.commits().for_each(|commit| bits.put(commit, 3));
            bits.stamp(memory.promise);
            bits.put(memory.noted.bits(), 3);
            bits.put(memory.vouched, 1);
        });
        number.fold(|bits| bits.notes(&memory.notes));
    }
}

/// Multiply and fold, each number in turn.
struct Fold(u64);

impl Fold {
    fn fold(&mut self, fill: impl FnOnce(&mut Bits)) {
        let mut bits = Bits::default();
        fill(&mut bits);
        let mut mixed = (self.0 ^ bits.filled).wrapping_add(0x9e37_79b9_7f4a_7c15);
        for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
        }
        self.0 = mixed ^ (mixed >> 31);
    }
}
