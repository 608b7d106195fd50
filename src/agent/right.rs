//! The right to serve: by a lease in the store, else by the word of everybody who could be promoted.
//!
//! Nothing else is asked, in every mode. The store's silence is by itself no reason to stop a primary; silence of the
//! store *and* of somebody who could be promoted is, because that one may have been (SAFETY, "The right to serve").

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{inner::Inner, orders::Unable};
use crate::{
    guard,
    model::{
        self, Epoch, Incarnation, LeaseRecord, Mono, NodeId, RECOVERY_HANGS, Reign, Renewals, Server, Stamp,
        Version, WalPosition, lease,
    },
    notes::Notes,
    ports::{Lease, Outcome, Peers, Revision, StoreError},
};

/// Between two renewals: several within `detect`, because who watches takes a renewal for a sign of life.
const RENEW: Duration = Duration::from_millis(200);
/// How long the store may take over one call before it counts as silent.
const CALL: Duration = Duration::from_millis(800);
/// How often a renewal that others got in the way of is tried again at once.
const TRIES: u32 = 3;

/// What serving depends on.
#[derive(Clone)]
pub struct Serving {
    /// How long one renewal lasts.
    pub ttl: Duration,
    /// For how long PostgreSQL may fail to complete a commit of the agent's own until the lease is no longer renewed.
    pub hang: Duration,
    /// Where the lease is.
    pub lease: Arc<dyn Lease>,
    /// Whom to ask when the store is silent.
    pub peers: Arc<dyn Peers>,
    /// What the member beside it remembers of the store. None: nothing, which only tests may want.
    pub remembered: Option<watch::Receiver<model::Known>>,
    /// What this primary told the others, kept as they keep it. None: nothing is, which only tests may want.
    pub notes: Option<Arc<Notes>>,
    /// The guard that ends it. None: nothing does, which only tests may want.
    pub guard: Option<guard::Settings>,
}

/// What was last read of the store, so that a renewal is one call.
#[derive(Default)]
pub(super) struct Known {
    reign: Option<(Reign, Revision)>,
    /// None: not read. Some(None): there is no lease.
    last: Option<Option<(LeaseRecord, Revision)>>,
    /// The latest renewal of its own, and of which epoch.
    pub(super) renewed: Option<(Epoch, Renewals)>,
    /// It serves by the others' word.
    pub(super) failsafe: bool,
}

/// Why a lease was not renewed.
enum Denied {
    /// Another reign stands, and does not name this node.
    Deposed(Reign),
    /// A reign stands that names this node, but for another epoch than the one it serves in: an order will say so.
    NotYet,
    /// The store does not answer, or what it says is older than what is known here.
    Silent(String),
}

/// Renews for as long as there is something to renew, for ever.
pub(super) async fn run(inner: Arc<Inner>) {
    let hang = inner.serving.hang;
    let mut starting_since: Option<Mono> = None;
    loop {
        sleep(RENEW.min(inner.serving.ttl / 8)).await;
        let now = inner.now();
        // A promotion may last longer than a lease.
        let promotes = inner.confirms();
        // A server that is being promoted answers nobody yet; a frozen one is kept from it by its guard, until its right
        // is confirmed.
        let excused = promotes || inner.is_frozen();
        // A server that refuses its agent's login answers: it is not starting, though nothing else is known of it.
        let starts = inner.board.read(|s| {
            matches!(s.facts.server.value, Server::Starting | Server::Unknown)
                && s.facts.access.refusal(now).is_none()
        });
        starting_since = if starts && !excused { starting_since.or(Some(now)) } else { None };
        let is_well = |since: Option<Mono>, limit| excused || since.is_none_or(|at| now.since(at) < limit);
        let may_serve = inner.board.read(|s| match &s.facts.server.value {
            Server::Primary(primary) => is_well(primary.probe.failing_since, hang),
            Server::Starting | Server::Unknown => is_well(starting_since, hang * RECOVERY_HANGS),
            Server::Standby(_) => promotes,
            Server::Down(_) => false,
        });
        if may_serve {
            inner.maintain().await;
        } else {
            inner.note_expiry();
        }
    }
}

impl Inner {
    /// One round: renew, else ask for the others' word, else let the right run out.
    async fn maintain(self: &Arc<Self>) {
        let held = self.held().await;
        let serves = held.primary_since.filter(|since| held.promise.is_some_and(|p| p.same_epoch(*since)));
        let Some(stamp) = serves else { return self.note_expiry() };
        let (server, right) = self.board.read(|s| (s.generation, s.facts.serves_until));
        let lapsed = right.is_none_or(|until| until <= self.now());
        match self.renew(stamp).await {
            Ok(_) if lapsed && self.is_contradicted(stamp).await => {
                tracing::warn!(%stamp, "another member has promised a higher epoch than the store grants: not taken");
            }
            Ok(until) => {
                self.grant_to(server, until, stamp);
                self.stops_telling(stamp).await;
            }
            Err(Denied::NotYet) => {}
            Err(Denied::Deposed(reign)) => self.step_down(&reign).await,
            Err(Denied::Silent(why)) => {
                self.goes_on_telling(stamp).await;
                let left = self
                    .board
                    .read(|s| s.facts.serves_until)
                    .map_or(Duration::ZERO, |until| until.since(self.now()));
                if left < self.serving.ttl / 2 {
                    match self.ask_for_word(stamp).await {
                        Some(until) => self.grant_to(server, until, stamp),
                        None => tracing::warn!(%why, ?left, "the right to serve is not confirmed"),
                    }
                }
            }
        }
        self.note_expiry();
    }

