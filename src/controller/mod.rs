//! The loop: observe → plan → act → record. It decides nothing; [`crate::planner::plan`] does.
//!
//! Every member runs it. The one that holds the leader lease acts; the others observe, so that a new leader knows what
//! the old one knew, and the one beside the primary may do the little that the planner lets it do without leading. A change of facts wakes the loop at once.

mod act;
mod console;
mod drain;
mod election;
mod leave;
mod losses;
mod operations;
mod recorder;
mod remembered;
mod sampler;
mod show;
mod store_leader;
mod strays;
mod track;
mod watch;
mod world;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch as channel},
    task::JoinHandle,
};

pub use console::Handle;
pub use leave::leave_unattended;
pub use remembered::Remembered;

use crate::{
    model::{
        ClusterName, Incident, IncidentKind, Intent, Known, LeaseRecord, MemberFacts, Mono, NodeId,
        Objectives, Policy, Request, Seen, Stamp, StepKey,
    },
    planner::{self, Memory},
    ports::{Client, Clock, Member, Revision},
    sidecars::Sidecars,
    store::{Leadership, Records, Registration, RpoHistory},
};

/// The loop plans at least this often: for thresholds that pass without any fact changing.
const TICK: Duration = Duration::from_millis(50);
/// The same while a member is silent: a threshold is about to pass.
const TICK_IN_SILENCE: Duration = Duration::from_millis(10);
/// Events that may wait for the loop; beyond it, senders wait.
const EVENTS: usize = 1024;

/// A member's facts as they come in, and the way to order it.
#[derive(Clone)]
pub struct Feed {
    /// Which.
    pub node: NodeId,
    /// How to order it.
    pub member: Arc<dyn Member>,
    /// Its facts, already on this member's clock.
    pub facts: channel::Receiver<Option<Seen<MemberFacts>>>,
}

/// Makes sure of a node that cannot be asked: the fence command of the configuration.
#[async_trait::async_trait]
pub trait Fencer: Send + Sync {
    /// Ok: the node's PostgreSQL can acknowledge nothing more until a person lets it. Bounded by a deadline of its own.
    async fn fence(&self, node: &NodeId, stamp: Stamp) -> Result<(), String>;
}

/// What a controller needs from its surroundings.
pub struct Deps {
    /// The cluster.
    pub cluster: ClusterName,
    /// This member.
    pub node: NodeId,
    /// How it registers itself.
    pub registration: Registration,
    /// The nodes that must have reported before a first cluster is declared.
    pub members: Vec<NodeId>,
    /// Thresholds and choices.
    pub policy: Policy,
    /// What reports are judged against.
    pub objectives: Objectives,
    /// How long the leader's lease lasts.
    pub leader_ttl: Duration,
    /// The store.
    pub records: Records,
    /// This member's own feed.
    pub local: Feed,
    /// Makes the feed of another member.
    pub connect: Box<dyn Fn(&Registration) -> Feed + Send + Sync>,
    /// The proxies beside apps that follow this member.
    pub sidecars: Arc<Sidecars>,
    /// The client that verifies.
    pub client: Arc<dyn Client>,
    /// The fence command, where one is configured.
    pub fencer: Option<Arc<dyn Fencer>>,
    /// What this member has read in earlier lives, too.
    pub remembered: Remembered,
    /// When each member was last heard, for this member to tell the others.
    pub hears: channel::Sender<BTreeMap<NodeId, Mono>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where this member keeps its files, the salvage among them.
    pub state_dir: std::path::PathBuf,
    /// Where the live RPO is kept.
    pub history: Option<RpoHistory>,
}

/// What the loop is told.
pub(crate) enum Event {
    /// A member's facts.
    Facts(NodeId, Box<Seen<MemberFacts>>),
    /// What the store holds now, or why it cannot be read.
    Store(Result<Box<Stored>, String>),
    /// The primary lease, as read under an intent that was known to stand before. None: it was never renewed.
    Lease(Option<LeaseRecord>, watch::Wanted),
    /// Leadership gained, or lost.
    Leads(Option<Leading>),
    /// A step ended.
    Ended(Box<Ended>),
    /// An operator asks for something.
    Asked(Request),
}

/// What a read of the store brought.
pub(crate) struct Stored {
    pub(crate) intent: Option<(Intent, Revision)>,
    pub(crate) leader: Option<NodeId>,
    pub(crate) members: Vec<Registration>,
    /// The last incident.
    pub(crate) last: Option<Incident>,
    /// When the read began.
    pub(crate) asked: Mono,
}

/// A leadership, and until when it may be believed without a renewal.
#[derive(Clone, Debug)]
pub(crate) struct Leading {
    pub(crate) leadership: Leadership,
    pub(crate) until: Mono,
    /// What the store holds of the past, read when leadership was gained: an open incident is gone on with.
    pub(crate) past: Arc<Vec<Incident>>,
}

/// How a step ended.
pub(crate) struct Ended {
    pub(crate) key: StepKey,
    pub(crate) began: Mono,
    pub(crate) outcome: Result<Effect, String>,
}

