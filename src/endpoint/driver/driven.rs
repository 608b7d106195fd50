//! An endpoint that a driver brings about: takes orders at once, and has them carried out beside that.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Driver, Task, Wish};
use crate::{
    config,
    endpoint::routing::{Refusal, Table},
    model::{
        Driver as Which, EndpointFacts, EndpointKind, EndpointName, Mono, Reply, Repoint, RouteOrder, Stamp,
        Traffic,
    },
    ports::{Clock, Endpoint},
};

/// The wait after a try that failed, doubled with each.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// See the file's head. Dropping it ends the work, and undoes nothing.
pub struct Driven {
    shared: Arc<Shared>,
    worker: JoinHandle<()>,
}

struct Shared {
    name: EndpointName,
    kind: EndpointKind,
    which: Which,
    timeout: Duration,
    give_up: Duration,
    driver: Arc<dyn Driver>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// What is to be carried out; the number tells one order from its repetition.
    tasks: watch::Sender<(u64, Task)>,
    /// The number of the last task that was carried out, or given up.
    ended: watch::Sender<u64>,
    changes: watch::Sender<u64>,
}

struct State {
    table: Table,
    repoint: Option<Repoint>,
    problem: Option<String>,
}

impl Driven {
    pub(super) fn start(
        config: &config::Driven,
        which: Which,
        driver: Arc<dyn Driver>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let table = Table::new(config.target);
        let first = Task { stamp: table.stamp(), wish: Wish::Nothing };
        let shared = Arc::new(Shared {
            name: config.name.clone(),
            kind: config.target,
            which,
            timeout: config.timeout,
            give_up: config.give_up,
            driver,
            clock,
            state: Mutex::new(State { table, repoint: None, problem: None }),
            tasks: watch::Sender::new((1, first)),
            ended: watch::Sender::default(),
            changes: watch::Sender::default(),
        });
        let worker = tokio::spawn(work(Arc::clone(&shared)));
        Arc::new(Self { shared, worker })
    }

