//! Carries out steps. A step leaves no choice: here is only how, with a deadline, and what it came to.

use std::{sync::Arc, time::Duration};

use super::{
    Controller, Deps, Effect, Ended, Event, Feed,
    drain::{Reached, drain},
};
use crate::{
    model::{
        Command, Driver, EndpointKind, EndpointName, Intent, Mono, NodeId, Reply, Seen, ServerIdentity,
        Stamp, Step, View,
    },
    planner::Plan,
    ports::{Answer, NoAnswer, Revision},
    store::{Declared, Leadership},
};

/// An answer to a short order is given up after this; the order may still be carried out, and is idempotent.
const SHORT: Duration = Duration::from_secs(15);
/// The same for what copies data or replays a backlog.
const LONG: Duration = Duration::from_secs(24 * 3600);

impl Controller {
    /// Begins a step, unless it is under way. Its end comes back as an event.
    pub(super) fn begin(&mut self, step: Step, plan: &Plan, now: Mono) {
        let key = step.key();
        if self.world.underway.contains(&key) {
            return;
        }
        tracing::debug!(%step, "begin");
        match step {
            Step::Refuse { operation, blockers } => {
                self.world.answered(&operation);
                self.operations.refuse(&operation, blockers);
            }
            Step::Declare(next) => {
                let Some(leading) = self.world.leading.clone() else { return };
                let basis = self.world.intent.clone();
                let work = declare(
                    self.deps.clone(),
                    leading.leadership,
                    basis,
                    next,
                    (plan.cause.clone(), plan.suspected),
                    now,
                );
                self.spawn(work, key, now);
            }
            Step::Amend(next) => {
                let Some((basis, revision)) = self.world.intent.clone() else { return };
                let deps = self.deps.clone();
                let work = async move {
                    match deps.records.amend((&basis, revision), &next).await {
                        Ok(Declared::Stored(revision)) => Ok(Effect::Amended(Box::new(next), revision)),
                        Ok(Declared::Conflict) => Err("somebody else replaced the intent first".to_owned()),
                        Err(error) => Err(error.to_string()),
                    }
                };
                self.spawn(work, key, now);
            }
            Step::FenceCommand { node, stamp } => {
                let Some(fencer) = self.deps.fencer.clone() else { return };
                let work = async move {
                    fencer.fence(&node, stamp).await.map(|()| Effect::FencedByCommand(node, stamp))
                };
                self.spawn(work, key, now);
            }
            Step::Order { node, command, stamp } => {
                let Some(feed) = self.feeds.get(&node).cloned() else { return };
                if matches!(command, Command::Serve { .. }) {
                    // A server that is started anew has proven nothing, though its epoch is the same.
                    self.world.verified = None;
                }
                self.spawn(order(self.events.clone(), feed, stamp, command), key, now);
            }
            Step::Route { member, endpoint, order, stamp } => {
                let Some(feed) = self.feeds.get(&member).cloned() else { return };
                let events = self.events.clone();
                let work = async move {
                    let answer =
                        tokio::time::timeout(SHORT, feed.member.route(&endpoint, stamp, order)).await;
                    answered(&events, &feed.node, answer).await
                };
                self.spawn(work, key, now);
            }
            Step::Drain { node, stamp } => {
                let feeds: Vec<Feed> = self.feeds.values().cloned().collect();
                let view = self.world.view(now, self.deps.clock.wall());
                let of = |driver| {
                    let reached = endpoints(&view, EndpointKind::Primary, driver, self.heard_since(now));
                    reached.map(|(member, name, _)| (member, name)).collect()
                };
                let reached = Reached { poolers: of(Driver::Pgbouncer), proxies: of(Driver::Proxy) };
                let limit = self.deps.policy.drain;
                let work = async move {
                    drain(limit, &feeds, reached, &node, stamp).await.map(|()| Effect::Drained(stamp))
                };
                self.spawn(work, key, now);
            }
            Step::Verify { stamp } => {
                let view = self.world.view(now, self.deps.clock.wall());
                let mut addresses: Vec<String> =
                    endpoints(&view, EndpointKind::Primary, Driver::Proxy, self.heard_since(now))
                        .map(|(.., listen)| listen)
                        .collect();
                // Where no client comes through a proxy, they come straight.
                let primary = view.intent.as_ref().and_then(|intent| view.agent(intent.primary.as_ref()?));
                if let Some(primary) = primary.filter(|_| addresses.is_empty()) {
                    addresses.push(primary.address.clone());
                }
                let server = primary_identity(&view);
                self.spawn(verify(self.deps.clone(), addresses, server, stamp), key, now);
            }
        }
    }

    /// Endpoints of members heard before this are not asked for anything: they may be gone with their host.
    fn heard_since(&self, now: Mono) -> Mono {
        now.back(self.deps.policy.detect)
    }

    fn spawn<W>(&mut self, work: W, key: crate::model::StepKey, began: Mono)
    where
        W: Future<Output = Result<Effect, String>> + Send + 'static,
    {
        self.world.underway.insert(key.clone());
        let events = self.events.clone();
        tokio::spawn(async move {
            let outcome = work.await;
            // The loop has gone only when the member stops.
            _ = events.send(Event::Ended(Box::new(Ended { key, began, outcome }))).await;
        });
    }

