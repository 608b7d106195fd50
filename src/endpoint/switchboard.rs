//! What the accept loop, the connections and the orders share: the table, the target's life, every open connection.
//!
//! One mutex covers them, so that no connection can be opened to a target that an order has just left. It is held for
//! plain memory operations only.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    gate::{Flow, Gate},
    life::Life,
    routing::{Effects, Refusal, Table},
};
use crate::{
    config,
    model::{Driver, EndpointFacts, EndpointKind, EndpointName, Mode, Mono, Repoint, RouteOrder, Stamp},
    ports::Clock,
};

/// What those who wait look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    /// The life that new connections go to; None: they wait.
    pub(super) open: Option<Arc<Life>>,
    /// The endpoint is closed.
    pub(super) closed: bool,
}

pub(super) struct Switchboard {
    pub(super) name: EndpointName,
    pub(super) kind: EndpointKind,
    pub(super) clock: Arc<dyn Clock>,
    /// How long a connection may wait.
    pub(super) hold: Duration,
    max_held: u64,
    state: Mutex<State>,
    routes: watch::Sender<Route>,
    changes: watch::Sender<u64>,
    held: AtomicU64,
    held_total: AtomicU64,
    refused_total: AtomicU64,
}

struct State {
    table: Table,
    life: Option<Arc<Life>>,
    last_byte_before: Option<Mono>,
    links: BTreeMap<u64, Arc<Wire>>,
    next_link: u64,
    cut_total: u64,
    closed: bool,
    repoint: Option<Repoint>,
}

/// What an order can do to an open connection.
#[derive(Debug)]
struct Wire {
    /// The local port toward the server.
    port: u16,
    gate: Gate,
    /// The server has answered the client: the connection cannot start over elsewhere any more.
    settled: AtomicBool,
}

/// An open connection's place on the switchboard; dropping it takes it off.
pub(super) struct Link {
    pub(super) life: Arc<Life>,
    board: Arc<Switchboard>,
    wire: Arc<Wire>,
    id: u64,
}

/// A place among those who wait; dropping it gives it back.
pub(super) struct Slot(Arc<Switchboard>);

impl Switchboard {
    pub(super) fn new(config: &config::Endpoint, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            table: Table::new(config.target),
            life: None,
            last_byte_before: None,
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
            max_held: config.max_held as u64,
            state: Mutex::new(state),
            routes: watch::Sender::default(),
            changes: watch::Sender::default(),
            held: AtomicU64::new(0),
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
        let open = state.life.clone().filter(|_| state.table.mode() == Mode::Open);
        self.routes.send_replace(Route { open, closed: state.closed });
    }

    pub(super) fn bump(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Puts a new connection on the board. None: the route has changed since `life` was read.
    pub(super) fn link(self: &Arc<Self>, life: &Arc<Life>, port: u16) -> Option<Link> {
        let mut state = self.state();
        let present = state.life.as_ref().is_some_and(|present| Arc::ptr_eq(present, life));
        if state.closed || !present || state.table.mode() != Mode::Open {
            return None;
        }
        let id = state.next_link;
        state.next_link += 1;
        let wire = Arc::new(Wire { port, gate: Gate::new(), settled: AtomicBool::new(false) });
        state.links.insert(id, Arc::clone(&wire));
        Some(Link { life: Arc::clone(life), board: Arc::clone(self), wire, id })
    }

    /// A place among those who wait, if there is one.
    pub(super) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let more = |held: u64| (held < self.max_held).then_some(held + 1);
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Slot(Arc::clone(self)))
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
            mode: state.table.mode(),
            open: state.links.len() as u64,
            held: self.held.load(Ordering::Relaxed),
            cut_total: state.cut_total,
            held_total: self.held_total.load(Ordering::Relaxed),
            refused_total: self.refused_total.load(Ordering::Relaxed),
            last_server_byte: state.life.as_ref().and_then(|life| life.last_byte()),
            last_byte_before: state.last_byte_before,
            driver: Driver::Proxy,
            repoint: state.repoint.clone(),
            problem: None,
        }
    }
}

impl State {
    fn carry_out(&mut self, effects: Effects) {
        if effects.cut {
            for wire in self.links.values() {
                if wire.gate.set(Flow::Severed) && wire.settled.load(Ordering::Relaxed) {
                    self.cut_total += 1;
                }
            }
        } else if effects.unpark {
            for wire in self.links.values() {
                wire.gate.set(Flow::Through);
            }
        }
        if effects.reborn {
            // A life that never answered tells nothing of when service was last there; the one before it does.
            let ended = self.life.take().and_then(|life| life.last_byte());
            self.last_byte_before = ended.or(self.last_byte_before);
            self.life = self.table.target().cloned().map(|target| Arc::new(Life::new(target)));
        }
    }
}

impl Link {
    pub(super) fn gate(&self) -> &Gate {
        &self.wire.gate
    }

    /// The server has answered, or the client has said too much to start over.
    pub(super) fn settle(&self) {
        self.wire.settled.store(true, Ordering::Relaxed);
    }

    /// Notes a byte from the server.
    pub(super) fn heard(&self) {
        self.life.heard(self.board.clock.now());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.board.state().links.remove(&self.id);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}
