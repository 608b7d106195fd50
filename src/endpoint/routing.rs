//! The routing table: which orders count, and what each one changes. Pure: no I/O, no clock, no connections.
//!
//! Rules (SAFETY: epochs only grow, at every target that remembers):
//! * a stamp below the last one taken changes nothing;
//! * for the primary, one epoch leads to one node only; a second one is refused, whatever its version;
//! * for the app, which may move within an epoch, one exact stamp leads to one node only;
//! * the same order with the same stamp again changes nothing, except that a `Point` ends parking.

use crate::model::{EndpointKind, Mode, NodeId, RouteOrder, Stamp};

/// Whom an endpoint leads to, and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// Its address, `host:port`.
    pub address: String,
}

/// An order that is refused. The table is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Decided on an intent that has been replaced since.
    #[error("stale: stamp {got} is below {last}, the last one taken here")]
    Stale {
        /// The order's stamp.
        got: Stamp,
        /// The last stamp taken.
        last: Stamp,
    },
    /// Two nodes under one epoch (primary), or under one exact stamp (app).
    #[error("{got} already leads to {present} here; it cannot lead to {asked} too")]
    SecondNode {
        /// The order's stamp.
        got: Stamp,
        /// The node that it leads to.
        present: NodeId,
        /// The node that was asked for.
        asked: NodeId,
    },
}

/// What an order that was taken asks of the proxy. The default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Anything that facts show has changed; whoever waits looks again.
    pub changed: bool,
    /// Existing connections are to be closed.
    pub cut: bool,
    /// A new life of the target begins: another target, or the same one after its connections were cut.
    pub reborn: bool,
    /// Parked connections flow again.
    pub unpark: bool,
}

/// What an endpoint was told.
#[derive(Clone, Debug)]
pub struct Table {
    kind: EndpointKind,
    stamp: Stamp,
    mode: Mode,
    target: Option<Target>,
    /// The target's connections were cut since it was last pointed to.
    severed: bool,
    /// The last `Point` that was taken: what a second node is judged against.
    pointed: Option<(Stamp, NodeId)>,
}

impl Table {
    /// A table that leads nowhere: new connections wait for the first order.
    #[must_use]
    pub fn new(kind: EndpointKind) -> Self {
        Self {
            kind,
            stamp: Stamp::default(),
            mode: Mode::Holding,
            target: None,
            severed: false,
            pointed: None,
        }
    }

    /// The last stamp taken.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether new connections get through.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whom it leads to. Under `Hold` and `Cut`: whom it led to last.
    #[must_use]
    pub const fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// Takes an order, and says what it asks of the proxy.
    ///
    /// # Errors
    /// [`Refusal`] if the order does not count; nothing has changed then.
    pub fn apply(&mut self, stamp: Stamp, order: RouteOrder) -> Result<Effects, Refusal> {
        self.admit(stamp)?;
        let newer = stamp > self.stamp;
        let effects = match order {
            RouteOrder::Point { node, address } => self.point(stamp, Target { node, address })?,
            RouteOrder::Hold => self.close_for_new(Mode::Holding, newer),
            RouteOrder::Cut => self.close_for_new(Mode::Cut, newer),
        };
        self.stamp = stamp;
        Ok(Effects { changed: effects.changed || newer, ..effects })
    }

    /// Takes the stamp of a parking, which is an effect like any other but leaves the route as it is.
    ///
    /// # Errors
    /// [`Refusal::Stale`] if the stamp is below the last one taken.
    pub fn park(&mut self, stamp: Stamp) -> Result<(), Refusal> {
        self.admit(stamp)?;
        self.stamp = stamp;
        Ok(())
    }

    fn admit(&self, got: Stamp) -> Result<(), Refusal> {
        if got < self.stamp { Err(Refusal::Stale { got, last: self.stamp }) } else { Ok(()) }
    }