/// What a step brought about, beyond the facts that came with it.
pub(crate) enum Effect {
    /// Nothing more.
    None,
    /// The intent was replaced.
    Declared {
        before: Box<Option<Intent>>,
        next: Box<Intent>,
        revision: Revision,
        cause: Option<crate::model::Cause>,
        suspected: Option<Mono>,
        decided: Mono,
    },
    /// Sessions were drained.
    Drained(Stamp),
    /// Commits through the endpoints succeeded.
    Verified(Stamp),
    /// This member, beside the primary, amended the intent, whether it leads or not.
    Amended(Box<Intent>, Revision),
    /// The fence command has made sure of a node.
    FencedByCommand(NodeId, Stamp),
}

/// Starts the loop and everything that feeds it.
#[must_use]
pub fn start(deps: Deps) -> (Handle, JoinHandle<()>) {
    let (events, inbox) = mpsc::channel(EVENTS);
    let (handle, publisher) = console::new(&deps, events.clone());
    let mut controller = Controller::new(deps, events, publisher);
    let task = tokio::spawn(async move { controller.run(inbox).await });
    (handle, task)
}

struct Controller {
    deps: Arc<Deps>,
    events: mpsc::Sender<Event>,
    world: world::World,
    memory: Memory,
    tracker: track::Tracker,
    operations: operations::Operations,
    recorder: recorder::Recorder,
    publisher: console::Publisher,
    feeds: BTreeMap<NodeId, Feed>,
    resigner: channel::Sender<bool>,
    /// The stamp of the intent that is known to stand: the lease is read again when it changes.
    wanted: channel::Sender<watch::Wanted>,
    /// The host that the store's own leader had better not sit on.
    kept_off: channel::Sender<Option<String>>,
    tasks: Vec<JoinHandle<()>>,
    last_incident: Option<Incident>,
}

impl Controller {
    fn new(deps: Deps, events: mpsc::Sender<Event>, publisher: console::Publisher) -> Self {
        let deps = Arc::new(deps);
        Self {
            world: world::World::new(&deps),
            memory: Memory::default(),
            tracker: track::Tracker::new(deps.node.clone(), deps.objectives, deps.policy.detect),
            operations: operations::Operations::default(),
            recorder: recorder::Recorder::new(deps.records.clone()),
            publisher,
            feeds: BTreeMap::new(),
            resigner: channel::Sender::new(false),
            wanted: channel::Sender::new(watch::Wanted::default()),
            kept_off: channel::Sender::new(None),
            tasks: Vec::new(),
            last_incident: None,
            events,
            deps,
        }
    }