    fn answer(&self, taken: Result<(), Refusal>) -> Reply {
        match taken {
            Ok(()) => Reply::Done,
            Err(refusal) => {
                tracing::warn!(endpoint = %self.shared.name, %refusal, "order refused");
                Reply::Refused(refusal.to_string())
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, stamp: Stamp, order: RouteOrder) -> Result<(), Refusal> {
        let mut state = self.state();
        let wish = match &order {
            RouteOrder::Point { node, address } => {
                Wish::Lead { node: node.clone(), address: address.clone() }
            }
            RouteOrder::Hold => Wish::Hold,
            RouteOrder::Cut => Wish::Cut,
        };
        let effects = state.table.apply(stamp, order)?;
        // A repetition has been carried out, or is being. What was parked meanwhile goes on all the same.
        let parked = self.tasks.borrow().1.wish == Wish::Quiet;
        let resumed = parked && effects.unpark && wish != Wish::Quiet;
        if effects.changed || resumed {
            if matches!(wish, Wish::Lead { .. }) {
                let began = self.clock.now();
                state.repoint = Some(Repoint { under: stamp, began, confirmed: None, given_up: false });
            }
            self.give(Task { stamp, wish });
        }
        drop(state);
        self.bump();
        Ok(())
    }

    /// Has this carried out from now on. Returns its number.
    fn give(&self, task: Task) -> u64 {
        let mut given = 0;
        self.tasks.send_modify(|(number, present)| {
            *number += 1;
            *present = task;
            given = *number;
        });
        given
    }

    fn bump(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// What a try of a task came to.
    fn tried(&self, number: u64, task: &Task, began: Mono, outcome: Result<(), String>) -> bool {
        let done = outcome.is_ok();
        let now = self.clock.now();
        let mut state = self.state();
        // A later order was taken meanwhile: this says nothing of it.
        if self.tasks.borrow().0 != number {
            return done;
        }
        let problem = outcome.err();
        let changed = state.problem != problem;
        match &problem {
            Some(error) if changed => {
                tracing::warn!(endpoint = %self.name, stamp = %task.stamp, %error, "not carried out");
            }
            None if changed => tracing::info!(endpoint = %self.name, stamp = %task.stamp, "carried out"),
            _ => {}
        }
        state.problem = problem;
        let mut news = changed;
        if matches!(task.wish, Wish::Lead { .. })
            && let Some(repoint) = &mut state.repoint
            && repoint.confirmed.is_none()
        {
            if done {
                (repoint.confirmed, repoint.given_up, news) = (Some(now), false, true);
            } else if !repoint.given_up && now.since(began) >= self.give_up {
                (repoint.given_up, news) = (true, true);
            }
        }
        drop(state);
        if news {
            self.bump();
        }
        done
    }
}

/// Carries out what was ordered last, until the endpoint is dropped.
async fn work(shared: Arc<Shared>) {
    let mut tasks = shared.tasks.subscribe();
    loop {
        let (number, task) = tasks.borrow_and_update().clone();
        tokio::select! {
            biased;
            changed = tasks.changed() => if changed.is_err() { return },
            () = keep(&shared, number, &task) => {}
        }
    }
}

/// Tries until it is done or given up, then keeps it so. Never returns: a later order ends it.
async fn keep(shared: &Shared, number: u64, task: &Task) {
    let began = shared.clock.now();
    let mut wait = RETRY_FIRST;
    loop {
        let outcome = match timeout(shared.timeout, shared.driver.carry_out(task)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("it was not done within {:?}", shared.timeout)),
        };
        let looks = shared.driver.looks_every();
        if shared.tried(number, task, began, outcome) {
            shared.ended.send_replace(number);
            wait = RETRY_FIRST;
            match looks {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        } else if shared.clock.now().since(began) < shared.give_up {
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_LAST);
        } else {
            shared.ended.send_replace(number);
            match looks {
                // It is a state, not a message: whenever it can be had again, it is still wanted.
                Some(_) => sleep(RETRY_LAST).await,
                None => std::future::pending().await,
            }
        }
    }
}

#[async_trait]
impl Endpoint for Driven {
    fn order(&self, stamp: Stamp, order: RouteOrder) -> Reply {
        let words = format!("{order:?}");
        tracing::debug!(endpoint = %self.shared.name, %stamp, order = words, "order");
        self.answer(self.shared.order(stamp, order))
    }

    async fn park(&self, stamp: Stamp, _ports: BTreeSet<u16>) -> Reply {
        let number = {
            let mut state = self.shared.state();
            if let Err(refusal) = state.table.park(stamp) {
                drop(state);
                return self.answer(Err(refusal));
            }
            let (number, present) = self.shared.tasks.borrow().clone();
            if present.wish == Wish::Quiet {
                number
            } else {
                self.shared.give(Task { stamp, wish: Wish::Quiet })
            }
        };
        // A later order ends the wait: what was asked for is not wanted any more.
        _ = timeout(self.shared.timeout, self.shared.ended.subscribe().wait_for(|ended| *ended >= number))
            .await;
        match (*self.shared.ended.borrow() >= number, self.shared.state().problem.clone()) {
            (true, None) => Reply::Done,
            (_, problem) => {
                Reply::Failed(problem.unwrap_or_else(|| "its clients have not come to rest yet".into()))
            }
        }
    }

    fn facts(&self) -> EndpointFacts {
        let state = self.shared.state();
        EndpointFacts {
            traffic: Traffic::default(),
            kind: self.shared.kind,
            listen: self.shared.driver.shows(),
            stamp: state.table.stamp(),
            target: state.table.target().map(|target| target.node.clone()),
            mode: state.table.mode(),
            open: 0,
            held: 0,
            cut_total: 0,
            held_total: 0,
            refused_total: 0,
            last_server_byte: None,
            last_byte_before: None,
            driver: self.shared.which,
            repoint: state.repoint.clone(),
            problem: state.problem.clone(),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    async fn close(&self) {
        self.worker.abort();
        if timeout(self.shared.timeout, self.shared.driver.end()).await.is_err() {
            tracing::warn!(endpoint = %self.shared.name, "did not end in time");
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

#[cfg(test)]
#[path = "driven_tests.rs"]
mod tests;