    fn point(&mut self, stamp: Stamp, target: Target) -> Result<Effects, Refusal> {
        if let Some((before, present)) = &self.pointed {
            let bound = match self.kind {
                EndpointKind::Primary => before.same_epoch(stamp),
                EndpointKind::Standbys | EndpointKind::App | EndpointKind::Apps => *before == stamp,
            };
            if bound && *present != target.node {
                let (present, asked) = (present.clone(), target.node);
                return Err(Refusal::SecondNode { got: stamp, present, asked });
            }
        }
        let moved = self.target.as_ref() != Some(&target);
        let effects = Effects {
            changed: moved || self.mode != Mode::Open,
            cut: moved && self.target.is_some(),
            reborn: moved || self.severed,
            unpark: true,
        };
        self.pointed = Some((stamp, target.node.clone()));
        self.mode = Mode::Open;
        self.severed = false;
        self.target = Some(target);
        Ok(effects)
    }

    /// A repeated `Hold` must not end a parking that came between: it may be the network's copy of the first one.
    fn close_for_new(&mut self, mode: Mode, newer: bool) -> Effects {
        let changed = self.mode != mode;
        let cut = changed && mode == Mode::Cut;
        self.mode = mode;
        self.severed |= cut;
        Effects { changed, cut, reborn: false, unpark: changed || newer }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail that way")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Epoch, Incarnation, Version};

    fn stamp(epoch: u64, version: u64) -> Stamp {
        Stamp { incarnation: Incarnation(1), epoch: Epoch(epoch), version: Version(version) }
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn point(name: &str) -> RouteOrder {
        RouteOrder::Point { node: node(name), address: format!("{name}:5432") }
    }

    fn primary() -> Table {
        Table::new(EndpointKind::Primary)
    }

    #[test]
    fn a_stale_order_is_refused_and_changes_nothing() {
        let mut table = primary();
        table.apply(stamp(2, 5), point("seoul")).unwrap();
        for late in [stamp(1, 99), stamp(2, 4)] {
            let refusal = Err(Refusal::Stale { got: late, last: stamp(2, 5) });
            assert_eq!(table.apply(late, RouteOrder::Cut), refusal);
            assert_eq!(table.apply(late, point("busan")), refusal);
            assert_eq!(table.park(late).map(|()| Effects::default()), refusal);
        }
        assert_eq!((table.mode(), table.stamp()), (Mode::Open, stamp(2, 5)));
    }

    #[test]
    fn a_parking_counts_as_the_last_order() {
        let mut table = primary();
        table.apply(stamp(1, 1), point("seoul")).unwrap();
        table.park(stamp(1, 3)).unwrap();
        assert!(matches!(table.apply(stamp(1, 2), RouteOrder::Hold), Err(Refusal::Stale { .. })));
        assert!(matches!(table.park(stamp(1, 2)), Err(Refusal::Stale { .. })));
        assert_eq!((table.stamp(), table.mode()), (stamp(1, 3), Mode::Open));
    }

    #[test]
    fn the_same_order_again_asks_for_nothing() {
        let mut table = primary();
        for (version, order) in [(1, RouteOrder::Hold), (2, RouteOrder::Cut)] {
            table.apply(stamp(1, version), order.clone()).unwrap();
            assert_eq!(table.apply(stamp(1, version), order), Ok(Effects::default()));
        }
        table.apply(stamp(1, 3), point("seoul")).unwrap();
        let again = table.apply(stamp(1, 3), point("seoul"));
        assert_eq!(again, Ok(Effects { unpark: true, ..Effects::default() }));
    }

    #[test]
    fn within_one_version_a_point_may_follow_a_hold() {
        let mut table = primary();
        table.apply(stamp(1, 1), point("seoul")).unwrap();
        table.apply(stamp(1, 2), RouteOrder::Hold).unwrap();
        let back = table.apply(stamp(1, 2), point("seoul")).unwrap();
        assert_eq!(back, Effects { changed: true, cut: false, reborn: false, unpark: true });
    }

    #[test]
    fn pointing_elsewhere_cuts_and_pointing_to_the_same_place_does_not() {
        let mut table = primary();
        assert!(!table.apply(stamp(1, 1), point("seoul")).unwrap().cut, "there was nothing to cut");
        let same = table.apply(stamp(2, 2), point("seoul")).unwrap();
        assert_eq!((same.changed, same.cut, same.reborn), (true, false, false));
        let moved = table.apply(stamp(3, 3), point("busan")).unwrap();
        assert_eq!((moved.cut, moved.reborn), (true, true));
        let address = RouteOrder::Point { node: node("busan"), address: "busan:6000".into() };
        assert!(table.apply(stamp(3, 4), address).unwrap().cut, "another address is another target");
    }

    #[test]
    fn the_same_target_after_a_cut_is_a_new_life() {
        let mut table = primary();
        table.apply(stamp(1, 1), point("seoul")).unwrap();
        assert!(table.apply(stamp(2, 2), RouteOrder::Cut).unwrap().cut);
        table.apply(stamp(2, 3), RouteOrder::Hold).unwrap();
        let back = table.apply(stamp(2, 4), point("seoul")).unwrap();
        assert_eq!((back.cut, back.reborn), (false, true));
    }

    #[test]
    fn a_second_primary_in_one_epoch_is_refused_at_any_version() {
        let mut table = primary();
        table.apply(stamp(2, 1), point("seoul")).unwrap();
        let before = table.target().cloned();
        let refused = table.apply(stamp(2, 9), point("busan"));
        assert!(matches!(refused, Err(Refusal::SecondNode { .. })), "{refused:?}");
        assert_eq!((table.target().cloned(), table.stamp()), (before, stamp(2, 1)));
        assert!(table.apply(stamp(3, 2), point("busan")).is_ok());
    }

    #[test]
    fn an_app_may_move_within_an_epoch_but_not_within_a_stamp() {
        let mut table = Table::new(EndpointKind::App);
        table.apply(stamp(2, 1), point("seoul")).unwrap();
        assert!(table.apply(stamp(2, 1), point("busan")).is_err());
        assert!(table.apply(stamp(2, 2), point("busan")).unwrap().cut);
    }

    #[test]
    fn a_repeated_hold_leaves_parked_connections_parked() {
        let mut table = primary();
        table.apply(stamp(1, 1), RouteOrder::Hold).unwrap();
        table.park(stamp(1, 1)).unwrap();
        assert!(!table.apply(stamp(1, 1), RouteOrder::Hold).unwrap().unpark);
        assert!(table.apply(stamp(1, 2), RouteOrder::Hold).unwrap().unpark);
    }

    fn orders() -> impl Strategy<Value = Vec<(Stamp, RouteOrder)>> {
        let stamps = (1..3u64, 1..4u64, 1..4u64).prop_map(|(incarnation, epoch, version)| Stamp {
            incarnation: Incarnation(incarnation),
            epoch: Epoch(epoch),
            version: Version(version),
        });
        let order = prop_oneof![
            Just(RouteOrder::Hold),
            Just(RouteOrder::Cut),
            Just(point("seoul")),
            Just(point("busan")),
            Just(point("jeju")),
        ];
        prop::collection::vec((stamps, order), 0..40)
    }

    proptest! {
        #[test]
        fn stamps_only_grow_and_late_orders_change_nothing(orders in orders()) {
            let mut table = primary();
            for (stamp, order) in orders {
                let before = table.clone();
                let taken = table.apply(stamp, order);
                prop_assert!(table.stamp() >= before.stamp());
                if stamp < before.stamp() {
                    prop_assert!(taken.is_err());
                }
                if taken.is_err() {
                    prop_assert_eq!(format!("{table:?}"), format!("{before:?}"));
                } else {
                    prop_assert_eq!(table.stamp(), stamp);
                }
            }
        }

        #[test]
        fn no_epoch_ever_leads_to_two_primaries(orders in orders()) {
            let mut table = primary();
            let mut led = std::collections::BTreeMap::new();
            for (stamp, order) in orders {
                if table.apply(stamp, order.clone()).is_ok() && let RouteOrder::Point { node, .. } = order {
                    let first = led.entry((stamp.incarnation, stamp.epoch)).or_insert(node.clone());
                    prop_assert_eq!(&*first, &node);
                }
            }
        }

        #[test]
        fn whoever_was_connected_elsewhere_is_cut(orders in orders()) {
            let mut table = primary();
            for (stamp, order) in orders {
                let before = table.target().cloned();
                let Ok(effects) = table.apply(stamp, order) else { continue };
                if before.is_some() && before.as_ref() != table.target() {
                    prop_assert!(effects.cut && effects.reborn);
                }
            }
        }
    }
}
