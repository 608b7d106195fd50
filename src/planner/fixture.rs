//! A healthy pair to start from: tests change what they are about.

use std::{collections::BTreeMap, time::Duration};

use crate::model::{
    AccessFacts, AgentFacts, AppFacts, Control, ControlState, Down, Driver, Durability, EndpointFacts,
    EndpointKind, EndpointName, Epoch, Floors, GuardFacts, GuardMethod, GuardState, Incarnation, Intent,
    LeaseRecord, LeaseSeen, LiveRpo, Lsn, Member, Mode, Mono, NodeId, NodeView, Primary, Probe, ReplayEffort,
    ReplayState, Seen, Server, Slot, Stamp, Standby, StandbyName, Switch, SystemId, Timeline, Upstream,
    Version, View, WalSender,
};

pub(super) const NOW: Mono = Mono(100_000_000_000);

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("good name")
}

pub(crate) fn seoul() -> NodeId {
    node("seoul")
}

pub(crate) fn tokyo() -> NodeId {
    node("tokyo")
}

pub(super) fn ago(ms: u64) -> Mono {
    Mono(NOW.0 - Duration::from_millis(ms).as_micros() as u64)
}

pub(super) fn name_of(node: &NodeId) -> StandbyName {
    StandbyName(format!("{}_0a1b2c3d", node.slot()))
}

pub(super) fn set(nodes: &[NodeId]) -> Vec<Member> {
    nodes.iter().map(|node| Member { node: node.clone(), name: name_of(node) }).collect()
}

/// Epoch 3, version 10; seoul leads to tokyo, which is in the sync set.
pub(super) fn intent() -> Intent {
    Intent {
        epoch: Epoch(3),
        version: Version(10),
        sync: set(&[tokyo()]),
        sync_next: set(&[tokyo()]),
        promotable: vec![tokyo()],
        switch: Some(SWITCH),
        ..Intent::first(Incarnation(1), Epoch(3), seoul(), Durability::Sync)
    }
}

pub(super) const SWITCH: Switch = Switch { timeline: Timeline(2), at: Lsn(0x500) };
pub(super) const FLUSHED: Lsn = Lsn(0x1000);

pub(super) fn upstream(to: &NodeId, of: &NodeId) -> Upstream {
    Upstream { node: to.clone(), address: format!("{to}:5432"), slot: of.slot() }
}

fn agent(node: &NodeId, server: Server, stamp: Stamp) -> AgentFacts {
    AgentFacts {
        promise: Some(stamp),
        primary_since: None,
        system: Some(SystemId(7)),
        address: format!("{node}:5432"),
        standby_name: name_of(node),
        no_failover: false,
        no_sync: false,
        no_clone: false,
        priority: 0,
        guard: None,
        told: None,
        serves_until: None,
        admitted: None,
        vouched_until: None,
        server: Seen { value: server, at: NOW },
        disk_free: None,
        checksum_failures: None,
        recovery_rate: None,
        unfinished: None,
        job: None,
        failed: Vec::new(),
        lost: None,
        strayed: None,
        hindrances: Vec::new(),
        rescued: None,
        app: Some(AppFacts {
            address: format!("{node}:8080"),
            healthy: true,
            failure: None,
            last_ok: Some(ago(20)),
            failing_since: None,
            error: None,
            startable: false,
            starting: false,
        }),
        access: AccessFacts::default(),
    }
}

pub(crate) fn primary() -> Primary {
    Primary {
        timeline: Timeline(3),
        checkpoint_timeline: Timeline(3),
        redo: Some(Lsn(0xE00)),
        switch: Some(SWITCH),
        flushed: FLUSHED,
        writable: true,
        probe: Probe {
            last_ok: Some(ago(100)),
            took_us: Some(5_000),
            failing_since: None,
            error: None,
            code: None,
        },
        names: Some(vec![name_of(&tokyo())]),
        names_proven: Some((Version(8), Lsn(0x600))),
        senders: vec![WalSender { name: name_of(&tokyo()), streaming: true, flushed: FLUSHED, sync: true }],
        slots: vec![Slot { name: tokyo().slot(), active: true, retained: 0 }],
        logical_slots: Vec::new(),
        busy: 0,
        checkpointed: None,
    }
}

pub(crate) fn standby() -> Standby {
    Standby {
        timeline: Timeline(3),
        history: vec![SWITCH],
        flushed: FLUSHED,
        replayed: FLUSHED,
        streaming: true,
        upstream: Some(upstream(&seoul(), &tokyo())),
        replay: ReplayState::Running,
        recruited: None,
        logical_slots: Vec::new(),
        effort: ReplayEffort::default(),
        unfinished_until: None,
    }
}

pub(crate) fn down(crashed: bool) -> Down {
    let control = Control {
        state: if crashed { ControlState::Other } else { ControlState::ShutDown },
        system: SystemId(7),
        timeline: Timeline(3),
        checkpoint: Lsn(0xF00),
        redo: Lsn(0xE00),
        can_rewind: true,
    };
    Down {
        since: Some(ago(1)),
        crashed,
        fenced: None,
        control: Some(control),
        wal_end: Some(FLUSHED),
        wal_timeline: Some(Timeline(3)),
        wal_gone: false,
        history: vec![SWITCH],
        unfinished_until: None,
        watched: true,
        standby: None,
        primary_since: None,
    }
}

