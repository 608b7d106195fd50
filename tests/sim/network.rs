//! What is between two hosts: links that are cut one way or both, and messages that are late, lost or doubled.

use std::time::Duration;

use locum::model::{Command, MemberFacts, Note, Reply, RouteOrder, Stamp};

use super::{MOST, Tick, mix::Mix, right::Told, rng::Rng};

/// How long a message survives a cut link, as the kernel's timeouts have it.
const GIVEN_UP: Tick = 500;
/// A message of the fact stream that is later than this ends the stream instead (`api::peer::stream`).
pub(crate) const FACTS_LATE: Tick = 100;

/// Which way each link is cut, and until when: `cut_until[from][to]`.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) cut_until: [[Tick; MOST]; MOST],
}

impl Links {
    pub(crate) fn open(&self, from: usize, to: usize, now: Tick) -> bool {
        from == to || self.cut_until[from][to] <= now
    }

    pub(crate) fn both(&self, a: usize, b: usize, now: Tick) -> bool {
        self.open(a, b, now) && self.open(b, a, now)
    }
}

/// Which postmaster of which host was looked at, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) host: usize,
    pub(crate) generation: u64,
    pub(crate) at: Tick,
}

/// What members say to each other.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Order {
        id: u64,
        stamp: Stamp,
        command: Command,
    },
    Route {
        id: u64,
        stamp: Stamp,
        order: RouteOrder,
    },
    Reply {
        id: u64,
        reply: Reply,
        facts: Box<MemberFacts>,
    },
    Facts(Box<MemberFacts>),
    /// One agent asks another for its word …
    Vouch {
        id: u64,
        stamp: Stamp,
        ttl: Duration,
        note: Option<Box<Note>>,
    },
    /// A primary that the store has left alone tells how far everybody is: which postmaster, and when it was looked at.
    Note(Box<Note>, Looked),
    /// … and is told, by it or by the store.
    Told {
        id: u64,
        told: Told,
    },
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) due: Tick,
    pub(crate) sent: Tick,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) message: Message,
}

#[derive(Default)]
pub(crate) struct Network {
    pub(crate) links: Links,
    on_the_way: Vec<Envelope>,
    /// The fact stream is one connection: its messages arrive in order.
    last_facts: [[Tick; MOST]; MOST],
    /// Orders whose connection broke: the caller's host, and which.
    pub(crate) broken: Vec<(usize, u64)>,
    /// Faults are on: messages may be late, lost and doubled.
    pub(crate) unreliable: bool,
}

impl Network {
    pub(crate) fn send(
        &mut self,
        from: usize,
        to: usize,
        message: Message,
        now: Tick,
        rng: &mut Rng,
        mix: &Mix,
    ) {
        let mut due = now + if from == to { 0 } else { rng.range(1, 3) };
        if self.unreliable && from != to {
            if rng.chance(mix.lose) {
                return self.lost(from, to, &message);
            }
            if rng.chance(mix.late) {
                due += rng.range(1, mix.late_most);
            }
        }
        if matches!(message, Message::Facts(_)) {
            let last = &mut self.last_facts[from][to];
            due = due.max(*last);
            *last = due;
        }
        let doubled = self.unreliable
            && from != to
            && matches!(message, Message::Order { .. } | Message::Route { .. })
            && rng.chance(mix.double);
        let envelope = Envelope { due, sent: now, from, to, message };
        if doubled {
            let again = due + rng.range(1, mix.late_most.max(2));
            self.on_the_way.push(Envelope { due: again, ..envelope.clone() });
        }
        self.on_the_way.push(envelope);
    }

    /// What arrives now. A message that meets a cut link tries again until it is given up; facts are not repeated.
    pub(crate) fn arrivals(&mut self, now: Tick) -> Vec<Envelope> {
        let mut arrived = Vec::new();
        let mut index = 0;
        while index < self.on_the_way.len() {
            let envelope = &mut self.on_the_way[index];
            if envelope.due > now {
                index += 1;
                continue;
            }
            let open = self.links.open(envelope.from, envelope.to, now);
            let facts = matches!(envelope.message, Message::Facts(_));
            if open {
                arrived.push(self.on_the_way.remove(index));
            } else if facts || now - envelope.sent > GIVEN_UP {
                let given_up = self.on_the_way.remove(index);
                self.lost(given_up.from, given_up.to, &given_up.message);
            } else {
                envelope.due = now + 7;
                index += 1;
            }
        }
        arrived
    }

    fn lost(&mut self, from: usize, to: usize, message: &Message) {
        match message {
            Message::Order { id, .. } | Message::Route { id, .. } => self.broken.push((from, *id)),
            Message::Reply { id, .. } => self.broken.push((to, *id)),
            Message::Facts(_) | Message::Vouch { .. } | Message::Note(..) | Message::Told { .. } => {}
        }
    }

    /// It cannot be taken yet.
    pub(crate) fn put_off(&mut self, envelope: Envelope) {
        self.on_the_way.push(envelope);
    }

    /// Back to one; whatever was on its way between two reliable hosts arrives soon.
    pub(crate) fn heal(&mut self, now: Tick) {
        self.links = Links::default();
        self.unreliable = false;
        for envelope in &mut self.on_the_way {
            envelope.due = envelope.due.min(now + 300);
        }
    }
}
