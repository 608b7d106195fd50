//! What the accept loop, the connections and the orders share: the table, the targets' lives, every open connection.
//!
//! One mutex covers them, so that no connection can be opened to a target that an order has just left. It is held for
//! plain memory operations only.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    balance::{self, Offer, Seat},
    gate::{Flow, Gate},
    life::{Life, Meter},
    queue::Queue,
    routing::{Effects, Refusal, Table, Target},
};
use crate::{
    config,
    model::{
        Driver, EndpointFacts, EndpointKind, EndpointName, Mode, Mono, NodeId, Repoint, RouteOrder, Stamp,
        TargetTraffic, Traffic,
    },
    ports::Clock,
};

/// What those who wait look at. Whoever sees it change asks for its target again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Route {
    /// The endpoint takes nobody any more.
    pub(super) closed: bool,
}

pub(super) struct Switchboard {
    pub(super) name: EndpointName,
    pub(super) kind: EndpointKind,
    pub(super) clock: Arc<dyn Clock>,
    /// How long a connection may wait.
    pub(super) hold: Duration,
    pub(super) tuning: config::Tuning,
    /// Those who wait.
    pub(super) queue: Arc<Queue>,
    state: Mutex<State>,
    routes: watch::Sender<Route>,
    changes: watch::Sender<u64>,
    /// The last connection was taken off.
    emptied: Notify,
    held_total: AtomicU64,
    refused_total: AtomicU64,
}

struct State {
    table: Table,
    /// Where orders lead.
    life: Option<Arc<Life>>,
    /// Where a balanced endpoint leads.
    pool: Vec<Chair>,
    meters: BTreeMap<NodeId, Arc<Meter>>,
    last_byte_before: Option<Mono>,
    longest_gap_us: Option<u64>,
    links: BTreeMap<u64, Arc<Wire>>,
    next_link: u64,
    cut_total: u64,
    closed: bool,
    repoint: Option<Repoint>,
}

/// A target of a balanced endpoint, and its place in the turn.
struct Chair {
    life: Arc<Life>,
    credit: i64,
}

/// What an order can do to an open connection.
#[derive(Debug)]
struct Wire {
    life: Arc<Life>,
    /// The local port toward the server.
    port: u16,
    gate: Gate,
    /// The server has answered the client: the connection cannot start over elsewhere any more.
    settled: AtomicBool,
}

/// An open connection's place on the switchboard; dropping it takes it off.
pub(super) struct Link {
    board: Arc<Switchboard>,
    wire: Arc<Wire>,
    id: u64,
}

