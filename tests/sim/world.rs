//! The world: two or three hosts with their controllers, a store, a network, and one tick after the other.

use locum::model::{
    Command, Durability, Hold, Intent, Known, LeaseRecord, Mode, NodeId, NodeView, Note, Noted, Reply,
    Server, Stamp, Wal, WalPosition,
};

use super::{
    MOST, Tick,
    agent::{Agent, Asker, Reach},
    bug::Bug,
    checks::Checks,
    controller::{
        Controller, Effect, LONG, Leading, LeaseRead, Pending, QUICK, SHORT, SIGN_OF_LIFE, Task, Work, member,
    },
    disks::Copies,
    faults::{Faults, Kind},
    host::{Host, HostClock, Life},
    log::Log,
    mix::Mix,
    network::{Envelope, FACTS_LATE, Looked, Message, Network},
    node,
    postgres::{Conninfo, Proc, lsn},
    replication::Stream,
    right::{Ask, Out, Told},
    rng::Rng,
    store::Store,
};

/// A verifying commit is given up after this.
const VERIFY: Tick = 200;
/// Renewals of the lease are written down at most this often by those who remember them.
const RENEWALS: Tick = 100;

/// A call of an agent to the store: when it gets there, when the answer is back, and what it is.
struct Call {
    host: usize,
    id: u64,
    due: Tick,
    back: Tick,
    ask: Ask,
    told: Option<Told>,
}