    /// A step ended: note what it came to.
    pub(super) fn ended(&mut self, ended: Ended) {
        self.world.underway.remove(&ended.key);
        let now = self.deps.clock.now();
        match ended.outcome {
            Ok(effect) => {
                self.world.attempts.remove(&ended.key);
                self.effect(effect, ended.began, now);
            }
            Err(error) => {
                tracing::warn!(step = %ended.key.what, node = ?ended.key.node, %error, "step failed");
                self.tracker.deviation(format!("{} failed: {error}", ended.key.what));
                let attempt = self.world.attempts.entry(ended.key).or_insert(crate::model::Attempt {
                    failures: 0,
                    at: now,
                    error: String::new(),
                });
                *attempt = crate::model::Attempt { failures: attempt.failures + 1, at: now, error };
            }
        }
    }

    fn effect(&mut self, effect: Effect, began: Mono, now: Mono) {
        match effect {
            Effect::None => {}
            Effect::Drained(stamp) => {
                self.world.drained = Some(stamp);
                self.tracker.drained(began);
            }
            Effect::Verified(stamp) => {
                self.world.verified = Some(stamp);
                self.tracker.verified(stamp, now);
            }
            Effect::Declared { before, next, revision, cause, suspected, decided } => {
                tracing::info!(stamp = %next.stamp(), primary = ?next.primary, cause = ?cause.as_ref().map(|c| &c.summary), "declared");
                let view = self.world.view(now, self.deps.clock.wall());
                if self.tracker.declared(
                    before.as_ref().as_ref(),
                    &next,
                    cause,
                    &view,
                    suspected,
                    decided,
                    now,
                ) {
                    self.world.failed_over(now);
                }
                self.operations
                    .declared(before.as_ref().as_ref(), &next)
                    .into_iter()
                    .for_each(|id| self.world.answered(&id));
                self.world.adopt(*next, revision, now);
            }
            Effect::Amended(next, revision) => {
                let (attended, waits) = (next.attended, !next.sync.is_empty());
                tracing::warn!(stamp = %next.stamp(), attended, waits, "amended by the primary's own member");
                self.world.adopt(*next, revision, now);
            }
            Effect::FencedByCommand(node, stamp) => {
                tracing::warn!(%node, %stamp, "the fence command has made sure of it");
                self.world.fenced_by_command = Some((node, stamp));
            }
        }
    }
}

async fn declare(
    deps: Arc<Deps>,
    leadership: Leadership,
    basis: Option<(Intent, Revision)>,
    next: Intent,
    (cause, suspected): (Option<crate::model::Cause>, Option<Mono>),
    decided: Mono,
) -> Result<Effect, String> {
    let before = basis.as_ref().map(|(intent, revision)| (intent, *revision));
    match deps.records.declare(&leadership, before, &next).await {
        Ok(Declared::Stored(revision)) => {
            let before = Box::new(basis.map(|(intent, _)| intent));
            Ok(Effect::Declared { before, next: Box::new(next), revision, cause, suspected, decided })
        }
        // A failure like others: until the intent is read again, the same would be tried with every turn.
        Ok(Declared::Conflict) => Err("somebody else replaced the intent first".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn order(
    events: tokio::sync::mpsc::Sender<Event>,
    feed: Feed,
    stamp: Stamp,
    command: Command,
) -> Result<Effect, String> {
    let limit = match command {
        Command::Rewind(..)
        | Command::Clone(..)
        | Command::Follow(_)
        | Command::Serve { .. }
        | Command::Recruit
        | Command::Rescue { .. } => LONG,
        _ => SHORT,
    };
    let answer = tokio::time::timeout(limit, feed.member.order(stamp, command)).await;
    answered(&events, &feed.node, answer).await
}

/// Takes the facts that come with an answer before anything else does: what the order brought about is in them.
async fn answered(
    events: &tokio::sync::mpsc::Sender<Event>,
    node: &NodeId,
    answer: Result<Result<Answer, NoAnswer>, tokio::time::error::Elapsed>,
) -> Result<Effect, String> {
    let answer = answer.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    // Not now: what came on the stream meanwhile may have left later.
    let at = answer.facts.sent_at;
    let facts = Seen { value: answer.facts, at };
    _ = events.send(Event::Facts(node.clone(), Box::new(facts))).await;
    match answer.reply {
        Reply::Done => Ok(Effect::None),
        Reply::Refused(reason) => Err(format!("refused: {reason}")),
        Reply::Failed(reason) => Err(reason),
    }
}

/// Which server the endpoints have to lead to, as its own agent reports it.
fn primary_identity(view: &View) -> Option<ServerIdentity> {
    let primary = view.intent.as_ref()?.primary.as_ref()?;
    view.agent(primary)?.access.identity.clone()
}

async fn verify(
    deps: Arc<Deps>,
    addresses: Vec<String>,
    server: Option<ServerIdentity>,
    stamp: Stamp,
) -> Result<Effect, String> {
    deps.client.commit(&addresses, server.as_ref()).await.map(|()| Effect::Verified(stamp))
}

/// The endpoints of one kind and driver in members that were heard since: member, name, address to connect to.
fn endpoints(
    view: &View,
    kind: EndpointKind,
    driver: Driver,
    since: Mono,
) -> impl Iterator<Item = (NodeId, EndpointName, String)> {
    let heard = view.nodes.iter().filter(|(_, node)| node.heard >= since);
    let all = heard.flat_map(|(member, node)| {
        node.endpoints.iter().map(move |(name, facts)| (member, name, &facts.value))
    });
    let chosen: Vec<_> = all
        .filter(|(_, _, facts)| facts.kind == kind && facts.driver == driver)
        .map(|(member, name, facts)| (member.clone(), name.clone(), facts.listen.clone()))
        .collect();
    chosen.into_iter()
}
