//! The world: two hosts, two controllers, a store, a network, and one tick after the other.

use locum::model::{Command, Mode, Reply, Stamp};

use super::{
    Tick,
    agent::{Agent, Asker, Reach},
    bug::Bug,
    checks::Checks,
    controller::{
        Controller, Effect, LONG, Leading, Pending, QUICK, SHORT, SIGN_OF_LIFE, Task, Work, member,
    },
    faults::Faults,
    host::{Host, Life, clock},
    log::Log,
    mix::Mix,
    network::{Envelope, FACTS_LATE, Message, Network},
    node,
    postgres::{Conninfo, Pg, Proc},
    replication::Stream,
    rng::Rng,
    store::Store,
};

/// A verifying commit is given up after this.
const VERIFY: Tick = 200;

pub(crate) struct World {
    pub(crate) now: Tick,
    pub(crate) rng: Rng,
    pub(crate) mix: Mix,
    pub(crate) bug: Option<Bug>,
    pub(crate) hosts: [Host; 2],
    pub(crate) controllers: [Controller; 2],
    pub(crate) store: Store,
    pub(crate) network: Network,
    pub(crate) faults: Faults,
    pub(crate) checks: Checks,
    pub(crate) log: Log,
    next_record: u32,
    next_message: u64,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mix = Mix::draw(&mut rng, bug);
        let mut agents = [0, 1].map(|host| {
            let mut agent = Agent::new(host, locum::model::StandbyName(String::new()));
            agent.disk.name = agent.new_name();
            agent
        });
        let name = agents[1].disk.name.clone();
        agents[1].changed = true;
        let [first, second] = agents;
        let from = Conninfo { host: 0, slot: node(1).slot(), name };
        let checks = Checks::new(mix.policy.durability, mix.policy.max_data_loss, bug);
        let mut log = Log { on: traced, ..Log::default() };
        log.say(|| {
            let policy = &mix.policy;
            format!(
                "seed {seed}: {:?}, on crash {:?}, hang {:?}, write wait {:?}, loss {}; {:?} every {} ticks for {}",
                policy.durability,
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
            hosts: [Host::new(0, first, None), Host::new(1, second, Some(from))],
            controllers: [Controller::new(0, 0), Controller::new(1, 0)],
            store: Store::new(),
            network: Network::default(),
            faults: Faults::default(),
            checks,
            log,
            next_record: 1,
            next_message: 0,
        }
    }

    /// One tick of everything.
    pub(crate) fn tick(&mut self, faults: bool) {
        self.now += 1;
        self.log.tick = self.now;
        self.network.unreliable = faults;
        if faults {
            self.go_wrong();
        }
        self.store.sweep(self.now);
        self.live_or_die();
        self.run_servers();
        self.write();
        self.deliver();
        for host in 0..2 {
            self.run_agent(host);
        }
        for host in 0..2 {
            if self.hosts[host].life == Life::Up && self.controllers[host].frozen_until <= self.now {
                self.run_controller(host);
            }
        }
        for host in 0..2 {
            self.checks.promise(host, self.hosts[host].agent.disk.promise);
            let (epoch, pg) = (self.hosts[host].epoch(), &self.hosts[host].pg);
            self.checks.promised_is_in_force(host, epoch, pg, self.now);
        }
    }

    fn both(hosts: &mut [Host; 2], host: usize) -> (&mut Host, &mut Host) {
        let [first, second] = hosts;
        if host == 0 { (first, second) } else { (second, first) }
    }

    // ---- members that come and go -------------------------------------------------------------

    pub(crate) fn kill_member(&mut self, host: usize, until: Tick) {
        self.hosts[host].life = Life::Dead(until);
        self.hosts[host].kept.clear();
    }

    fn live_or_die(&mut self) {
        for host in 0..2 {
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
                    it.agent.restart(&mut it.pg, self.bug);
                    self.checks.endpoint_restarted(host);
                    self.controllers[host] = Controller::new(host, self.now);
                }
                _ => {}
            }
        }
    }

    // ---- servers ------------------------------------------------------------------------------

    fn run_servers(&mut self) {
        for host in 0..2 {
            let (it, other) = Self::both(&mut self.hosts, host);
            let mut stream = Stream {
                host,
                now: self.now,
                links: &self.network.links,
                mix: &self.mix,
                rng: &mut self.rng,
                checks: &mut self.checks,
                log: &mut self.log,
            };
            stream.step(&mut it.pg, &mut other.pg);
        }
        for host in 0..2 {
            let (it, other) = Self::both(&mut self.hosts, host);
            let before = it.pg.proc;
            let next = &mut self.next_record;
            let mut fresh = || {
                *next += 1;
                *next
            };
            let told = it.pg.step(self.now, &mut self.rng, &mut fresh);
            let epoch = it.epoch();
            if it.pg.proc != before {
                self.log.say(|| format!("server {host}: {:?}, {} records", it.pg.proc, it.pg.wal.len()));
                if it.pg.proc == Proc::Primary {
                    let promoted = matches!(before, Proc::Promoting { .. });
                    self.checks.becomes_primary(host, epoch, promoted, &it.pg, &other.pg);
                }
            }
            for commit in told {
                self.checks.acknowledged(host, epoch, commit, &other.pg);
            }
        }
    }

    fn fresh(&mut self) -> u32 {
        self.next_record += 1;
        self.next_record
    }

    /// Clients commit: some at a node's own socket, which no endpoint guards, some through the endpoints.
    fn write(&mut self) {
        for host in 0..2 {
            if self.rng.chance(self.mix.direct) && self.hosts[host].pg.commits(self.now) {
                let id = self.fresh();
                self.hosts[host].pg.commit(id);
            }
            if self.rng.chance(self.mix.clients) {
                self.commit_through(host, host);
            }
        }
    }

    /// A commit through the endpoint of `host`, by a client on the host `from`. None: it gets nowhere.
    fn commit_through(&mut self, from: usize, host: usize) -> Option<(usize, u32)> {
        let it = &self.hosts[host];
        let links = &self.network.links;
        let joined = |a: usize, b: usize| links.open(a, b, self.now) && links.open(b, a, self.now);
        let target = it.table.target().filter(|_| it.life == Life::Up && it.table.mode() == Mode::Open)?;
        let to = member(&target.node);
        let pg = &self.hosts[to].pg;
        if !(joined(from, host) && joined(host, to) && pg.proc == Proc::Primary && pg.accepts()) {
            return None;
        }
        let id = self.fresh();
        self.hosts[to].pg.commit(id);
        Some((to, id))
    }

    // ---- messages -----------------------------------------------------------------------------

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.network.send(from, to, message, self.now, &mut self.rng, &self.mix);
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
                    let at = clock(to, envelope.sent + u64::from(from != to && late > 0));
                    let facts = if from == to { *facts } else { facts.rebased(at) };
                    self.controllers[to].heard(facts, at);
                }
            }
        }
    }

    fn reply(&mut self, host: usize, asker: Asker, reply: Reply) {
        let facts = Box::new(self.hosts[host].facts(self.now));
        self.send(host, asker.host, Message::Reply { id: asker.id, reply, facts });
    }

    // ---- agents -------------------------------------------------------------------------------

    fn with_agent<T>(&mut self, host: usize, act: impl FnOnce(&mut Agent, &mut Reach<'_>) -> T) -> T {
        let linked = self.network.links.open(host, 1 - host, self.now)
            && self.network.links.open(1 - host, host, self.now);
        let next = &mut self.next_record;
        let mut fresh = || {
            *next += 1;
            *next
        };
        let (it, other) = Self::both(&mut self.hosts, host);
        let mut reach = Reach {
            now: self.now,
            clock: clock(host, self.now),
            pg: &mut it.pg,
            other: &other.pg,
            linked,
            rng: &mut self.rng,
            mix: &self.mix,
            checks: &mut self.checks,
            log: &mut self.log,
            bug: self.bug,
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

    fn run_agent(&mut self, host: usize) {
        if self.hosts[host].life != Life::Up {
            return;
        }
        let replies = self.with_agent(host, Agent::step);
        for (asker, reply) in replies {
            self.reply(host, asker, reply);
        }
        let it = &mut self.hosts[host];
        if it.agent.changed || self.now >= it.tell_at {
            (it.agent.changed, it.tell_at) = (false, self.now + 10);
            let facts = Box::new(it.facts(self.now));
            self.send(host, 1 - host, Message::Facts(facts.clone()));
            self.send(host, host, Message::Facts(facts));
        }
    }

    // ---- controllers --------------------------------------------------------------------------

    fn run_controller(&mut self, host: usize) {
        self.read_store(host);
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
            controller.lead(None, &[]);
            controller.next_try = self.now + 2 * self.mix.leader_ttl;
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
            controller.read_at = Some(self.now + wait);
        }
        if controller.read_at.is_some_and(|at| at <= self.now) {
            (controller.read_at, controller.read) = (None, Some(self.store.revision));
            if let Some((intent, revision)) = self.store.intent.clone() {
                controller.adopt(intent, revision, self.now, self.bug);
            }
        }
    }

    fn elect(&mut self, host: usize) {
        let (ttl, controller) = (self.mix.leader_ttl, &mut self.controllers[host]);
        if self.now < controller.next_try {
            return;
        }
        let answers = self.store.answers(host, self.now);
        let until = clock(host, self.now + ttl * 4 / 5);
        if let Some(leading) = controller.leading {
            controller.next_try = self.now + ttl / 4;
            if answers {
                let held = self.store.renew(leading.created, ttl, self.now);
                controller.lead(held.then_some(Leading { until, ..leading }), &[]);
            } else if !controller.leads(self.now) {
                controller.lead(None, &[]);
            }
        } else {
            controller.next_try = self.now + ttl / 10;
            if answers && let Some(created) = self.store.campaign(ttl, self.now) {
                self.log.say(|| format!("controller {host} leads"));
                controller.lead(Some(Leading { created, until }), &self.store.failovers);
            }
        }
    }

    fn carry_on(&mut self, host: usize, task: Task) {
        let (now, bug) = (self.now, self.bug);
        match task.work {
            Work::Declare { created, basis, next, rpo } => {
                let outcome = self.declare(host, created, basis, *next, rpo.as_ref());
                self.controllers[host].ended(task.key, outcome, now, bug);
            }
            Work::Order { node, stamp, command } => {
                let long = matches!(
                    command,
                    Command::Rewind(..)
                        | Command::Clone(..)
                        | Command::Follow(_)
                        | Command::Serve
                        | Command::Recruit
                );
                let id = self.expect_answer(host, task.key, member(&node), if long { LONG } else { SHORT });
                self.send(host, member(&node), Message::Order { id, stamp, command });
            }
            Work::Route { node, stamp, order } => {
                let to = member(&node);
                let id = self.expect_answer(host, task.key, to, if to == host { SHORT } else { QUICK });
                self.send(host, to, Message::Route { id, stamp, order });
            }
            Work::Drain { stamp } => {
                for to in 0..2 {
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
        let Some(revision) = self.store.declare(created, revision, &next, self.bug) else {
            self.log.say(|| format!("controller {host}: {} conflicts", next.stamp()));
            return Ok(Effect::None);
        };
        if self.store.leader.as_ref().is_none_or(|leader| leader.created != created) {
            self.checks.violate(|| "the store takes a write of a leader that was deposed".to_owned());
        }
        let before = basis.map(|(intent, _)| intent);
        self.checks.declared(before.as_ref(), &next, rpo);
        if before.as_ref().is_some_and(|before| before.primary.is_some()) && next.primary.is_none() {
            self.store.failovers.push(self.now);
        }
        if self.network.unreliable && self.rng.chance(self.mix.lose) {
            return Err("the store's answer was lost".into());
        }
        Ok(Effect::Declared { before: Box::new(before), next: Box::new(next), revision })
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
                let known: Vec<usize> = self.controllers[host].nodes.keys().map(member).collect();
                let ids: Vec<u32> = known
                    .into_iter()
                    .map(|to| self.commit_through(host, to).map_or(0, |(_, id)| id))
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
        let other = 1 - primary;
        let (pg, standby): (&Pg, &Pg) = (&self.hosts[primary].pg, &self.hosts[other].pg);
        let since = self.hosts[primary].agent.disk.primary_since;
        if pg.proc != Proc::Primary || !since.is_some_and(|since| since.same_epoch(intent.stamp())) {
            return Some(format!("host {primary} is declared and {:?}", pg.proc));
        }
        if standby.proc != Proc::Standby || standby.receiver.is_none() {
            return Some(format!("host {other} does not stream: {:?}", standby.proc));
        }
        if standby.paused {
            return Some("replay is paused".into());
        }
        let synced = intent.sync.len() == 1 && intent.sync == intent.sync_next;
        if intent.durability != locum::model::Durability::Async && !synced {
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
            let holds: Vec<String> =
                self.controllers.iter().flat_map(|c| c.holds.iter().map(ToString::to_string)).collect();
            return Some(format!("the planner is not content: {}", holds.join(" | ")));
        }
        None
    }
}