fn endpoint(kind: EndpointKind, stamp: Stamp) -> EndpointFacts {
    EndpointFacts {
        kind,
        listen: "127.0.0.1:6432".into(),
        stamp,
        target: Some(seoul()),
        mode: Mode::Open,
        open: 4,
        held: 0,
        cut_total: 0,
        held_total: 0,
        refused_total: 0,
        last_server_byte: Some(ago(5)),
        last_byte_before: None,
        driver: Driver::Proxy,
        repoint: None,
        problem: None,
        traffic: crate::model::Traffic::default(),
    }
}

fn member(node: &NodeId, server: Server, stamp: Stamp) -> NodeView {
    let name = |name: &str| EndpointName::new(name).expect("good name");
    let endpoints = BTreeMap::from([
        (name("db"), Seen { value: endpoint(EndpointKind::Primary, stamp), at: NOW }),
        (name("app"), Seen { value: endpoint(EndpointKind::App, stamp), at: NOW }),
    ]);
    let agent = Some(agent(node, server, stamp));
    NodeView {
        heard: NOW,
        remembered: None,
        renewals: None,
        noted: None,
        hears: BTreeMap::new(),
        agent,
        endpoints,
    }
}

/// A lease of seoul's that was last renewed so long ago, and was read under a stamp.
pub(super) fn lease_seen(ms: u64, read_under: Option<Stamp>) -> LeaseSeen {
    let record = LeaseRecord {
        node: seoul(),
        incarnation: Incarnation(1),
        epoch: Epoch(3),
        ttl_ms: 3_000,
        count: 7,
        reached: None,
        timeline: None,
        floors: Floors::default(),
    };
    LeaseSeen { last: Some(Seen { value: record, at: ago(ms) }), read_under, known: None, renewed: true }
}

/// A guard that counts.
pub(crate) fn armed() -> GuardFacts {
    GuardFacts {
        state: GuardState::Armed,
        since: ago(1_000),
        deadline: Some(Mono(NOW.0 + 2_000_000)),
        stamp: None,
        postmaster: Some(4242),
        method: GuardMethod::Cgroup,
        realtime: true,
        locked: true,
        spared: true,
        enforce: true,
        keeps: false,
        strayed: false,
    }
}

/// Everything is as it should be.
pub(crate) fn healthy() -> View {
    let intent = intent();
    let stamp = intent.stamp();
    let mut view = View {
        leading: true,
        wall: "2026-01-01T03:00:00Z".parse().expect("a time"),
        members: [seoul(), tokyo()].into(),
        nodes: BTreeMap::from([
            (seoul(), member(&seoul(), Server::Primary(primary()), stamp)),
            (tokyo(), member(&tokyo(), Server::Standby(standby()), stamp)),
        ]),
        rpo: Some(LiveRpo {
            as_of: NOW,
            bytes: Some(0),
            ms: Some(0.0),
            primary: FLUSHED,
            standby: Some((tokyo(), FLUSHED)),
            acknowledged_is_safe: true,
            write_rate: 0.0,
        }),
        verified: Some(stamp),
        intent: Some(intent),
        ..View::default()
    };
    let agent = view.agent_mut(&seoul());
    agent.primary_since = Some(stamp);
    agent.serves_until = Some(Mono(NOW.0 + 2_000_000));
    agent.admitted = Some(vec![tokyo()]);
    agent.guard = Some(armed());
    view
}

impl View {
    pub(crate) fn agent_mut(&mut self, node: &NodeId) -> &mut AgentFacts {
        self.nodes.get_mut(node).and_then(|view| view.agent.as_mut()).expect("a node of the fixture")
    }

    pub(super) fn intent_mut(&mut self) -> &mut Intent {
        self.intent.as_mut().expect("the fixture has an intent")
    }

    pub(crate) fn server(&mut self, node: &NodeId, server: Server) {
        self.agent_mut(node).server.value = server;
    }

    pub(super) fn standby_mut(&mut self, node: &NodeId) -> &mut Standby {
        match &mut self.agent_mut(node).server.value {
            Server::Standby(standby) => standby,
            other => panic!("{node} is {other:?}"),
        }
    }

    pub(super) fn primary_mut(&mut self, node: &NodeId) -> &mut Primary {
        match &mut self.agent_mut(node).server.value {
            Server::Primary(primary) => primary,
            other => panic!("{node} is {other:?}"),
        }
    }

    pub(super) fn endpoints_mut(&mut self, kind: EndpointKind) -> impl Iterator<Item = &mut EndpointFacts> {
        let all = self.nodes.values_mut().flat_map(|node| node.endpoints.values_mut());
        all.map(|seen| &mut seen.value).filter(move |facts| facts.kind == kind)
    }
}