    /// Confirms the right to serve under a stamp before a server is started or promoted: nobody is let in before.
    pub(super) async fn claim(self: &Arc<Self>, stamp: Stamp) -> Result<(), Unable> {
        let until = match self.renew(stamp).await {
            Ok(until) => Ok(until),
            Err(Denied::Silent(why)) => self
                .ask_for_word(stamp)
                .await
                .ok_or_else(|| Unable::Failed(format!("its right to serve could not be confirmed: {why}"))),
            Err(Denied::NotYet) => Err(Unable::Failed("the store declares it under another epoch".into())),
            Err(Denied::Deposed(reign)) => {
                let who = reign.primary.as_ref().map_or("nobody", NodeId::as_str);
                Err(Unable::Refused(format!("the store declares {who} the primary of epoch {}", reign.epoch)))
            }
        }?;
        self.grant(until, stamp);
        // A server that runs is opened only when its guard counts.
        self.arm_now(until, stamp).await
    }

    /// Renews the lease. What was known of the store is read again when somebody else has written meanwhile.
    async fn renew(&self, stamp: Stamp) -> Result<Mono, Denied> {
        let mut known = self.known.lock().await;
        for _ in 0..TRIES {
            self.refresh(&mut known).await;
            let reign = self.reign(&mut known).await?;
            let its_own = known
                .reign
                .as_ref()
                .is_some_and(|(reign, _)| reign.is_of(stamp) && reign.primary.as_ref() == Some(&self.node));
            if !its_own {
                // What was remembered may be old: only what was just read ends a reign.
                known.reign = None;
                self.reign(&mut known).await?;
                let (read, _) = known.reign.as_ref().ok_or_else(|| Denied::Silent("no reign".into()))?;
                if !(read.is_of(stamp) && read.primary.as_ref() == Some(&self.node)) {
                    return Err(self.judge(read, stamp));
                }
                continue;
            }
            let last = self.last_known(&mut known, stamp).await?;
            let reached =
                self.board.read(super::board::State::reached).map(|reached| self.with_notes(reached, stamp));
            let before = last.as_ref().map(|(record, _)| record);
            if let Some(own) = before.filter(|own| own.node == self.node && own.epoch == stamp.epoch) {
                // Also one whose answer was lost: what is told in failsafe time comes after it.
                known.renewed = Some((own.epoch, own.renewals()));
            }
            let record =
                LeaseRecord::next(before, self.node.clone(), stamp, self.serving.ttl, reached.as_ref());
            let asked = self.now();
            let last = last.map(|(_, revision)| revision);
            match called(self.serving.lease.renew(reign, last, &record)).await {
                Ok(Outcome::Committed(revision)) => {
                    known.renewed = Some((record.epoch, record.renewals()));
                    known.last = Some(Some((record, revision)));
                    return Ok(lease::holder_until(asked, self.serving.ttl));
                }
                Ok(Outcome::GuardFailed) => (known.reign, known.last) = (None, None),
                Err(why) => {
                    // It may have been renewed all the same.
                    known.last = None;
                    return Err(Denied::Silent(why));
                }
            }
        }
        Err(Denied::Silent("somebody else writes the lease all the time".into()))
    }

    /// Reads what is not known, both at once: a claim is on the way of every failover. What fails is asked for again, and
    /// judged, by who needs it.
    async fn refresh(&self, known: &mut Known) {
        if known.reign.is_none() && known.last.is_none() {
            let (reign, last) =
                tokio::join!(called(self.serving.lease.reign()), called(self.serving.lease.last()));
            known.reign = reign.unwrap_or_default();
            known.last = last.ok();
        }
    }

    async fn reign(&self, known: &mut Known) -> Result<Revision, Denied> {
        if known.reign.is_none() {
            known.reign = called(self.serving.lease.reign()).await.map_err(Denied::Silent)?;
        }
        let missing = || Denied::Silent("the store knows of no primary".into());
        known.reign.as_ref().map(|(_, revision)| *revision).ok_or_else(missing)
    }

    async fn last(&self, known: &mut Known) -> Result<Option<(LeaseRecord, Revision)>, Denied> {
        if let Some(last) = &known.last {
            return Ok(last.clone());
        }
        let last = called(self.serving.lease.last()).await.map_err(Denied::Silent)?;
        known.last = Some(last.clone());
        Ok(last)
    }

