//! A state as a few packed numbers, and those as one. Searches spend most of their time here.
//!
//! Packing loses nothing: each field has the bits that its bounds need, and one that does not fit is a panic.

use crate::{
    node::{Node, Proof},
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
    if let Some(copy) = &state.copy {
        number.fold(|bits| {
            bits.put(1_u8, 1);
            bits.intent(copy);
        });
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