impl Switchboard {
    pub(super) fn new(config: &config::Endpoint, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            table: Table::new(config.target),
            life: None,
            pool: Vec::new(),
            meters: BTreeMap::new(),
            last_byte_before: None,
            longest_gap_us: None,
            links: BTreeMap::new(),
            next_link: 0,
            cut_total: 0,
            closed: false,
            repoint: None,
        };
        Self {
            name: config.name.clone(),
            kind: config.target,
            clock,
            hold: config.hold,
            tuning: config.tuning.clone(),
            queue: Arc::new(Queue::new(config.max_held)),
            state: Mutex::new(state),
            routes: watch::Sender::default(),
            changes: watch::Sender::default(),
            emptied: Notify::new(),
            held_total: AtomicU64::new(0),
            refused_total: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn routes(&self) -> watch::Receiver<Route> {
        self.routes.subscribe()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes an order. When this returns, nothing passes any more that the order forbids.
    pub(super) fn order(&self, stamp: Stamp, order: RouteOrder) -> Result<(), Refusal> {
        let mut state = self.state();
        let points = matches!(order, RouteOrder::Point { .. });
        let effects = state.table.apply(stamp, order)?;
        state.carry_out(effects);
        if points && effects.changed {
            let now = self.clock.now();
            state.repoint = Some(Repoint { under: stamp, began: now, confirmed: Some(now), given_up: false });
        }
        self.publish(&state);
        drop(state);
        if effects.changed {
            self.bump();
        }
        Ok(())
    }

    /// Parks the connections that have these local ports toward the server; all others flow.
    pub(super) fn park(&self, stamp: Stamp, ports: &BTreeSet<u16>) -> Result<(), Refusal> {
        let mut state = self.state();
        state.table.park(stamp)?;
        for wire in state.links.values() {
            wire.gate.set(if ports.contains(&wire.port) { Flow::Parked } else { Flow::Through });
        }
        Ok(())
    }

    /// True if it leads to several at once, and follows instead of being ordered.
    pub(super) const fn is_balanced(&self) -> bool {
        matches!(self.kind, EndpointKind::Standbys | EndpointKind::Apps)
    }

    /// True if what its targets say first is PostgreSQL's greeting.
    pub(super) const fn speaks_postgresql(&self) -> bool {
        matches!(self.kind, EndpointKind::Primary | EndpointKind::Standbys)
    }

    /// Leads new connections to these targets from now on, and cuts the connections that are not to be kept.
    pub(super) fn offer(&self, offer: &Offer) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let gone = |wire: &&Arc<Wire>| !offer.keep.contains(&wire.life.target.node);
        let cut = state.links.values().filter(gone).filter(|wire| wire.sever()).count();
        state.cut_total += cut as u64;
        let changed = state.seat(&offer.serve);
        self.publish(&state);
        drop(state);
        if changed || cut > 0 {
            self.bump();
        }
    }

    /// The life that the next new connection goes to; None: it waits.
    pub(super) fn pick(&self) -> Option<Arc<Life>> {
        let mut state = self.state();
        if !self.is_balanced() {
            return state.life.clone().filter(|_| state.table.mode() == Mode::Open);
        }
        let mut seats: Vec<Seat> = state.pool.iter().map(Chair::seat).collect();
        let chosen = balance::next(self.tuning.balance, &mut seats)?;
        for (chair, seat) in state.pool.iter_mut().zip(seats) {
            chair.credit = seat.credit;
        }
        state.pool.get(chosen).map(|chair| Arc::clone(&chair.life))
    }

    /// A target takes connections. Of several, others who wait may have to look again.
    pub(super) fn accepts(&self, life: &Life) {
        if life.accepts() && self.is_balanced() {
            self.routes.send_modify(|_| ());
        }
    }

    /// Takes nobody any more, and waits until the open connections have ended, but no longer than `limit`.
    pub(super) async fn drain(&self, limit: Duration) {
        let mut emptied = pin!(self.emptied.notified());
        emptied.as_mut().enable();
        let empty = {
            let mut state = self.state();
            state.closed = true;
            self.publish(&state);
            state.links.is_empty()
        };
        if !empty && !limit.is_zero() && timeout(limit, emptied).await.is_err() {
            tracing::info!(endpoint = %self.name, open = self.state().links.len(), "connections are cut: the time to drain is over");
        }
    }

    /// Severs everything and sends everybody away.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for wire in state.links.values() {
            wire.gate.set(Flow::Severed);
        }
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        self.routes.send_replace(Route { closed: state.closed });
    }

    pub(super) fn bump(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Puts a new connection on the board. None: the route has changed since `life` was read.
    pub(super) fn link(self: &Arc<Self>, life: &Arc<Life>, port: u16) -> Option<Link> {
        let mut state = self.state();
        let is_life = |present: &Arc<Life>| Arc::ptr_eq(present, life);
        let open = if self.is_balanced() {
            state.pool.iter().any(|chair| is_life(&chair.life))
        } else {
            state.life.as_ref().is_some_and(is_life) && state.table.mode() == Mode::Open
        };
        if state.closed || !open {
            return None;
        }
        let id = state.next_link;
        state.next_link += 1;
        let (life, gate) = (Arc::clone(life), Gate::new());
        life.meter.open.fetch_add(1, Ordering::Relaxed);
        let wire = Arc::new(Wire { life, port, gate, settled: AtomicBool::new(false) });
        state.links.insert(id, Arc::clone(&wire));
        Some(Link { board: Arc::clone(self), wire, id })
    }

    /// Counts a connection that waited and is served now.
    pub(super) fn count_served(&self) {
        self.held_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that was given up.
    pub(super) fn count_refused(&self) {
        self.refused_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn facts(&self, listen: &str) -> EndpointFacts {
        let state = self.state();
        EndpointFacts {
            kind: self.kind,
            listen: listen.to_owned(),
            stamp: state.table.stamp(),
            target: state.table.target().map(|target| target.node.clone()),
            mode: match self.is_balanced() {
                false => state.table.mode(),
                true if state.pool.is_empty() => Mode::Holding,
                true => Mode::Open,
            },
            open: state.links.len() as u64,
            held: self.queue.len() as u64,
            cut_total: state.cut_total,
            held_total: self.held_total.load(Ordering::Relaxed),
            refused_total: self.refused_total.load(Ordering::Relaxed),
            last_server_byte: state.lives().filter_map(|life| life.last_byte()).max(),
            last_byte_before: state.last_byte_before,
            driver: Driver::Proxy,
            repoint: state.repoint.clone(),
            problem: None,
            traffic: Traffic {
                longest_gap_us: state.longest_gap_us(),
                last_gap_us: state.last_gap_us(),
                targets: state.targets(),
            },
        }
    }
}

impl Chair {
    fn seat(&self) -> Seat {
        Seat {
            well_ms: u64::try_from(self.life.well_for().as_millis()).unwrap_or(u64::MAX),
            refusing: self.life.is_refusing(),
            open: self.life.meter.open.load(Ordering::Relaxed),
            credit: self.credit,
        }
    }
}

impl Wire {
    /// Severs it. True if its client loses a connection that had been answered.
    fn sever(&self) -> bool {
        self.gate.set(Flow::Severed) && self.settled.load(Ordering::Relaxed)
    }
}

impl State {
    fn carry_out(&mut self, effects: Effects) {
        if effects.cut {
            for wire in self.links.values() {
                if wire.sever() {
                    self.cut_total += 1;
                }
            }
        } else if effects.unpark {
            for wire in self.links.values() {
                wire.gate.set(Flow::Through);
            }
        }
        if effects.reborn {
            self.longest_gap_us = self.longest_gap_us();
            // A life that never answered tells nothing of when service was last there; the one before it does.
            let ended = self.life.take().and_then(|life| life.last_byte());
            self.last_byte_before = ended.or(self.last_byte_before);
            self.life = self.table.target().cloned().map(|target| self.begin(target));
        }
    }

    fn begin(&mut self, target: Target) -> Arc<Life> {
        let meter = Arc::clone(self.meters.entry(target.node.clone()).or_default());
        Arc::new(Life::new(target, meter))
    }

    /// Puts these targets into the pool; who was there stays as it is. True if anything has changed.
    fn seat(&mut self, serve: &[Target]) -> bool {
        let mut before = std::mem::take(&mut self.pool);
        let mut changed = false;
        for target in serve {
            let place = before.iter().position(|chair| chair.life.target == *target);
            changed |= place.is_none();
            let chair = match place {
                Some(place) => before.swap_remove(place),
                None => Chair { life: self.begin(target.clone()), credit: 0 },
            };
            self.pool.push(chair);
        }
        changed || !before.is_empty()
    }

    fn lives(&self) -> impl Iterator<Item = &Arc<Life>> {
        self.life.iter().chain(self.pool.iter().map(|chair| &chair.life))
    }

    fn last_gap_us(&self) -> Option<u64> {
        let first = self.life.as_ref()?.first_byte()?;
        Some(first.0.saturating_sub(self.last_byte_before?.0))
    }

    fn longest_gap_us(&self) -> Option<u64> {
        self.last_gap_us().max(self.longest_gap_us)
    }

    fn targets(&self) -> Vec<TargetTraffic> {
        let ordered = self.life.iter().filter(|_| self.table.mode() == Mode::Open);
        let serving: BTreeSet<&NodeId> =
            ordered.chain(self.pool.iter().map(|chair| &chair.life)).map(|life| &life.target.node).collect();
        let target = |(node, meter): (&NodeId, &Arc<Meter>)| TargetTraffic {
            node: node.clone(),
            serving: serving.contains(node),
            open: meter.open.load(Ordering::Relaxed),
            bytes_up: meter.bytes_up.load(Ordering::Relaxed),
            bytes_down: meter.bytes_down.load(Ordering::Relaxed),
        };
        self.meters.iter().map(target).collect()
    }
}

impl Link {
    pub(super) fn gate(&self) -> &Gate {
        &self.wire.gate
    }

    pub(super) fn life(&self) -> &Arc<Life> {
        &self.wire.life
    }

    /// The idle deadline, if there is one.
    pub(super) fn idle(&self) -> Option<Duration> {
        self.board.tuning.idle
    }

    /// The server has answered, or the client has said too much to start over.
    pub(super) fn settle(&self) {
        self.wire.settled.store(true, Ordering::Relaxed);
    }

    /// Notes bytes from the client.
    pub(super) fn said(&self, bytes: u64) {
        self.wire.life.meter.bytes_up.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes bytes from the server, and when they came.
    pub(super) fn heard(&self, bytes: u64) {
        self.wire.life.meter.bytes_down.fetch_add(bytes, Ordering::Relaxed);
        self.wire.life.heard(self.board.clock.now());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.wire.life.meter.open.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.board.state();
        state.links.remove(&self.id);
        if state.links.is_empty() {
            self.board.emptied.notify_waiters();
        }
    }
}
