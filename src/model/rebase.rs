//! Facts of another member, on the clock of whoever received them.
//!
//! Every struct that holds an instant is taken apart field by field, without `..`: a new field does not compile until
//! somebody has decided here whether it is an instant. An instant that was forgotten would be compared with a clock
//! of another host.

use super::{
    AccessFacts, AgentFacts, AppFacts, Down, EndpointFacts, GuardFacts, MemberFacts, Mono, Primary, Probe,
    Repoint, Seen, Server,
};

/// The mapping from a sender's clock to the receiver's.
#[derive(Clone, Copy)]
struct Shift {
    sent_at: Mono,
    received_at: Mono,
}

impl Shift {
    /// `received_at − (sent_at − at)`. What lies before the receiver's boot becomes its boot: an age is then cut to
    /// the receiver's uptime, never made up.
    fn instant(self, at: Mono) -> Mono {
        let age = i128::from(self.sent_at.0) - i128::from(at.0);
        let local = i128::from(self.received_at.0) - age;
        Mono(u64::try_from(local.max(0)).unwrap_or(u64::MAX))
    }

    fn maybe(self, at: Option<Mono>) -> Option<Mono> {
        at.map(|at| self.instant(at))
    }

    fn seen<T>(self, seen: Option<Seen<T>>) -> Option<Seen<T>> {
        seen.map(|Seen { value, at }| Seen { value, at: self.instant(at) })
    }
}

impl MemberFacts {
    /// These facts with every instant on the receiver's clock, on which they arrived at `received_at`.
    ///
    /// The time the message travelled counts as none: instants come out late by it, never early. `sent_at` becomes
    /// `received_at`.
    #[must_use]
    pub fn rebased(self, received_at: Mono) -> Self {
        let Self { node, sent_at, left, remembered, renewals, noted, hears, agent, endpoints } = self;
        let shift = Shift { sent_at, received_at };
        Self {
            node,
            sent_at: received_at,
            left,
            remembered,
            renewals,
            noted,
            hears: hears.into_iter().map(|(node, at)| (node, shift.instant(at))).collect(),
            agent: agent.map(|facts| agent_facts(facts, shift)),
            endpoints: endpoints.into_iter().map(|(name, facts)| (name, endpoint(facts, shift))).collect(),
        }
    }
}

impl GuardFacts {
    /// These facts, sent at `sent_at` by the sender's clock, on the clock of whoever received them at `received_at`.
    ///
    /// A deadline comes out late by the time the message travelled, and must not be taken for a lease: it is shown.
    #[must_use]
    pub fn rebased(self, sent_at: Mono, received_at: Mono) -> Self {
        guard(self, Shift { sent_at, received_at })
    }
}

fn guard(facts: GuardFacts, shift: Shift) -> GuardFacts {
    let GuardFacts {
        state,
        since,
        deadline,
        stamp,
        postmaster,
        method,
        realtime,
        locked,
        spared,
        enforce,
        keeps,
        strayed,
    } = facts;
    let (since, deadline) = (shift.instant(since), shift.maybe(deadline));
    GuardFacts {
        state,
        since,
        deadline,
        stamp,
        postmaster,
        method,
        realtime,
        locked,
        spared,
        enforce,
        keeps,
        strayed,
    }
}

fn agent_facts(facts: AgentFacts, shift: Shift) -> AgentFacts {
    let AgentFacts {
        promise,
        primary_since,
        system,
        address,
        standby_name,
        no_failover,
        no_sync,
        no_clone,
        priority,
        guard: guarded,
        told,
        serves_until,
        admitted,
        vouched_until,
        server: Seen { value, at },
        disk_free,
        checksum_failures,
        recovery_rate,
        unfinished,
        job,
        failed,
        lost,
        strayed,
        hindrances,
        rescued,
        app,
        access,
    } = facts;
    AgentFacts {
        promise,
        primary_since,
        system,
        address,
        standby_name,
        no_failover,
        no_sync,
        no_clone,
        priority,
        guard: guarded.map(|facts| guard(facts, shift)),
        told,
        serves_until: shift.maybe(serves_until),
        admitted,
        vouched_until: shift.maybe(vouched_until),
        server: Seen { value: server(value, shift), at: shift.instant(at) },
        disk_free,
        checksum_failures,
        recovery_rate,
        unfinished,
        job,
        failed,
        lost,
        strayed,
        hindrances,
        rescued,
        app: app.map(|facts| app_facts(facts, shift)),
        access: access_facts(access, shift),
    }
}

