//! One host: a server, and a member with its agent and its endpoint.

use std::collections::BTreeMap;

use locum::{
    endpoint::routing::Table,
    model::{
        Driver, EndpointFacts, EndpointKind, EndpointName, Known, MemberFacts, Mono, NodeId, Note, Noted,
        Reply, RouteOrder, Stamp,
    },
};

use super::{
    Tick,
    agent::Agent,
    checks::{Checks, Term, term},
    guard::Guard,
    network::{Envelope, Looked},
    node,
    postgres::{Conninfo, Pg},
};

/// Whether the member runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Up,
    Frozen(Tick),
    Dead(Tick),
}

pub(crate) struct Host {
    /// It has a PostgreSQL; a witness has none, and its server stays down.
    pub(crate) serves: bool,
    pub(crate) clock: HostClock,
    pub(crate) pg: Pg,
    pub(crate) guard: Guard,
    pub(crate) agent: Agent,
    pub(crate) table: Table,
    pub(crate) life: Life,
    /// What came while the member was frozen.
    pub(crate) kept: Vec<Envelope>,
    pub(crate) tell_at: Tick,
    /// Grows with every start of the member.
    pub(crate) lives: u64,
    /// What its member knows of the store, and what the file says of it, which is written a little later.
    pub(crate) remembered: Known,
    pub(crate) remembered_on_disk: Known,
    /// What a primary told it while the store had left that one alone, and what is written of it, and when that was.
    pub(crate) noted: Option<Noted>,
    pub(crate) note_on_disk: Option<Note>,
    pub(crate) noted_at: Tick,
    looked: Option<Looked>,
    pub(crate) looked_on_disk: Option<Looked>,
    /// When renewals of the lease were last written there.
    pub(crate) counted_at: Tick,
    /// The member was told to stop in order, and when it is started again.
    pub(crate) stopping: Option<Tick>,
    /// Under which stamp it was last primary, whatever its disk says.
    pub(crate) served: Option<Stamp>,
    /// The host is off, and its member is started when it is on again.
    pub(crate) boots: bool,
    /// How far the wall clock is off, in ticks.
    pub(crate) wall_off: i64,
}

/// A host's boot-time clock. Two of them have nothing to do with each other, and neither is exact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostClock {
    base: u64,
    /// Microseconds that it counts in a tick.
    rate: u64,
}

impl HostClock {
    pub(crate) const fn new(host: usize, rate: u64) -> Self {
        Self { base: 100_000_000 + host as u64 * 7_777_777, rate }
    }

    pub(crate) const fn at(self, now: Tick) -> Mono {
        Mono(self.base + now * self.rate)
    }
}

impl Host {
    pub(crate) fn new(
        host: usize,
        serves: bool,
        clock: HostClock,
        agent: Agent,
        from: Option<Conninfo>,
    ) -> Self {
        debug_assert_eq!(agent.host, host, "an agent knows its host");
        let mut pg = Pg::new(from);
        if !serves {
            pg.kill(0);
        }
        Self {
            serves,
            clock,
            pg,
            guard: Guard::new(host),
            agent,
            table: Table::new(EndpointKind::Primary),
            life: Life::Up,
            kept: Vec::new(),
            tell_at: 0,
            lives: 0,
            remembered: Known::default(),
            remembered_on_disk: Known::default(),
            noted: None,
            note_on_disk: None,
            noted_at: 0,
            looked: None,
            looked_on_disk: None,
            counted_at: 0,
            stopping: None,
            served: None,
            boots: false,
            wall_off: 0,
        }
    }

    pub(crate) fn term(&self) -> Term {
        term(self.served.unwrap_or_default())
    }

    /// A primary tells how far everybody is.
    pub(crate) fn take_note(&mut self, note: Note, looked: Option<Looked>) {
        self.looked = looked.filter(|_| note.reached.is_some()).or(self.looked);
        let note = note.over(self.noted.take().map(|noted| noted.note));
        self.noted = Some(Noted { note, watched: true });
    }

    /// What it was told is written behind, once a second at most.
    pub(crate) fn keep_note(&mut self, now: Tick) {
        let told = self.noted.as_ref().map(|noted| &noted.note);
        if told != self.note_on_disk.as_ref() && now >= self.noted_at + 100 {
            (self.note_on_disk, self.noted_at, self.looked_on_disk) = (told.cloned(), now, self.looked);
        }
    }

    pub(crate) fn wall(&self, now: Tick) -> i64 {
        i64::try_from(now).unwrap_or(i64::MAX).saturating_add(self.wall_off)
    }

    /// Carries out an order to the endpoint.
    pub(crate) fn route(&mut self, stamp: Stamp, order: RouteOrder, checks: &mut Checks) -> Reply {
        let target = match &order {
            RouteOrder::Point { node, .. } => Some(node.clone()),
            RouteOrder::Hold | RouteOrder::Cut => None,
        };
        match self.table.apply(stamp, order) {
            Ok(_) => {
                checks.routed(self.agent.host, self.table.stamp(), target.as_ref());
                self.agent.changed = true;
                Reply::Done
            }
            Err(refusal) => Reply::Refused(refusal.to_string()),
        }
    }

    /// What its member tells others.
    pub(crate) fn facts(&self, hears: BTreeMap<NodeId, Mono>, now: Tick) -> MemberFacts {
        let name = EndpointName::new("db").expect("a good name");
        MemberFacts {
            node: node(self.agent.host),
            sent_at: self.clock.at(now),
            left: self.clock.at(now),
            remembered: self.remembered.stamp,
            renewals: self.remembered.renewals,
            noted: self.noted.clone(),
            hears,
            agent: self.serves.then(|| self.agent.facts(self.guard.facts(self.pg.held, now))),
            endpoints: BTreeMap::from([(name, self.endpoint())]),
        }
    }

    fn endpoint(&self) -> EndpointFacts {
        EndpointFacts {
            kind: EndpointKind::Primary,
            listen: String::new(),
            stamp: self.table.stamp(),
            target: self.table.target().map(|target| target.node.clone()),
            mode: self.table.mode(),
            open: 0,
            held: 0,
            cut_total: 0,
            held_total: 0,
            refused_total: 0,
            last_server_byte: None,
            last_byte_before: None,
            driver: Driver::Proxy,
            repoint: None,
            problem: None,
            traffic: locum::model::Traffic::default(),
        }
    }
}
