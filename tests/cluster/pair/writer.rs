//! Clients that commit numbered rows through the endpoints and keep every acknowledgement. They know nothing of Locum.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

use crate::fixture::until;

/// The pause between two attempts: what is tested is Locum, and not how fast two cores can write.
const PACE: Duration = Duration::from_millis(3);
/// An attempt is given up after this, its outcome unknown.
const GIVE_UP: Duration = Duration::from_secs(20);

/// Numbers that the writers of one run have for themselves: those of an earlier run may be there.
const EACH: i64 = 10_000_000;
static NUMBERS: AtomicI64 = AtomicI64::new(0);

/// An acknowledged row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    /// Its number.
    pub(crate) id: i64,
    /// Which of the clients.
    pub(crate) client: usize,
    /// When it was sent.
    pub(crate) sent: Instant,
    /// When its acknowledgement came.
    pub(crate) at: Instant,
}

/// Attempts that were not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// No session could be opened.
    pub(crate) refused: usize,
    /// The session was lost, or nobody answered: the outcome is not known.
    pub(crate) lost: usize,
}

/// Why an attempt was not acknowledged.
enum Failure {
    Refused,
    Lost,
}

/// Clients, each with an endpoint. Dropping it ends them.
pub(crate) struct Writer {
    acks: Arc<Mutex<Vec<Ack>>>,
    failures: Arc<Mutex<Failures>>,
    stop: Arc<AtomicBool>,
    clients: usize,
    tasks: JoinSet<()>,
}

impl Writer {
    /// Starts a client at each of these ports, and returns once each has had a row acknowledged.
    pub(crate) async fn start(ports: &[u16]) -> Self {
        let at = |port: &u16| format!("host=127.0.0.1 port={port}");
        Self::start_at(ports.iter().map(at).collect()).await
    }

    /// The same where each of these connection strings leads.
    pub(crate) async fn start_at(places: Vec<String>) -> Self {
        let (acks, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let failures: Arc<Mutex<Failures>> = Arc::default();
        let mut tasks = JoinSet::new();
        let first = NUMBERS.fetch_add(EACH, Ordering::Relaxed);
        let clients = places.len();
        for (client, at) in places.into_iter().enumerate() {
            let (acks, stop, failures) = (Arc::clone(&acks), Arc::clone(&stop), Arc::clone(&failures));
            let step = i64::try_from(clients).expect("a few");
            tasks.spawn(async move {
                let (mut id, mut session) = (first + i64::try_from(client).expect("a few"), None);
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    match timeout(GIVE_UP, insert(session.take(), &at, id)).await {
                        Ok(Ok(open)) => {
                            acks.lock().expect("a lock").push(Ack { id, client, sent, at: Instant::now() });
                            session = Some(open);
                        }
                        Ok(Err(Failure::Refused)) => failures.lock().expect("a lock").refused += 1,
                        Ok(Err(Failure::Lost)) | Err(_) => failures.lock().expect("a lock").lost += 1,
                    }
                    // Never the same number twice: that of an attempt without an answer may be there.
                    id += step;
                    sleep(PACE).await;
                }
            });
        }
        let writer = Self { acks, failures, stop, clients, tasks };
        writer.goes_on().await;
        writer
    }

    /// Waits until every client has had a row acknowledged that it sent after this call.
    pub(crate) async fn goes_on(&self) {
        let from = Instant::now();
        until("every client has a new row acknowledged", || async {
            let acks = self.acks.lock().expect("a lock");
            let fresh = |client| acks.iter().rev().any(|ack| ack.client == client && ack.sent >= from);
            (0..self.clients).all(fresh).then_some(())
        })
        .await;
    }

    /// What was acknowledged so far.
    pub(crate) fn acks(&self) -> Vec<Ack> {
        self.acks.lock().expect("a lock").clone()
    }

    /// What was not, so far.
    pub(crate) fn failures(&self) -> Failures {
        *self.failures.lock().expect("a lock")
    }

    /// Ends them and returns the numbers that were acknowledged.
    pub(crate) async fn finish(mut self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.acks().iter().map(|ack| ack.id).collect()
    }
}

/// Commits one row, over the session if there is one.
async fn insert(session: Option<Client>, at: &str, id: i64) -> Result<Client, Failure> {
    let open = match session {
        Some(open) => open,
        None => {
            let at = format!("{at} user=postgres dbname=postgres application_name=writer");
            let opened = tokio_postgres::connect(&at, NoTls).await;
            let (client, connection) = opened.map_err(|_| Failure::Refused)?;
            tokio::spawn(connection);
            client
        }
    };
    // The simple protocol: it returns at ReadyForQuery, which is the acknowledgement.
    open.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.map_err(|_| Failure::Lost)?;
    Ok(open)
}