fn access_facts(facts: AccessFacts, shift: Shift) -> AccessFacts {
    let AccessFacts { identity, refused, elsewhere, moved, recovering, client } = facts;
    let (refused, client) = (shift.seen(refused), shift.seen(client));
    AccessFacts { identity, refused, elsewhere, moved, recovering, client }
}

fn server(server: Server, shift: Shift) -> Server {
    match server {
        Server::Unknown => Server::Unknown,
        Server::Starting => Server::Starting,
        Server::Down(facts) => Server::Down(down(facts, shift)),
        Server::Primary(facts) => Server::Primary(primary(facts, shift)),
        // No instant in it; taken apart all the same, so that one added later is not forgotten.
        Server::Standby(facts) => Server::Standby(standby(facts)),
    }
}

fn down(facts: Down, shift: Shift) -> Down {
    let Down {
        since,
        crashed,
        fenced,
        control,
        wal_end,
        wal_timeline,
        wal_gone,
        history,
        unfinished_until,
        watched,
        standby,
        primary_since,
    } = facts;
    let since = shift.maybe(since);
    Down {
        since,
        crashed,
        fenced,
        control,
        wal_end,
        wal_timeline,
        wal_gone,
        history,
        unfinished_until,
        watched,
        standby,
        primary_since,
    }
}

fn primary(facts: Primary, shift: Shift) -> Primary {
    let Primary {
        timeline,
        checkpoint_timeline,
        redo,
        switch,
        flushed,
        writable,
        probe: Probe { last_ok, took_us, failing_since, error, code },
        names,
        names_proven,
        senders,
        slots,
        logical_slots,
        busy,
        checkpointed,
    } = facts;
    let (last_ok, failing_since) = (shift.maybe(last_ok), shift.maybe(failing_since));
    Primary {
        timeline,
        checkpoint_timeline,
        redo,
        switch,
        flushed,
        writable,
        probe: Probe { last_ok, took_us, failing_since, error, code },
        names,
        names_proven,
        senders,
        slots,
        logical_slots,
        busy,
        checkpointed,
    }
}

fn standby(facts: super::Standby) -> super::Standby {
    let super::Standby {
        timeline,
        history,
        flushed,
        replayed,
        streaming,
        upstream,
        replay,
        recruited,
        logical_slots,
        effort,
        unfinished_until,
    } = facts;
    super::Standby {
        timeline,
        history,
        flushed,
        replayed,
        streaming,
        upstream,
        replay,
        recruited,
        logical_slots,
        effort,
        unfinished_until,
    }
}

fn app_facts(facts: AppFacts, shift: Shift) -> AppFacts {
    let AppFacts { address, healthy, failure, last_ok, failing_since, error, startable, starting } = facts;
    let (last_ok, failing_since) = (shift.maybe(last_ok), shift.maybe(failing_since));
    AppFacts { address, healthy, failure, last_ok, failing_since, error, startable, starting }
}