    async fn run(&mut self, mut inbox: mpsc::Receiver<Event>) {
        self.listen(self.deps.local.clone());
        self.tasks.push(election::start(self.deps.clone(), self.events.clone(), self.resigner.subscribe()));
        self.tasks.push(watch::records(self.deps.clone(), self.events.clone()));
        self.tasks.push(watch::lease(self.deps.clone(), self.events.clone(), self.wanted.subscribe()));
        self.tasks.push(store_leader::start(self.deps.clone(), self.kept_off.subscribe()));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                _ = tick.tick() => {}
                () = tokio::time::sleep(TICK_IN_SILENCE), if self.world.is_anybody_silent(self.deps.clock.now()) => {}
            }
            while let Ok(event) = inbox.try_recv() {
                self.take(event);
            }
            self.turn();
        }
    }

    /// Takes what came in. No decision here.
    fn take(&mut self, event: Event) {
        match event {
            Event::Facts(node, facts) => self.world.heard(node, *facts),
            Event::Store(Ok(stored)) => {
                stored.members.iter().for_each(|registration| self.connect(registration));
                if self.world.leading.is_none() && stored.last.is_some() {
                    self.last_incident.clone_from(&stored.last);
                }
                self.world.stored(*stored, self.deps.clock.now());
            }
            Event::Store(Err(error)) => self.world.store_error = Some(error),
            Event::Lease(record, wanted) => self.world.lease_read(record, wanted, self.deps.clock.now()),
            Event::Leads(leading) => self.lead(leading),
            Event::Ended(ended) => self.ended(*ended),
            Event::Asked(request) => self.ask(request),
        }
    }

    /// Plans once and begins what is planned.
    fn turn(&mut self) {
        let now = self.deps.clock.now();
        self.world.turned(now);
        let view = self.world.view(now, self.deps.clock.wall());
        let stands = view.intent.as_ref().map(Intent::stamp);
        let wanted = watch::Wanted { under: stands, known: self.world.renewals_not_read() };
        self.wanted.send_if_modified(|known| {
            // What was missed and has been read since is no reason to read again.
            let news = wanted.under != known.under || wanted.known > known.known;
            std::mem::replace(known, wanted) != wanted && news
        });
        self.deps.remembered.raise(Known { stamp: view.remembered, renewals: view.renewals });
        let busy = self.tracker.open().is_some() || !view.underway.is_empty();
        let host = store_leader::host_of_primary(&view, busy);
        self.kept_off.send_if_modified(|known| {
            *known != host && {
                known.clone_from(&host);
                true
            }
        });
        let plan = planner::plan(&view, &self.memory, &self.deps.policy, now);
        self.tracker.observe(&view, &plan, now, self.deps.clock.wall());
        self.record();
        self.operations.observe(&view, self.tracker.open().or(self.last_incident.as_ref()));
        let resign = view.leading && self.world.leads_beside_the_primary(now, self.tracker.open().is_some());
        self.resigner.send_if_modified(|wish| std::mem::replace(wish, resign) != resign);
        // What a member that does not lead may do is for the planner to say.
        for step in &plan.steps {
            self.begin(step.clone(), &plan, now);
        }
        self.memory = plan.memory.clone();
        let incidents = (self.tracker.open(), self.last_incident.as_ref());
        let snapshot =
            show::snapshot(&self.deps, &self.world, &view, &plan, incidents, self.operations.list(), now);
        self.publisher.publish(snapshot, view);
        if let (Some(history), Some(rpo)) = (&self.deps.history, self.world.rpo()) {
            history.note(self.deps.clock.wall(), rpo, &self.deps.objectives);
        }
    }

    /// Writes the incident where it changed. The store's answer is not waited for: it is no part of the recovery.
    fn record(&mut self) {
        let Some(leading) = self.world.leading.clone() else { return };
        for incident in self.tracker.completed() {
            if self.last_incident.as_ref().is_some_and(|last| last.id == incident.id) {
                self.last_incident = Some(incident.clone());
            }
            self.recorder.save(leading.leadership.clone(), incident);
        }
        for incident in self.tracker.changed() {
            self.last_incident = Some(incident.clone());
            self.recorder.save(leading.leadership.clone(), incident);
        }
    }

    fn lead(&mut self, leading: Option<Leading>) {
        let (led, leads) = (self.world.leading.is_some(), leading.is_some());
        if led != leads {
            tracing::info!(leads, "leadership changed");
            // What the former leader began is not known here; what this one knew may be old.
            // What standbys had reported in this epoch stays true, and so does when WAL last came to them: without it a new
            // leader would take a primary whose member alone is gone for lost. And a crash loop is one whoever leads.
            let Memory { advanced, crashes, .. } = std::mem::take(&mut self.memory);
            self.memory = Memory { advanced, crashes, ..Memory::default() };
            self.tracker.forget();
            // Whatever is open is proven anew: the record of an earlier proof may be lost.
            self.world.verified = None;
            match &leading {
                Some(leading) => self.take_up(&leading.past),
                None => self.drop_requests(),
            }
        }
        self.world.leading = leading;
    }

    /// Goes on where the former leader was, and counts its failovers toward the flap limit.
    fn take_up(&mut self, past: &[Incident]) {
        let (now, wall) = (self.deps.clock.now(), self.deps.clock.wall());
        if !past.is_empty() {
            // They hold what this member counted itself, when it led before.
            self.world.forget_failovers();
        }
        for incident in past.iter().filter(|incident| incident.kind == IncidentKind::Failover) {
            let ago = Duration::try_from(wall.duration_since(incident.started_at)).unwrap_or_default();
            self.world.failed_over(now.back(ago));
        }
        self.last_incident = past.last().cloned();
        self.tracker.take_up(past);
    }

    fn ask(&mut self, request: Request) {
        self.operations.note(&request);
        let refused = if self.world.leading.is_none() {
            Some("this member does not lead any more; ask again")
        } else if !self.world.ask(request.clone()) {
            Some("too many requests wait already")
        } else {
            None
        };
        if let Some(why) = refused {
            self.operations.refuse(&request.operation, vec![why.to_owned()]);
        }
    }

    /// What was asked of a leader that leads no more is not done behind the operator's back when it leads again.
    fn drop_requests(&mut self) {
        let why = "this member stopped leading before it began; ask again".to_owned();
        for operation in self.world.drop_requests() {
            self.operations.refuse(&operation, vec![why.clone()]);
        }
    }

    fn connect(&mut self, registration: &Registration) {
        if registration.node == self.deps.node {
            return;
        }
        let known = self.world.registrations.get(&registration.node);
        if known.is_none_or(|known| known.peer_address != registration.peer_address) {
            let feed = (self.deps.connect)(registration);
            self.listen(feed);
        }
    }

    /// Forwards a member's facts into the loop.
    fn listen(&mut self, mut feed: Feed) {
        self.feeds.insert(feed.node.clone(), feed.clone());
        let events = self.events.clone();
        self.tasks.push(tokio::spawn(async move {
            loop {
                let facts = feed.facts.borrow_and_update().clone();
                if let Some(facts) = facts
                    && events.send(Event::Facts(feed.node.clone(), Box::new(facts))).await.is_err()
                {
                    return;
                }
                if feed.facts.changed().await.is_err() {
                    return;
                }
            }
        }));
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