    /// The last renewal, if it is no earlier than one that this member knows of: a store that has forgotten one was put back, and
    /// another one there would only hide that.
    async fn last_known(
        &self,
        known: &mut Known,
        stamp: Stamp,
    ) -> Result<Option<(LeaseRecord, Revision)>, Denied> {
        let remembered = self.serving.remembered.as_ref().and_then(|it| it.borrow().renewals);
        let latest = remembered
            .max(known.renewed.map(|(_, renewed)| renewed))
            .filter(|known| known.incarnation >= stamp.incarnation);
        let is_behind = |last: &Option<(LeaseRecord, Revision)>| {
            latest > last.as_ref().map(|(record, _)| record.renewals())
        };
        let last = self.last(known).await?;
        if !is_behind(&last) {
            return Ok(last);
        }
        known.last = None;
        let last = self.last(known).await?;
        if is_behind(&last) {
            return Err(Denied::Silent("it has forgotten renewals of the lease: it was put back".into()));
        }
        Ok(last)
    }

    /// How far this node was by the last renewal of the primary lease. None: it was another's, or of a store that was put back
    /// and accepted since; the store is silent; or there is none.
    pub(super) async fn renewed_last(&self, incarnation: Incarnation) -> Option<WalPosition> {
        let mut known = self.known.lock().await;
        // What was remembered may be of before a store was put back.
        known.last = None;
        let (last, _) = self.last(&mut known).await.ok()??;
        last.position().filter(|_| last.node == self.node && last.incarnation == incarnation)
    }

    fn judge(&self, reign: &Reign, stamp: Stamp) -> Denied {
        let newer = (reign.incarnation, reign.epoch) > (stamp.incarnation, stamp.epoch);
        match (newer, reign.primary.as_ref() == Some(&self.node)) {
            (_, true) => Denied::NotYet,
            (true, false) => Denied::Deposed(reign.clone()),
            // An older reign is a store that was put back, and one of this very epoch that names another is none.
            (false, false) => {
                Denied::Silent(format!("the store holds epoch {}, older than this one", reign.epoch))
            }
        }
    }

    /// The same for the server that was there when it was asked for: what comes late is nothing to the next one.
    fn grant_to(&self, server: u64, until: Mono, stamp: Stamp) {
        if self.board.read(|s| s.generation == server) {
            self.grant(until, stamp);
        }
    }

    /// What was granted to the last server is nothing to the next one.
    pub(super) fn forget_right(&self) {
        self.wish.send_modify(|wish| wish.until = None);
        self.board.update(|s| s.facts.serves_until = None);
    }

    fn grant(&self, until: Mono, stamp: Stamp) {
        self.wish.send_modify(|wish| wish.until = wish.until.max(Some((until, stamp))));
        self.board.update(|s| s.facts.serves_until = s.facts.serves_until.max(Some(until)));
    }

    fn note_expiry(&self) {
        let now = self.now();
        self.board.update(|s| s.facts.serves_until = s.facts.serves_until.filter(|until| *until > now));
    }

    /// Another reign stands: nothing more may be acknowledged here, whether or not anybody can say so.
    async fn step_down(self: &Arc<Self>, reign: &Reign) {
        let stamp = Stamp { incarnation: reign.incarnation, epoch: reign.epoch, version: Version(1) };
        tracing::warn!(%stamp, "the store declares another epoch: this primary ends itself");
        self.board.update(|s| s.facts.serves_until = None);
        self.wish.send_modify(|wish| wish.kill = Some(stamp));
        if let Err(error) = self.remember(move |p| p.promise = p.promise.max(Some(stamp))).await {
            tracing::error!(?error, "the higher epoch could not be written down");
        }
        if let Err(unable) = self.fence(stamp).await {
            tracing::error!(?unable, "this primary could not end itself; the guard will");
        }
    }

    /// Notes durably who may be promoted in this primary's place.
    pub(super) async fn admit(self: &Arc<Self>, stamp: Stamp, nodes: &[NodeId]) -> Result<(), Unable> {
        let serves = self.held().await.primary_since.is_some_and(|since| since.same_epoch(stamp));
        if !serves {
            return Err(Unable::Refused("it is not the primary of this epoch".into()));
        }
        let nodes = nodes.to_vec();
        // It never shrinks within a term: a late order of the same version must not take back what a later one added,
        // and to ask one too many costs nothing but its word.
        self.remember(move |p| {
            let before = p.admitted.take().filter(|(since, _)| since.same_epoch(stamp));
            let mut all: Vec<NodeId> = before.into_iter().flat_map(|(_, nodes)| nodes).chain(nodes).collect();
            all.sort();
            all.dedup();
            p.admitted = Some((stamp, all));
        })
        .await?;
        self.board.update(|s| {
            s.memory_is_whole = true;
            s.refresh_memory();
        });
        Ok(())
    }
}

/// A call to the store, in time and in words.
async fn called<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match timeout(CALL, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the store did not answer within {CALL:?}")),
    }
}
