//! One host: a server, and a member with its agent and its endpoint.

use std::collections::BTreeMap;

use locum::{
    endpoint::routing::Table,
    model::{EndpointFacts, EndpointKind, EndpointName, MemberFacts, Mono, Reply, RouteOrder, Stamp},
};

use super::{
    Tick,
    agent::Agent,
    checks::Checks,
    network::Envelope,
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
    pub(crate) pg: Pg,
    pub(crate) agent: Agent,
    pub(crate) table: Table,
    pub(crate) life: Life,
    /// What came while the member was frozen.
    pub(crate) kept: Vec<Envelope>,
    pub(crate) tell_at: Tick,
    /// Grows with every start of the member.
    pub(crate) lives: u64,
}

/// The clocks of two hosts have nothing to do with each other.
pub(crate) const fn clock(host: usize, now: Tick) -> Mono {
    Mono(100_000_000 + now * 10_000 + host as u64 * 7_777_777)
}

impl Host {
    pub(crate) fn new(host: usize, agent: Agent, from: Option<Conninfo>) -> Self {
        debug_assert_eq!(agent.host, host, "an agent knows its host");
        Self {
            pg: Pg::new(from),
            agent,
            table: Table::new(EndpointKind::Primary),
            life: Life::Up,
            kept: Vec::new(),
            tell_at: 0,
            lives: 0,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.agent.disk.primary_since.map_or(1, |since| since.epoch.0)
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
    pub(crate) fn facts(&self, now: Tick) -> MemberFacts {
        let name = EndpointName::new("db").expect("a good name");
        MemberFacts {
            node: node(self.agent.host),
            sent_at: clock(self.agent.host, now),
            agent: Some(self.agent.facts()),
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
        }
    }
}
