//! The clients: they commit numbered rows through the endpoints and log every attempt. They are the judge, and know
//! nothing of the controller.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_postgres::Config;

use super::{
    app::Row,
    history::History,
    link::{Fate, Link, Miss},
};
use crate::{clock::SystemClock, ports::Clock as _};

/// Database writers.
pub(crate) const DATABASE_WRITERS: [u16; 4] = [1, 2, 3, 4];
/// The writer that goes through the app server.
pub(crate) const APP_WRITER: u16 = 9;
/// The pause between two commits of one writer: fine enough to time an outage to a millisecond over four writers, and
/// long enough that two cores are not saturated, which would time the machine and not the failover.
const PACE: Duration = Duration::from_millis(2);
/// The pause after a failed attempt.
const RETRY: Duration = Duration::from_millis(3);
/// How long an answer is waited for before the connection is given up and the outcome is unknown.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long attempts in flight may take to end when writers stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Running writers. Dropping it ends them at once.
#[derive(Debug)]
pub(crate) struct Writers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    history: History,
}

impl Writers {
    /// No writers yet, with an empty history.
    pub(crate) fn new() -> Self {
        Self { tasks: JoinSet::new(), stop: watch::channel(false).0, history: History::default() }
    }

    /// Adds the four that talk to the database, through whatever `config` leads to.
    pub(crate) fn add_database(&mut self, config: &Config) {
        for writer in DATABASE_WRITERS {
            let (config, history, stop) = (config.clone(), self.history.clone(), self.stop.subscribe());
            let way = Way::Database { config: Box::new(config), link: None };
            self.tasks.spawn(run(writer, history, stop, way));
        }
    }

    /// Adds the one that talks to the app server at `url`.
    pub(crate) fn add_app(&mut self, url: String) {
        let (history, stop) = (self.history.clone(), self.stop.subscribe());
        self.tasks.spawn(async move {
            // One connection, no proxy: what the environment says about proxies is not meant for 127.0.0.1.
            let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_LIMIT).build();
            let Ok(client) = client else { return };
            run(APP_WRITER, history, stop, Way::App { client, url }).await;
        });
    }

    /// What they did so far.
    pub(crate) const fn history(&self) -> &History {
        &self.history
    }

    /// Lets each finish its attempt and ends.
    pub(crate) async fn stop(mut self) -> History {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // An attempt that does not end is cut, and counts as unknown where it was sent: it is not in the log, so the
        // row it may have left is ignored by the check.
        let _ = timeout(STOP_LIMIT, all).await;
        self.history
    }
}

/// How a writer reaches the database.
enum Way {
    /// By a connection of its own.
    Database {
        /// Where to.
        config: Box<Config>,
        /// The connection that is kept; opened where it is missing, given up where anything failed.
        link: Option<Link>,
    },
    /// By asking the app server.
    App {
        /// Keeps its connection.
        client: reqwest::Client,
        /// What rows are posted to.
        url: String,
    },
}

/// One writer: the next number, whatever became of the one before.
async fn run(writer: u16, history: History, stop: watch::Receiver<bool>, mut way: Way) {
    let mut seq = 0;
    while !*stop.borrow() {
        seq += 1;
        let start = SystemClock.now();
        let result = match &mut way {
            Way::Database { config, link } => into_database(link, config, writer, seq).await,
            Way::App { client, url } => into_app(client, url, writer, seq).await,
        };
        history.note(writer, seq, start, &result);
        sleep(if result.is_ok() { PACE } else { RETRY }).await;
    }
}

/// Commits over the kept connection.
async fn into_database(link: &mut Option<Link>, config: &Config, writer: u16, seq: u64) -> Result<(), Miss> {
    let open = match link.take() {
        Some(open) => open,
        None => Link::open(config).await?,
    };
    open.insert(writer, seq, ANSWER_LIMIT).await?;
    *link = Some(open);
    Ok(())
}

/// Has the app server commit.
async fn into_app(client: &reqwest::Client, url: &str, writer: u16, seq: u64) -> Result<(), Miss> {
    let sent = client.post(url).json(&Row { writer, seq }).send().await;
    let reply = match sent {
        Ok(reply) => reply,
        Err(error) if error.is_connect() => return Err(Miss::unsent("the app server cannot be reached")),
        Err(_) => return Err(Miss::unanswered("the app server did not answer")),
    };
    if reply.status().is_success() {
        return Ok(());
    }
    let status = reply.status();
    let told: Option<super::app::Refusal> = reply.json().await.ok();
    Err(told.map_or_else(
        || Miss::unanswered(format!("the app server answered {status}")),
        |told| Miss { fate: told.outcome.max(Fate::Failed), reason: told.reason },
    ))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::cli::demo::{
        app, check,
        folder::Folder,
        loopback::Ports,
        machine::Machine,
        node::{APP_DATABASE, APP_ROLE, Node, Passwords},
        processes,
    };

    /// Writers against a real server and a real app; the server is killed and started again in place.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_acknowledged_row_is_there_after_a_crash() {
        let Ok(machine) = Machine::look() else { return };
        let folder = Folder::create(machine.account.as_ref()).expect("folder");
        let port = Ports::find(1).expect("ports").numbers()[0];
        let node = Node::new("seoul", port, &folder, &machine);
        node.prepare().expect("directories");
        node.init().await.expect("initdb");
        let server = node.start().await.expect("start");
        let passwords = Passwords { superuser: "s".into(), replicator: "r".into(), app: "a".into() };
        node.fill(&passwords).await.expect("fill");
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(APP_ROLE).password("a").dbname(APP_DATABASE);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
        let address = listener.local_addr().expect("address");
        let service = app::router(&config);
        tokio::spawn(async move { axum::serve(listener, service).await });

        let mut writers = Writers::new();
        writers.add_database(&config);
        writers.add_app(format!("http://{address}/rows"));
        sleep(Duration::from_millis(500)).await;
        let fault = SystemClock.now();
        server.signal(rustix::process::Signal::KILL);
        server.wait(Duration::from_secs(5)).await.expect("killed");
        processes::end_all(&node.data_dir(), &machine).await.expect("orphans gone");
        node.start().await.expect("start again");
        let begin = SystemClock.now();
        sleep(Duration::from_millis(500)).await;
        for writer in DATABASE_WRITERS.into_iter().chain([APP_WRITER]) {
            assert!(writers.history().alive(writer, begin), "writer {writer} came back");
        }
        let history = writers.stop().await;
        let attempts = history.attempts();
        let found = check::compare(&attempts, &check::rows_of(&node).await.expect("rows"));
        assert!(found.is_clean() && found.acknowledged > 100, "{found:?} {:?}", history.errors());
        let gap = crate::cli::demo::history::outage(&attempts, &DATABASE_WRITERS, fault, SystemClock.now());
        assert!(gap.expect("came back").ms() > 10.0);
        processes::end_all(folder.path(), &machine).await.expect("all gone");
        folder.remove().expect("removed");
    }
}