fn endpoint(facts: EndpointFacts, shift: Shift) -> EndpointFacts {
    let EndpointFacts {
        kind,
        listen,
        stamp,
        target,
        mode,
        open,
        held,
        cut_total,
        held_total,
        refused_total,
        last_server_byte,
        last_byte_before,
        driver,
        repoint,
        problem,
        // Lengths of time, no instants.
        traffic,
    } = facts;
    let repoint = repoint.map(|Repoint { under, began, confirmed, given_up }| Repoint {
        under,
        began: shift.instant(began),
        confirmed: shift.maybe(confirmed),
        given_up,
    });
    EndpointFacts {
        kind,
        listen,
        stamp,
        target,
        mode,
        open,
        held,
        cut_total,
        held_total,
        refused_total,
        last_server_byte: shift.maybe(last_server_byte),
        last_byte_before: shift.maybe(last_byte_before),
        driver,
        repoint,
        problem,
        traffic,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        ClientLook, Driver, EndpointKind, EndpointName, GuardMethod, GuardState, Lsn, Mode, NodeId, Stamp,
        StandbyName, Timeline,
    };

    /// Facts with these instants in every place where there can be one; `kind` chooses the server.
    fn facts(sent_at: Mono, kind: u8, at: [Mono; 14]) -> MemberFacts {
        let node = NodeId::new("a").expect("good name");
        let server = match kind {
            0 => Server::Down(Down {
                since: Some(at[1]),
                crashed: true,
                fenced: None,
                control: None,
                wal_end: None,
                wal_timeline: None,
                wal_gone: false,
                history: Vec::new(),
                unfinished_until: None,
                watched: false,
                standby: None,
                primary_since: None,
            }),
            1 => Server::Primary(Primary {
                timeline: Timeline(1),
                checkpoint_timeline: Timeline(1),
                redo: None,
                switch: None,
                flushed: Lsn(9),
                writable: true,
                probe: Probe {
                    last_ok: Some(at[1]),
                    took_us: Some(5),
                    failing_since: Some(at[2]),
                    error: None,
                    code: None,
                },
                names: None,
                names_proven: None,
                senders: Vec::new(),
                slots: Vec::new(),
                logical_slots: Vec::new(),
                busy: 0,
                checkpointed: None,
            }),
            _ => Server::Unknown,
        };
        let app = AppFacts {
            address: "a:80".into(),
            healthy: false,
            failure: Some(crate::model::AppFailure::Hangs),
            last_ok: Some(at[3]),
            failing_since: Some(at[4]),
            error: None,
            startable: false,
            starting: false,
        };
        let agent = AgentFacts {
            promise: Some(Stamp::default()),
            primary_since: None,
            system: None,
            address: "a:5432".into(),
            standby_name: StandbyName("locum_a_1".into()),
            no_failover: false,
            no_sync: false,
            no_clone: false,
            priority: 0,
            guard: None,
            told: None,
            serves_until: Some(at[7]),
            admitted: None,
            vouched_until: Some(at[8]),
            server: Seen { value: server, at: at[0] },
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
            app: Some(app),
            access: AccessFacts {
                refused: Some(Seen { value: "no entry".to_owned(), at: at[12] }),
                client: Some(Seen { value: ClientLook::Service, at: at[13] }),
                ..AccessFacts::default()
            },
        };
        let endpoint = EndpointFacts {
            kind: EndpointKind::Primary,
            listen: "a:6432".into(),
            stamp: Stamp::default(),
            target: None,
            mode: Mode::Open,
            open: 1,
            held: 0,
            cut_total: 0,
            held_total: 0,
            refused_total: 0,
            last_server_byte: Some(at[5]),
            last_byte_before: Some(at[6]),
            driver: Driver::Pgbouncer,
            repoint: Some(Repoint {
                under: Stamp::default(),
                began: at[9],
                confirmed: Some(at[10]),
                given_up: false,
            }),
            problem: None,
            traffic: Default::default(),
        };
        let endpoints = BTreeMap::from([(EndpointName::new("db").expect("good name"), endpoint)]);
        let hears = BTreeMap::from([(node.clone(), at[11])]);
        MemberFacts {
            node,
            sent_at,
            left: Mono(7),
            remembered: None,
            renewals: None,
            noted: None,
            hears,
            agent: Some(agent),
            endpoints,
        }
    }

    proptest! {
        #[test]
        fn every_instant_is_as_long_ago_here_as_it_was_there(
            sent in 0u64..1 << 50,
            received in 0u64..1 << 50,
            ages in proptest::array::uniform14(0u64..1 << 40),
            kind in 0u8..3,
        ) {
            let there = ages.map(|age| Mono(sent.saturating_sub(age)));
            let here = ages.map(|age| Mono(received.saturating_sub(age.min(sent))));
            let rebased = facts(Mono(sent), kind, there).rebased(Mono(received));
            prop_assert_eq!(rebased, facts(Mono(received), kind, here));
        }

        #[test]
        fn there_and_back_changes_nothing(
            sent in 1u64 << 40..1 << 50,
            received in 1u64 << 40..1 << 50,
            ages in proptest::array::uniform14(0u64..1 << 40),
            kind in 0u8..3,
        ) {
            let original = facts(Mono(sent), kind, ages.map(|age| Mono(sent - age)));
            prop_assert_eq!(original.clone().rebased(Mono(received)).rebased(Mono(sent)), original);
        }
    }

    #[test]
    fn a_guards_deadline_is_as_far_ahead_here_as_it_was_there() {
        let there = GuardFacts {
            state: GuardState::Armed,
            since: Mono(900),
            deadline: Some(Mono(1_500)),
            stamp: Some(Stamp::default()),
            postmaster: Some(7),
            method: GuardMethod::Cgroup,
            realtime: true,
            locked: true,
            spared: true,
            enforce: true,
            keeps: true,
            strayed: false,
        };
        let here = GuardFacts { since: Mono(4_900), deadline: Some(Mono(5_500)), ..there };
        assert_eq!(there.rebased(Mono(1_000), Mono(5_000)), here);
    }

    #[test]
    fn what_was_before_the_receivers_boot_becomes_its_boot() {
        let rebased = facts(Mono(1_000), 1, [Mono(0); 14]).rebased(Mono(10));
        assert_eq!(rebased, facts(Mono(10), 1, [Mono(0); 14]));
    }
}
