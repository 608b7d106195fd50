//! WAL on its way from one server to the other, and the word that it is flushed on its way back.

use super::{
    Tick,
    checks::Checks,
    host::Host,
    log::Log,
    mix::Mix,
    network::Links,
    postgres::{Pg, Proc, Receiver, Sender, common, fits, slot_of},
    rng::Rng,
};

fn pair(hosts: &mut [Host], a: usize, b: usize) -> (&mut Pg, &mut Pg) {
    let [first, second] = hosts.get_disjoint_mut([a, b]).expect("two hosts");
    (&mut first.pg, &mut second.pg)
}

/// One tick of the stream toward the server of `host`, from wherever it is configured to come.
pub(crate) struct Stream<'a> {
    pub(crate) host: usize,
    pub(crate) now: Tick,
    pub(crate) links: &'a Links,
    pub(crate) mix: &'a Mix,
    pub(crate) rng: &'a mut Rng,
    pub(crate) checks: &'a mut Checks,
    pub(crate) log: &'a mut Log,
}

impl Stream<'_> {
    pub(crate) fn step(&mut self, hosts: &mut [Host]) {
        let host = self.host;
        for from in (0..hosts.len()).filter(|other| *other != host) {
            let (standby, upstream) = pair(hosts, self.host, from);
            self.drop_dead_sender(standby, upstream, from);
        }
        let standby = &hosts[self.host].pg;
        if standby.frozen || standby.proc != Proc::Standby {
            return;
        }
        let wanted = standby.conninfo_read.clone();
        let elsewhere = standby.receiver.as_ref().filter(|receiver| {
            wanted.as_ref().is_none_or(|wanted| wanted.name != receiver.name || wanted.host != receiver.from)
        });
        if let Some(from) = elsewhere.map(|receiver| receiver.from) {
            let (standby, upstream) = pair(hosts, self.host, from);
            self.disconnect(standby, upstream);
        }
        match (hosts[self.host].pg.receiver.as_ref().map(|receiver| receiver.from), wanted) {
            (Some(from), _) => {
                let (standby, upstream) = pair(hosts, self.host, from);
                self.go_on(standby, upstream);
            }
            (None, Some(wanted)) if wanted.host != self.host && hosts[self.host].pg.retry_at <= self.now => {
                let (standby, upstream) = pair(hosts, self.host, wanted.host);
                standby.retry_at = self.now + self.rng.range(5, self.mix.wal_retry);
                let open = self.links.both(self.host, wanted.host, self.now);
                let slot = upstream.slots.contains(&wanted.slot);
                if open && upstream.accepts() && slot && fits(standby, upstream) {
                    self.connect(standby, upstream, wanted.host, wanted.name);
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, standby: &mut Pg, upstream: &mut Pg, from: usize, name: locum::model::StandbyName) {
        if common(standby, upstream) < standby.wal.len() && self.checks.goes_on_unknowing() {
            // PostgreSQL cannot tell, and nobody else can.
            return self.checks.diverges();
        }
        if common(standby, upstream) < standby.wal.len() {
            return self.checks.violate(|| {
                format!("host {} streams onto WAL that is not a beginning of its upstream's", self.host)
            });
        }
        self.take_timeline(standby, upstream);
        self.log.say(|| format!("host {} streams again from {from} as {name}", self.host));
        let receiver =
            Receiver { from, generation: upstream.generation, heard: self.now, name: name.clone() };
        standby.receiver = Some(receiver);
        standby.received = Some(standby.wal.len());
        let host = self.host;
        let sender = Sender { host, flushed: standby.wal.len(), heard: self.now, streaming: false };
        upstream.senders.insert(name, sender);
    }

    fn take_timeline(&mut self, standby: &mut Pg, upstream: &Pg) {
        if standby.timeline != upstream.timeline {
            standby.timeline = upstream.timeline;
            standby.history.clone_from(&upstream.history);
            standby.restartpoint_later(self.now, self.rng);
        }
    }

    /// The standby's side ends the connection; the other side learns of it if the link lets it.
    fn disconnect(&mut self, standby: &mut Pg, upstream: &mut Pg) {
        let Some(receiver) = standby.receiver.take() else { return };
        self.log.say(|| format!("host {} streams no more", self.host));
        standby.retry_at = self.now + self.rng.range(1, self.mix.wal_retry);
        if self.links.open(self.host, receiver.from, self.now) && upstream.generation == receiver.generation {
            upstream.senders.remove(&receiver.name);
        }
    }

    fn go_on(&mut self, standby: &mut Pg, upstream: &mut Pg) {
        let Some(receiver) = standby.receiver.clone() else { return };
        let hears = self.links.open(receiver.from, self.host, self.now);
        let alive = upstream.generation == receiver.generation
            && upstream.sends(self.now)
            && upstream.senders.contains_key(&receiver.name);
        let ended = upstream.generation != receiver.generation
            || (upstream.is_down() && !upstream.has_processes(self.now))
            || !upstream.senders.contains_key(&receiver.name);
        if (hears && ended) || self.now - receiver.heard > self.mix.receiver_timeout {
            return self.disconnect(standby, upstream);
        }
        // What was flushed up to the tick before is said first: a reply is never faster than what it is about.
        if alive
            && self.links.open(self.host, receiver.from, self.now)
            && let Some(sender) = upstream.senders.get_mut(&receiver.name)
        {
            (sender.flushed, sender.heard) = (standby.wal.len(), self.now);
            sender.streaming |= standby.wal.len() + 16 >= upstream.wal.len();
            upstream.slot_at.insert(slot_of(&receiver.name), standby.wal.len());
        }
        if !(alive && hears) {
            return;
        }
        if let Some(receiver) = &mut standby.receiver {
            receiver.heard = self.now;
        }
        if self.rng.chance(self.mix.wal_stall) {
            return;
        }
        // A standby that is streamed from goes to another timeline while it runs.
        if standby.timeline != upstream.timeline {
            if !fits(standby, upstream) {
                return self.disconnect(standby, upstream);
            }
            self.take_timeline(standby, upstream);
        }
        let has = standby.wal.len();
        let differs = has > upstream.wal.len() || standby.wal.last() != upstream.wal.get(has - 1);
        if differs && self.checks.goes_on_unknowing() {
            return self.checks.diverges();
        }
        if differs {
            return self.checks.violate(|| format!("host {} holds WAL that its upstream has not", self.host));
        }
        let some = usize::try_from(self.rng.range(1, 24)).unwrap_or(1);
        let to = (has + some).min(upstream.wal.len());
        if to > has {
            self.checks.grows(self.host);
            standby.wal.extend_from_slice(&upstream.wal[has..to]);
        }
        standby.received = Some(to);
    }

    /// A walsender that hears nothing gives up; one whose standby is gone is told so, if the link lets it.
    fn drop_dead_sender(&mut self, standby: &Pg, upstream: &mut Pg, upstream_of: usize) {
        let (host, from) = (self.host, upstream_of);
        if !upstream.senders.values().any(|sender| sender.host == host) {
            return;
        }
        let back = self.links.open(host, from, self.now);
        let receiver = standby.receiver.as_ref().filter(|it| !standby.is_down() && it.from == from);
        let connected = receiver.map(|receiver| receiver.name.clone());
        let (now, timeout, frozen) = (self.now, self.mix.sender_timeout, upstream.is_frozen());
        upstream.senders.retain(|name, sender| {
            let gone = back && connected.as_ref() != Some(name);
            frozen || sender.host != host || !(gone || now - sender.heard > timeout)
        });
    }
}