pub(crate) struct World {
    pub(crate) now: Tick,
    pub(crate) rng: Rng,
    pub(crate) mix: Mix,
    pub(crate) bug: Option<Bug>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) store: Store,
    pub(crate) network: Network,
    pub(crate) faults: Faults,
    pub(crate) checks: Checks,
    pub(crate) log: Log,
    calls: Vec<Call>,
    pub(crate) copies: [Copies; MOST],
    pub(crate) disks_back: u64,
    pub(crate) amends: u64,
    /// A store that was put back was believed by who could not know better.
    pub(crate) blind: bool,
    next_record: u32,
    next_message: u64,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mix = Mix::draw(&mut rng, bug);
        let hosts: Vec<Host> = (0..mix.hosts)
            .map(|host| {
                let mut agent = Agent::new(host, locum::model::StandbyName(String::new()));
                agent.disk.name = agent.new_name();
                let standby = (1..mix.servers).contains(&host);
                let name = agent.disk.name.clone();
                let from = standby.then(|| Conninfo { host: 0, slot: node(host).slot(), name });
                let clock = HostClock::new(host, mix.rates[host]);
                Host::new(host, host < mix.servers, clock, agent, from)
            })
            .collect();
        let controllers = hosts
            .iter()
            .enumerate()
            .map(|(host, it)| Controller::new(host, mix.hosts, it.clock, 0))
            .collect();
        let checks = Checks::new(&mix.policy, bug);
        let mut log = Log { on: traced, ..Log::default() };
        log.say(|| {
            let policy = &mix.policy;
            format!(
                "seed {seed}: {} of {} hosts serve; {:?}, ttl {:?}, on crash {:?}, hang {:?}, write wait {:?}, loss {}; {:?} every {} ticks for {}",
                mix.servers,
                mix.hosts,
                policy.durability,
                policy.lease_ttl,
                policy.on_crash,
                policy.hang,
                policy.write_wait,
                policy.max_data_loss,
                mix.kinds,
                mix.fault_every,
                mix.fault_ticks
            )
        });
        Self {
            now: 0,
            rng,
            mix,
            bug,
            hosts,
            controllers,
            store: Store::new(),
            network: Network::default(),
            faults: Faults::default(),
            checks,
            log,
            calls: Vec::new(),
            copies: Default::default(),
            disks_back: 0,
            amends: 0,
            blind: false,
            next_record: 1,
            next_message: 0,
        }
    }

    /// Nothing more can be judged: somebody believed what was put back, and could not know better.
    pub(crate) const fn is_blind(&self) -> bool {
        self.blind || self.checks.diverged
    }

    /// One tick of everything.
    pub(crate) fn tick(&mut self, faults: bool) {
        self.now += 1;
        self.log.tick = self.now;
        self.network.unreliable = faults;
        if faults {
            self.go_wrong();
        }
        if self.mix.kinds.contains(&Kind::DiskBack) {
            self.copy_disks();
        }
        self.store.sweep(self.now);
        self.live_or_die();
        self.run_servers();
        self.run_guards();
        self.write();
        self.call_store();
        self.deliver();
        for host in 0..self.hosts.len() {
            self.run_agent(host);
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].life == Life::Up && self.controllers[host].frozen_until <= self.now {
                self.run_controller(host);
            }
        }
        for (host, it) in self.hosts.iter_mut().enumerate() {
            it.served = it.served.max(it.agent.disk.primary_since);
            self.checks.promise(host, it.agent.disk.promise);
            self.checks.guard_knows(host, it.guard.stamp);
            self.checks.promised_is_in_force(host, it.term(), &it.pg, self.now);
        }
    }

    // ---- members that come and go -------------------------------------------------------------

    pub(crate) fn kill_member(&mut self, host: usize, until: Tick) {
        self.hosts[host].life = Life::Dead(until);
        self.hosts[host].kept.clear();
    }

    /// A stop in order: beside the primary it first says that nobody attends it, and only then disarms the guard.
    fn stop_in_order(&mut self, host: usize) {
        let Some(back) = self.hosts[host].stopping.filter(|_| self.hosts[host].life == Life::Up) else {
            return;
        };
        self.hosts[host].stopping = None;
        // Its controller has ended before this: nothing that it had begun counts any more.
        self.kill_member(host, back);
        let Some((basis, revision)) =
            self.store.intent.clone().filter(|_| self.store.answers(host, self.now))
        else {
            return;
        };
        let it = &self.hosts[host];
        let known = it.remembered.stamp.max(it.agent.disk.promise);
        if basis.primary.as_ref() != Some(&node(host)) || known > Some(basis.stamp()) {
            return;
        }
        let next = Intent { attended: false, ..basis.clone() }.raised();
        if self.store.amend((&basis, revision), &next, None).is_some() {
            self.checks.amended(Some(&basis), &next);
            let it = &mut self.hosts[host];
            it.guard.disarm(&mut it.pg);
            self.log.say(|| format!("member {host} stops, and {} says so", next.stamp()));
        }
    }

    fn live_or_die(&mut self) {
        for host in 0..self.hosts.len() {
            self.stop_in_order(host);
            match self.hosts[host].life {
                Life::Frozen(until) if until <= self.now => {
                    self.hosts[host].life = Life::Up;
                    for envelope in std::mem::take(&mut self.hosts[host].kept) {
                        self.receive(envelope);
                    }
                }
                Life::Dead(until) if until <= self.now => {
                    self.log.say(|| format!("member {host} starts again"));
                    let it = &mut self.hosts[host];
                    (it.life, it.lives) = (Life::Up, it.lives + 1);
                    it.table = locum::endpoint::routing::Table::new(locum::model::EndpointKind::Primary);
                    let clock = it.clock.at(self.now);
                    let ttl = self.mix.policy.lease_ttl;
                    let boot = std::mem::take(&mut it.boots).then(|| clock.plus(ttl + ttl / 100));
                    it.agent.restart(&mut it.pg, clock, boot, self.bug);
                    it.remembered = it.remembered_on_disk;
                    it.noted = it.note_on_disk.clone().map(|note| Noted { note, watched: false });
                    self.checks.endpoint_restarted(host);
                    self.controllers[host] = Controller::new(host, self.mix.hosts, it.clock, self.now);
                    self.controllers[host].remembered = it.remembered.stamp;
                    self.controllers[host].renewals = it.remembered.renewals;
                }
                _ => {}
            }
        }
    }

    // ---- servers ------------------------------------------------------------------------------

    fn run_servers(&mut self) {
        for host in 0..self.mix.servers {
            let mut stream = Stream {
                host,
                now: self.now,
                links: &self.network.links,
                mix: &self.mix,
                rng: &mut self.rng,
                checks: &mut self.checks,
                log: &mut self.log,
            };
            stream.step(&mut self.hosts);
        }
        for host in 0..self.mix.servers {
            let it = &mut self.hosts[host];
            let before = it.pg.proc;
            let next = &mut self.next_record;
            let mut fresh = || {
                *next += 1;
                *next
            };
            let told = it.pg.step(self.now, &mut self.rng, &mut fresh);
            let epoch = it.term();
            if it.pg.proc != before {
                self.log.say(|| format!("server {host}: {:?}, {} records", it.pg.proc, it.pg.wal.len()));
                if it.pg.proc == Proc::Primary {
                    let promoted = matches!(before, Proc::Promoting { .. });
                    self.checks.becomes_primary(host, epoch, promoted, &self.hosts, self.now);
                }
            }
            for commit in told {
                self.checks.acknowledged(host, epoch, commit, &self.hosts, self.now);
            }
        }
    }

    fn run_guards(&mut self) {
        for it in &mut self.hosts[..self.mix.servers] {
            it.guard.step(self.now, it.clock, &mut it.pg, &self.mix, &mut self.rng, &mut self.log);
        }
    }

    fn fresh(&mut self) -> u32 {
        self.next_record += 1;
        self.next_record
    }

    /// Clients commit: some at a node's own socket, which no endpoint guards, some through the endpoints.
    fn write(&mut self) {
        for host in 0..self.hosts.len() {
            if self.rng.chance(self.mix.direct) && self.hosts[host].pg.commits(self.now) {
                let (id, weak) = (self.fresh(), self.rng.chance(self.mix.weak));
                self.hosts[host].pg.commit(id, weak, false);
            }
            if self.rng.chance(self.mix.weak / 4) && self.hosts[host].pg.commits(self.now) {
                self.hosts[host].pg.cancel_wait(&mut self.rng);
            }
            if self.rng.chance(self.mix.clients) {
                self.commit_through(host, host, false);
            }
        }
    }

    /// A commit through the endpoint of `host`, by a client on the host `from`. None: it gets nowhere.
    fn commit_through(&mut self, from: usize, host: usize, patient: bool) -> Option<(usize, u32)> {
        let it = &self.hosts[host];
        let joined = |a: usize, b: usize| self.network.links.both(a, b, self.now);
        let target = it.table.target().filter(|_| it.life == Life::Up && it.table.mode() == Mode::Open)?;
        let to = member(&target.node);
        let pg = &self.hosts[to].pg;
        if !(joined(from, host) && joined(host, to) && pg.proc == Proc::Primary && pg.accepts()) {
            return None;
        }
        let id = self.fresh();
        self.hosts[to].pg.commit(id, false, patient);
        Some((to, id))
    }

    // ---- messages -----------------------------------------------------------------------------

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.network.send(from, to, message, self.now, &mut self.rng, &self.mix);
    }

    /// The store takes what has reached it, and answers.
    fn call_store(&mut self) {
        let mut told = Vec::new();
        for call in &mut self.calls {
            if call.due <= self.now && call.told.is_none() {
                call.told = Some(if self.store.answers(call.host, self.now) {
                    match &call.ask {
                        Ask::Reign => Told::Reign(self.store.reign.clone()),
                        Ask::Last => Told::Last(self.store.lease.clone()),
                        Ask::Renew { reign, last, record, looked } => {
                            let renewed = self.store.renew_primary(*reign, *last, record, self.bug);
                            if let Some(looked) = looked.filter(|_| renewed.is_some()) {
                                self.checks.renewed(call.host, looked, &self.hosts[call.host].pg, record);
                            }
                            Told::Renewed(renewed)
                        }
                    }
                } else {
                    Told::Error
                });
            }
        }
        self.calls.retain_mut(|call| {
            let back = call.told.is_some() && call.back <= self.now;
            if back && let Some(answer) = call.told.take() {
                told.push((call.host, call.id, answer));
            }
            !back
        });
        for (host, id, answer) in told {
            let message = Message::Told { id, told: answer };
            self.receive(Envelope { due: self.now, sent: self.now, from: host, to: host, message });
        }
    }

    /// What an agent wants said goes on its way.
    fn send_out(&mut self, host: usize) {
        for out in std::mem::take(&mut self.hosts[host].agent.out) {
            match out {
                Out::Vouch { to, id, stamp, ttl, note } => {
                    self.send(host, to, Message::Vouch { id, stamp, ttl, note });
                }
                Out::Note(note, looked) => {
                    for to in 0..self.hosts.len() {
                        self.send(host, to, Message::Note(note.clone(), looked));
                    }
                }
                Out::Store { id, ask } => {
                    let late = |world: &mut Self| match world.network.unreliable
                        && world.rng.chance(world.mix.late)
                    {
                        true => world.rng.range(1, world.mix.late_most),
                        false => world.rng.below(2),
                    };
                    let due = self.now + late(self);
                    let lost = self.network.unreliable && self.rng.chance(self.mix.lose);
                    let back = if lost { Tick::MAX } else { due + late(self) };
                    self.calls.push(Call { host, id, due, back, ask, told: None });
                }
            }
        }
        let now = self.now;
        // An answer that was lost is not waited for, once the request has had its effect.
        self.calls.retain(|call| call.back != Tick::MAX || call.told.is_none() || call.due + 200 > now);
    }

    fn deliver(&mut self) {
        for envelope in self.network.arrivals(self.now) {
            self.receive(envelope);
        }
    }

    fn receive(&mut self, envelope: Envelope) {
        let (to, from) = (envelope.to, envelope.from);
        let controller = matches!(envelope.message, Message::Facts(_) | Message::Reply { .. });
        match self.hosts[to].life {
            Life::Dead(_) => return,
            Life::Frozen(_) => return self.hosts[to].kept.push(envelope),
            // A controller that stalls finds only what came last in its stream.
            Life::Up if controller && self.controllers[to].frozen_until > self.now => {
                let again = Envelope { due: self.controllers[to].frozen_until, ..envelope };
                if matches!(again.message, Message::Reply { .. }) {
                    self.network.put_off(again);
                }
                return;
            }
            Life::Up => {}
        }
        match envelope.message {
            Message::Order { id, stamp, command } => {
                self.take_order(to, Asker { host: from, id }, stamp, command)
            }
            Message::Route { id, stamp, order } => {
                let reply = self.hosts[to].route(stamp, order, &mut self.checks);
                self.reply(to, Asker { host: from, id }, reply);
            }
            Message::Reply { id, reply, facts } => {
                self.controllers[to].answered(id, reply, *facts, self.now, self.bug);
            }
            Message::Facts(facts) => {
                let late = self.now - envelope.sent;
                if late <= FACTS_LATE {
                    // The stream knows how long a message took beyond the quickest one.
                    let at = self.hosts[to].clock.at(envelope.sent + u64::from(from != to && late > 0));
                    let facts = if from == to { *facts } else { facts.rebased(at) };
                    self.controllers[to].heard(facts, at);
                }
            }
            Message::Vouch { id, stamp, ttl, note } => {
                let it = &mut self.hosts[to];
                if let Some(note) = note {
                    it.take_note(*note, None);
                }
                let given = it.serves && it.agent.vouch(stamp, ttl, it.clock.at(self.now), self.bug);
                self.log.say(|| format!("agent {to}: its word to {from} ({stamp}): {given}"));
                self.send(to, from, Message::Told { id, told: Told::Word(given) });
            }
            Message::Note(note, looked) => self.hosts[to].take_note(*note, Some(looked)),
            Message::Told { id, told } => self.hosts[to].agent.take_told(id, told),
        }
    }

    fn reply(&mut self, host: usize, asker: Asker, reply: Reply) {
        let hears = self.controllers[host].hears();
        let facts = Box::new(self.hosts[host].facts(hears, self.now));
        self.send(host, asker.host, Message::Reply { id: asker.id, reply, facts });
    }

    // ---- agents -------------------------------------------------------------------------------

    fn with_agent<T>(&mut self, host: usize, act: impl FnOnce(&mut Agent, &mut Reach<'_>) -> T) -> T {
        let mut linked = [false; MOST];
        for (other, linked) in linked.iter_mut().enumerate().take(self.hosts.len()) {
            *linked = self.network.links.both(host, other, self.now);
        }
        let next = &mut self.next_record;
        let mut fresh = || {
            *next += 1;
            *next
        };
        let (before, rest) = self.hosts.split_at_mut(host);
        let (it, after) = rest.split_first_mut().expect("a host");
        let mut reach = Reach {
            now: self.now,
            clock: it.clock.at(self.now),
            pg: &mut it.pg,
            guard: &mut it.guard,
            before,
            after,
            linked,
            rng: &mut self.rng,
            mix: &self.mix,
            checks: &mut self.checks,
            log: &mut self.log,
            bug: self.bug,
            renewals: it.remembered.renewals,
            noted: &it.noted,
            fresh: &mut fresh,
            unreliable: self.network.unreliable,
        };
        act(&mut it.agent, &mut reach)
    }

    fn take_order(&mut self, host: usize, asker: Asker, stamp: Stamp, command: Command) {
        let replies = self.with_agent(host, |agent, reach| agent.order(stamp, command, asker, reach));
        for (asker, reply) in replies {
            self.reply(host, asker, reply);
        }
    }

    /// What everybody has written down of what a primary told, some memory of it outlasts any one disk.
    fn all_have_noted(&mut self) {
        let written: Option<Vec<Looked>> = self.hosts.iter().map(|host| host.looked_on_disk).collect();
        let Some(written) = written.filter(|_| self.hosts.len() > 2) else { return };
        let (first, at) = (written[0], written.iter().map(|looked| looked.at).min().unwrap_or_default());
        if written.iter().all(|one| (one.host, one.generation) == (first.host, first.generation)) {
            self.checks.noted(first.host, at, first.generation);
        }
    }

    fn run_agent(&mut self, host: usize) {
        if self.hosts[host].life != Life::Up {
            return;
        }
        if self.hosts[host].serves {
            // What its controller knows it has read in this life.
            if let Some((intent, _)) = &self.controllers[host].intent {
                self.hosts[host].agent.learns(intent.stamp());
            }
            let replies = self.with_agent(host, Agent::step);
            for (asker, reply) in replies {
                self.reply(host, asker, reply);
            }
            self.send_out(host);
        }
        let now = self.now;
        let it = &mut self.hosts[host];
        it.keep_note(now);
        self.all_have_noted();
        let it = &mut self.hosts[host];
        if it.agent.changed || self.now >= it.tell_at {
            (it.agent.changed, it.tell_at) = (false, self.now + 10);
            let facts = Box::new(it.facts(self.controllers[host].hears(), self.now));
            for to in 0..self.hosts.len() {
                self.send(host, to, Message::Facts(facts.clone()));
            }
        }
    }

    // ---- controllers --------------------------------------------------------------------------

    /// The store was put back, and is gone by before everybody was heard who may remember more: nothing can tell.
    fn leads_blindly(&self, host: usize) -> bool {
        let Some(since) = self.store.doubtful_since.filter(|_| self.bug.is_none()) else { return false };
        let (controller, since) = (&self.controllers[host], self.hosts[host].clock.at(since));
        let stored = self.store.known();
        let more = |known: Known| known.stamp > stored.stamp || known.renewals > stored.renewals;
        let heard = controller.nodes.values().filter(|node| node.heard > since);
        let told = |node: &NodeView| {
            let promise = node.agent.as_ref().and_then(|agent| agent.promise);
            more(Known { stamp: node.remembered.max(promise), renewals: node.renewals })
        };
        !more(controller.knows_of()) && !heard.into_iter().any(told)
    }

    fn run_controller(&mut self, host: usize) {
        self.keep_remembered(host);
        self.read_store(host);
        self.read_lease(host);
        self.elect(host);
        self.give_up_orders(host);
        let due = self.controllers[host].tasks.iter().any(|task| task.due <= self.now);
        if due {
            let tasks = std::mem::take(&mut self.controllers[host].tasks);
            let (now_due, later): (Vec<Task>, Vec<Task>) =
                tasks.into_iter().partition(|task| task.due <= self.now);
            self.controllers[host].tasks = later;
            for task in now_due {
                self.carry_on(host, task);
            }
        }
        let controller = &mut self.controllers[host];
        let how = (self.bug, self.network.unreliable);
        let resign =
            controller.turn(self.now, &self.mix, &mut self.rng, &mut self.checks, &mut self.log, how);
        if resign && self.store.answers(host, self.now) {
            if let Some(leading) = controller.leading {
                self.store.resign(leading.created);
            }
            controller.lead(None, &[], self.now);
            controller.next_try = self.now + 2 * self.mix.leader_ttl;
        }
        self.hosts[host].remembered = controller.knows_of();
    }

    /// What is remembered of the store is written behind: stamps at once, renewals once a second at most.
    fn keep_remembered(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        if it.remembered.stamp > it.remembered_on_disk.stamp || self.now >= it.counted_at + RENEWALS {
            it.remembered_on_disk = it.remembered;
            it.counted_at = self.now;
        }
    }

    fn read_store(&mut self, host: usize) {
        let controller = &mut self.controllers[host];
        if !self.store.answers(host, self.now) {
            return;
        }
        if controller.read != Some(self.store.revision) && controller.read_at.is_none() {
            let late = self.network.unreliable && self.rng.chance(self.mix.late);
            let wait = if late { self.rng.range(1, self.mix.late_most) } else { self.rng.range(0, 2) };
            (controller.read_at, controller.read_asked) = (Some(self.now + wait), self.now);
        }
        if controller.read_at.is_some_and(|at| at <= self.now) {
            (controller.read_at, controller.read) = (None, Some(self.store.revision));
            let leader = self.store.leader.as_ref().map(|leader| node(leader.host));
            controller.stored(self.store.intent.clone(), leader, self.now, self.bug);
        }
    }

    /// Reads the primary lease whenever it was renewed, and whenever another intent is known to stand.
    fn read_lease(&mut self, host: usize) {
        let answers = self.store.answers(host, self.now);
        let revision = self.store.lease.as_ref().map(|(_, revision)| *revision);
        if answers && self.controllers[host].wants_lease(revision) {
            let late = |world: &mut Self| match world.network.unreliable && world.rng.chance(world.mix.late) {
                true => world.rng.range(1, world.mix.late_most),
                false => world.rng.below(2),
            };
            let asked = self.now + late(self);
            let answered = asked + late(self);
            let under = self.controllers[host].intent.as_ref().map(|(intent, _)| intent.stamp());
            let missed = self.controllers[host].renewals_not_read();
            let read = LeaseRead { under, missed, asked, answered, found: None };
            self.controllers[host].lease_read = Some(read);
        }
        let Some(mut read) = self.controllers[host].lease_read.take() else { return };
        if read.found.is_none() && read.asked <= self.now {
            if !answers {
                return;
            }
            read.found = Some(self.store.lease.clone());
        }
        match read.found {
            Some(found) if read.answered <= self.now => {
                self.controllers[host].lease_told(found, (read.under, read.missed), self.now)
            }
            found => self.controllers[host].lease_read = Some(LeaseRead { found, ..read }),
        }
    }

    fn elect(&mut self, host: usize) {
        let (ttl, controller) = (self.mix.leader_ttl, &mut self.controllers[host]);
        if self.now < controller.next_try {
            return;
        }
        let answers = self.store.answers(host, self.now);
        let until = self.hosts[host].clock.at(self.now + ttl * 4 / 5);
        if let Some(leading) = controller.leading {
            controller.next_try = self.now + ttl / 4;
            if answers {
                let held = self.store.renew(host, leading.created, ttl, self.now);
                controller.lead(held.then_some(Leading { until, ..leading }), &[], self.now);
            } else if !controller.leads(self.now) {
                controller.lead(None, &[], self.now);
            }
        } else {
            controller.next_try = self.now + ttl / 10;
            if answers && let Some(created) = self.store.campaign(host, ttl, self.now) {
                self.log.say(|| format!("controller {host} leads"));
                let wall = self.hosts[host].wall(self.now);
                let past: Vec<i64> = self.store.failovers.iter().map(|at| wall - at).collect();
                controller.lead(Some(Leading { created, until }), &past, self.now);
            }
        }
    }

    fn carry_on(&mut self, host: usize, task: Task) {
        let (now, bug) = (self.now, self.bug);
        match task.work {
            Work::Declare { created, basis, next, rpo } => {
                let outcome = self.declare(host, created, *basis, *next, rpo.as_ref());
                self.controllers[host].ended(task.key, outcome, now, bug);
            }
            Work::Amend { basis, next } => {
                let outcome = self.amend(host, &basis, *next);
                self.controllers[host].ended(task.key, outcome, now, bug);
            }
            Work::FenceCommand { node, stamp } => {
                let outcome = self.fence_by_command(&node, stamp);
                self.controllers[host].ended(task.key, outcome, now, bug);
            }
            Work::Order { node, stamp, command } => {
                let long = matches!(
                    command,
                    Command::Rewind(..)
                        | Command::Clone(..)
                        | Command::Follow(_)
                        | Command::Serve { .. }
                        | Command::Recruit
                        | Command::Rescue { .. }
                );
                self.blind |= matches!(command, Command::Serve { .. }) && self.leads_blindly(host);
                let id = self.expect_answer(host, task.key, member(&node), if long { LONG } else { SHORT });
                self.send(host, member(&node), Message::Order { id, stamp, command });
            }
            Work::Route { node, stamp, order } => {
                let to = member(&node);
                let id = self.expect_answer(host, task.key, to, if to == host { SHORT } else { QUICK });
                self.send(host, to, Message::Route { id, stamp, order });
            }
            Work::Drain { stamp } => {
                for to in 0..self.hosts.len() {
                    let reached = self.network.links.open(host, to, now) && self.hosts[to].life == Life::Up;
                    if reached && self.hosts[to].table.park(stamp).is_ok() {
                        self.checks.routed(to, stamp, None);
                    }
                }
                self.controllers[host].ended(task.key, Ok(Effect::Drained(stamp)), now, bug);
            }
            Work::Verify { stamp, sent } => self.verify(host, task.key, stamp, sent),
        }
    }

    fn expect_answer(&mut self, host: usize, key: locum::model::StepKey, to: usize, limit: Tick) -> u64 {
        self.next_message += 1;
        let pending = Pending {
            key,
            to,
            deadline: self.now + limit,
            life_seen: self.now,
            lives: self.hosts[to].lives,
            broken: false,
        };
        self.controllers[host].pending.insert(self.next_message, pending);
        self.next_message
    }

    fn declare(
        &mut self,
        host: usize,
        created: i64,
        basis: Option<(locum::model::Intent, i64)>,
        next: locum::model::Intent,
        rpo: Option<&locum::model::LiveRpo>,
    ) -> Result<Effect, String> {
        if !self.store.answers(host, self.now) {
            return Err("the store cannot be reached".into());
        }
        let revision = basis.as_ref().map(|(_, revision)| *revision);
        let stood = self.store.intent.as_ref().map(|(intent, _)| intent.clone());
        let Some(revision) = self.store.declare(created, revision, &next, self.bug) else {
            self.log.say(|| format!("controller {host}: {} conflicts", next.stamp()));
            return Err("somebody else replaced the intent first".into());
        };
        if self.store.leader.as_ref().is_none_or(|leader| leader.created != created) {
            self.checks.violate(|| "the store takes a write of a leader that was deposed".to_owned());
        }
        let before = basis.map(|(intent, _)| intent);
        // A person accepts a store that was put back, while memories or data went back, too: nobody can tell them.
        self.blind |= self.bug.is_none()
            && self.disks_back > 0
            && before.as_ref().map(|before| before.incarnation) != Some(next.incarnation);
        self.blind |= self.leads_blindly(host);
        let lease = self.store.lease.as_ref().map(|(record, _)| record);
        self.checks.declared(before.as_ref(), stood.as_ref(), &next, rpo, lease);
        if before.as_ref().is_some_and(|before| before.primary.is_some()) && next.primary.is_none() {
            let wall = self.hosts[host].wall(self.now);
            self.store.failovers.push(wall);
        }
        if self.network.unreliable && self.rng.chance(self.mix.lose) {
            return Err("the store's answer was lost".into());
        }
        Ok(Effect::Declared { before: Box::new(before), next: Box::new(next), revision })
    }

    fn amend(&mut self, host: usize, basis: &(Intent, i64), next: Intent) -> Result<Effect, String> {
        if !self.store.answers(host, self.now) {
            return Err("the store cannot be reached".into());
        }
        let stood = self.store.intent.as_ref().map(|(intent, _)| intent.clone());
        let Some(revision) = self.store.amend((&basis.0, basis.1), &next, self.bug) else {
            return Err("somebody else replaced the intent first".into());
        };
        self.amends += 1;
        self.log.say(|| format!("controller {host}: amended to {}", next.stamp()));
        self.checks.amended(stood.as_ref(), &next);
        if self.network.unreliable && self.rng.chance(self.mix.lose) {
            return Err("the store's answer was lost".into());
        }
        Ok(Effect::Amended(Box::new(next), revision))
    }

    /// The power of a host is switched off, and on again.
    fn fence_by_command(&mut self, node: &NodeId, stamp: Stamp) -> Result<Effect, String> {
        if self.network.unreliable && self.rng.chance(300) {
            return Err("the management controller does not answer".into());
        }
        let (host, until) = (member(node), self.now + self.rng.range(50, 400));
        self.log.say(|| format!("host {host} is fenced by command"));
        self.lose_host(host, until);
        Ok(Effect::FencedByCommand(node.clone(), stamp))
    }

    pub(crate) fn lose_host(&mut self, host: usize, until: Tick) {
        self.hosts[host].pg.kill(self.now);
        let it = &mut self.hosts[host];
        it.guard.disarm(&mut it.pg);
        it.boots = true;
        self.kill_member(host, until);
    }

    /// Commits through every endpoint, and waits for the acknowledgements.
    fn verify(
        &mut self,
        host: usize,
        key: locum::model::StepKey,
        stamp: Stamp,
        sent: Option<(Tick, Vec<u32>)>,
    ) {
        let (since, ids) = match sent {
            Some(sent) => sent,
            None => {
                let (clock, detect) = (self.hosts[host].clock.at(self.now), self.mix.policy.detect);
                let known = self.controllers[host].nodes.iter();
                let heard = known.filter(|(_, view)| clock.since(view.heard) <= detect);
                let known: Vec<usize> = heard.map(|(node, _)| member(node)).collect();
                let ids: Vec<u32> = known
                    .into_iter()
                    .map(|to| self.commit_through(host, to, true).map_or(0, |(_, id)| id))
                    .collect();
                (self.now, ids)
            }
        };
        let done = ids.iter().all(|id| self.checks.is_acked(*id));
        if done {
            self.controllers[host].ended(key, Ok(Effect::Verified(stamp)), self.now, self.bug);
        } else if ids.contains(&0) || self.now - since > VERIFY {
            self.controllers[host].ended(key, Err("no commit succeeded".into()), self.now, self.bug);
        } else {
            let work = Work::Verify { stamp, sent: Some((since, ids)) };
            self.controllers[host].tasks.push(Task { due: self.now + 1, key, work });
        }
    }

    /// Orders that nobody will answer any more.
    fn give_up_orders(&mut self, host: usize) {
        let controller = &mut self.controllers[host];
        if controller.pending.is_empty() {
            return;
        }
        let mut given_up = Vec::new();
        self.network.broken.retain(|(of, id)| match controller.pending.get_mut(id).filter(|_| *of == host) {
            Some(pending) => {
                pending.broken = true;
                false
            }
            None => *of != host,
        });
        for (id, pending) in &mut controller.pending {
            let remote = pending.to != host;
            let back = self.network.links.open(pending.to, host, self.now);
            let lives = self.hosts[pending.to].life == Life::Up;
            if lives && back && !pending.broken {
                pending.life_seen = self.now;
            }
            let restarted = self.hosts[pending.to].lives != pending.lives;
            let dead = (restarted || matches!(self.hosts[pending.to].life, Life::Dead(_))) && back;
            let silent = remote && self.now - pending.life_seen > SIGN_OF_LIFE;
            if dead || silent || self.now > pending.deadline {
                given_up.push((*id, if dead { "connection refused" } else { "no answer" }));
            }
        }
        for (id, why) in given_up {
            if let Some(pending) = controller.pending.remove(&id) {
                controller.ended(pending.key, Err(why.into()), self.now, self.bug);
            }
        }
    }

    // ---- the end ------------------------------------------------------------------------------

    /// Everything is as it should be; else what is not.
    pub(crate) fn ailment(&self) -> Option<String> {
        let Some((intent, _)) = &self.store.intent else { return Some("no intent".into()) };
        let Some(primary) = intent.primary.as_ref().map(member) else {
            return Some("nobody is declared".into());
        };
        let pg = &self.hosts[primary].pg;
        let agent = &self.hosts[primary].agent;
        let since = agent.disk.primary_since;
        if pg.proc != Proc::Primary
            || pg.is_frozen()
            || !since.is_some_and(|since| since.same_epoch(intent.stamp()))
        {
            return Some(format!("host {primary} is declared and {:?}", pg.proc));
        }
        if agent.serves_until.is_none() {
            return Some("the primary has no right to serve".into());
        }
        let standbys: Vec<usize> = (0..self.mix.servers).filter(|host| *host != primary).collect();
        for other in &standbys {
            let standby = &self.hosts[*other].pg;
            let streams = standby.receiver.as_ref().is_some_and(|receiver| receiver.from == primary);
            if standby.proc != Proc::Standby || !streams {
                return Some(format!("host {other} does not stream: {:?}", standby.proc));
            }
            if standby.paused {
                return Some("replay is paused".into());
            }
        }
        if !intent.attended || !standbys.iter().all(|host| intent.promotable.contains(&node(*host))) {
            return Some("unattended, or not everybody is promotable".into());
        }
        let synced = intent.sync.len() == standbys.len() && intent.sync == intent.sync_next;
        if intent.durability != Durability::Async && !synced {
            return Some("the sync set is not full".into());
        }
        let leads = |host: &Host| {
            host.table.mode() == Mode::Open
                && host.table.stamp().same_epoch(intent.stamp())
                && host.table.target().map(|target| member(&target.node)) == Some(primary)
        };
        if !self.hosts.iter().all(leads) {
            return Some("an endpoint leads elsewhere".into());
        }
        let well = |controller: &Controller| {
            controller.leads(self.now) && controller.well_since.is_some_and(|since| since + 30 < self.now)
        };
        if !self.controllers.iter().any(well) {
            let holds = self.holds();
            return Some(format!("the planner is not content: {}", holds));
        }
        None
    }

    /// A disk went back, and nobody is left who has everything that is known to have been there. Then nobody may serve.
    pub(crate) fn only_copy_went_back(&self) -> bool {
        let Some((intent, _)) = &self.store.intent else {
            // Who was primary the store has forgotten, and no server says it.
            return self.primaries().is_empty();
        };
        if self.disks_back == 0 {
            return false;
        }
        if self.controllers.iter().any(|c| c.leads(self.now) && c.holds.contains(&Hold::StoreNotBelieved)) {
            // It cannot be accepted where nobody remembers that it was primary.
            return true;
        }
        let of_term = |record: &&LeaseRecord| match &intent.primary {
            Some(primary) => record.node == *primary && record.epoch == intent.epoch,
            None => intent.previous.as_ref() == Some(&record.node) && record.epoch < intent.epoch,
        };
        // What a leader has heard or read it knows, also when whoever said so has forgotten it since.
        let leader = self.controllers.iter().find(|controller| controller.leads(self.now));
        let read = leader.and_then(|leader| leader.lease.last.as_ref()).map(|last| &last.value);
        let last = read.or(self.store.lease.as_ref().map(|(record, _)| record));
        let renewal = last.filter(of_term);
        let promised = !intent.sync.is_empty() && !intent.sync_next.is_empty();
        let old_node = intent.primary.as_ref().or(intent.previous.as_ref());
        let binds = |note: &Note| {
            let carried = last.is_some_and(|last| {
                let before = note.renewals.is_some_and(|before| last.renewals() > before);
                last.epoch > note.stamp.epoch || last.epoch == note.stamp.epoch && before
            });
            note.reached.is_some()
                && old_node == Some(&note.node)
                && note.stamp.incarnation == intent.incarnation
                && !carried
        };
        let on_disks = self.hosts.iter().filter_map(|host| Some((host.agent.host, host.noted.as_ref()?)));
        let heard = leader.into_iter().flat_map(|leader| &leader.nodes);
        let heard = heard.filter_map(|(node, view)| Some((member(node), view.noted.as_ref()?)));
        let notes: Vec<(usize, &Noted)> =
            on_disks.chain(heard).filter(|(_, noted)| binds(&noted.note)).collect();
        let unsure = |host: usize| {
            let its_own = notes.iter().find(|(by, noted)| *by == host && !noted.watched);
            its_own.is_some_and(|(_, own)| {
                let same = |noted: &Noted| {
                    noted.note.node == own.note.node && noted.note.stamp.same_epoch(own.note.stamp)
                };
                let another =
                    |other: &Host| other.agent.host != host && other.noted.as_ref().is_some_and(same);
                self.hosts.len() > 2 && !self.hosts.iter().any(another)
            })
        };
        let told_of_primary = notes.iter().filter_map(|(_, noted)| noted.note.reached).max();
        let of_primary = [intent.primary_floor, renewal.and_then(LeaseRecord::position), told_of_primary];
        let members = intent.sync.iter().chain(&intent.sync_next).map(|member| &member.name);
        let of_members = members.flat_map(|name| {
            let told = notes.iter().filter_map(|(_, noted)| noted.note.floors.get(name)).max();
            [intent.floors.get(name), renewal.and_then(|it| it.floors.get(name)), told]
        });
        let of_members: Vec<WalPosition> = of_members.flatten().collect();
        // Others than the old primary count only where a set promised that they have everything; in async, what would be lost
        // decides.
        let old = intent.primary.as_ref().or(intent.previous.as_ref()).map(member);
        let told = renewal.and_then(LeaseRecord::position).is_some();
        // Where it ends is not believed then, although it may have everything; a person can tell.
        let unfinished = old.is_some_and(|host| self.hosts[host].agent.disk.unfinished.is_some());
        // A member whose directory is a primary's of long ago is not started, so nobody makes sure that nothing is acknowledged by it.
        let stopped = |of: &locum::model::Member| {
            let host = &self.hosts[member(&of.node)];
            host.pg.is_down() && !host.pg.standby_signal
        };
        let stuck = intent.sync.iter().chain(&intent.sync_next).any(stopped);
        let others = !stuck
            && intent.attended
            && intent.settled
            && (promised || told && !unfinished || intent.durability == Durability::Async);
        // Its agent remembers another name than the set has: the one before its last clone again, perhaps.
        let renamed = |host: &Host| {
            let members = intent.sync.iter().chain(&intent.sync_next);
            let mut its = members.filter(|of| member(&of.node) == host.agent.host).peekable();
            its.peek().is_some() && its.all(|of| of.name != host.agent.disk.name)
        };
        // Before its candidate has reported its switch, who is further on the timeline before has that from the primary before.
        let declared_on = intent.primary_floor.filter(|_| !intent.settled).map(|floor| floor.timeline);
        let whole = |host: &Host| {
            let may = others
                && (host.pg.standby_signal || !host.pg.is_down())
                && (intent.sync.is_empty() || intent.in_sync(&node(host.agent.host)))
                && !renamed(host)
                && intent.promotable.contains(&node(host.agent.host));
            if !may && old != Some(host.agent.host) {
                return false;
            }
            if host.agent.disk.unfinished.is_some() {
                // Of a rewind that ended long ago, as far as anybody knows who has not forgotten it.
                return false;
            }
            let pg = &host.pg;
            let (timeline, end) = (pg.tli(), lsn(pg.wal.len()));
            let wal = Wal { timeline, switches: &pg.history, end, unfinished_until: None };
            let is_old = old == Some(host.agent.host);
            if unsure(host.agent.host) {
                return false;
            }
            let ahead = |other: &Host| {
                declared_on.is_none_or(|timeline| other.pg.tli() > timeline)
                    && other.pg.proc == Proc::Standby
                    && other.pg.wal.len() > pg.wal.len()
                    && other.pg.wal.starts_with(&pg.wal)
            };
            if is_old && pg.is_down() && self.hosts.iter().any(ahead) {
                return false;
            }
            if !is_old && intent.primary.is_none() && !self.checks.is_affordable(end) {
                return false;
            }
            let of_primary = of_primary.into_iter().filter(|_| is_old || !promised).flatten();
            of_primary.chain(of_members.iter().copied()).all(|floor| wal.contains(floor))
                && self.checks.is_whole(pg)
        };
        !self.hosts[..self.mix.servers].iter().any(whole)
    }

    pub(crate) fn holds(&self) -> String {
        let holds = self.controllers.iter().flat_map(|c| c.holds.iter().map(ToString::to_string));
        holds.collect::<Vec<_>>().join(" | ")
    }

    /// What everybody must have had is known to nobody who is heard, and a person is told so.
    pub(crate) fn is_unsure(&self) -> bool {
        let told = |hold: &Hold| matches!(hold, Hold::Unsure { .. });
        self.controllers.iter().any(|c| c.leads(self.now) && c.holds.iter().any(told))
    }

    /// The reason why nobody serves is told, and a disk that went back may be it.
    pub(crate) fn holds_with_reason(&self) -> bool {
        let told = |hold: &Hold| {
            matches!(
                hold,
                Hold::DiskWentBack { .. }
                    | Hold::NoCandidate { .. }
                    | Hold::Pen { .. }
                    | Hold::SilenceIsNoProof { .. }
                    | Hold::StoreNotBelieved
            )
        };
        self.controllers.iter().any(|c| c.leads(self.now) && c.holds.iter().any(told))
    }

    /// Servers that run as primaries.
    pub(crate) fn primaries(&self) -> Vec<usize> {
        let runs = |host: &&Host| matches!(host.agent.server.value, Server::Primary(_)) && !host.pg.is_down();
        self.hosts.iter().filter(runs).map(|host| host.agent.host).collect()
    }
}
