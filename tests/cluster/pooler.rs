//! A real PgBouncer in transaction pooling, and clients that commit through it.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::fixture::until;

/// The database's name in PgBouncer.
pub(crate) const DATABASE: &str = "orders";
/// The pause between two transactions of a client.
const PACE: Duration = Duration::from_millis(2);

/// The first of their numbers: other clients of a test have lower ones.
const FIRST: i64 = 10_000_000;

/// Ends with its value.
pub(crate) struct Pooler {
    child: Child,
    folder: tempfile::TempDir,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Pooler {
    /// Starts one whose `[databases]` say this.
    pub(crate) async fn start(port: u16, databases: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("locum-pooler-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "{databases}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {0}/users\nadmin_users = locum\npool_mode = transaction\n\
             logfile = {0}/log\nserver_login_retry = 0.1\nignore_startup_parameters = extra_float_digits\n",
            folder.path().display()
        );
        fs::write(&file, text).unwrap();
        fs::write(folder.path().join("users"), "\"locum\" \"\"\n\"postgres\" \"\"\n").unwrap();
        let child = run(&folder, &file);
        let pooler = Self { child, folder, port };
        until("PgBouncer's console", || async { pooler.console().await.map(|_| ()) }).await;
        pooler
    }

    async fn console(&self) -> Option<Client> {
        let at = format!("host=127.0.0.1 port={} user=locum dbname=pgbouncer", self.port);
        let (client, connection) = tokio_postgres::connect(&at, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// Whether the database is paused.
    pub(crate) async fn is_paused(&self) -> bool {
        let console = self.console().await.unwrap();
        let rows = console.simple_query("SHOW DATABASES").await.unwrap();
        rows.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => {
                row.get("name") == Some(DATABASE) && row.get("paused") == Some("1")
            }
            _ => false,
        })
    }

    /// What a person does at its console.
    pub(crate) async fn run(&self, command: &str) {
        self.console().await.unwrap().simple_query(command).await.unwrap();
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

/// PgBouncer refuses to run as root.
fn run(folder: &tempfile::TempDir, file: &PathBuf) -> Child {
    let mut command = Command::new("/usr/sbin/pgbouncer");
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
        let nobody = Some(65_534);
        chown(folder.path(), nobody, None).unwrap();
    }
    let log = File::create(folder.path().join("started")).unwrap();
    command.arg("-q").arg(file).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().expect("PgBouncer, from Debian's package pgbouncer")
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let started = fs::read_to_string(self.folder.path().join("started")).unwrap_or_default();
            eprintln!("---- PgBouncer's log:\n{started}{}", self.log());
        }
        let _gone_already = self.child.kill();
        let _collected = self.child.wait();
    }
}

/// What the clients saw.
#[derive(Debug, Default)]
struct Seen {
    acks: Vec<(i64, Instant)>,
    failed: Vec<String>,
}

/// Clients that each commit one transaction after the other, in the same session for ever.
pub(crate) struct Pooled {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Pooled {
    /// Starts so many.
    pub(crate) async fn start(port: u16, clients: i64) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            tasks.spawn(async move {
                let (mut id, mut session) = (FIRST + client, None);
                while !stop.load(Ordering::Relaxed) {
                    match transaction(session.take(), port, id).await {
                        Ok(open) => {
                            seen.lock().unwrap().acks.push((id, Instant::now()));
                            session = Some(open);
                        }
                        Err(error) => seen.lock().unwrap().failed.push(error),
                    }
                    id += clients;
                    sleep(PACE).await;
                }
            });
        }
        let pooled = Self { seen, stop, tasks };
        pooled.goes_on().await;
        pooled
    }

    /// Waits until rows are acknowledged again.
    pub(crate) async fn goes_on(&self) {
        let from = Instant::now();
        until("commits through PgBouncer", || async {
            let seen = self.seen.lock().unwrap();
            (seen.acks.iter().filter(|(_, at)| *at > from).count() >= 20).then_some(())
        })
        .await;
    }

    /// The longest time without an acknowledgement since then.
    pub(crate) fn gap(&self, since: Instant) -> Duration {
        let seen = self.seen.lock().unwrap();
        let mut at: Vec<_> = seen.acks.iter().map(|(_, at)| *at).filter(|at| *at >= since).collect();
        at.sort();
        at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Transactions that failed.
    pub(crate) fn failed(&self) -> Vec<String> {
        self.seen.lock().unwrap().failed.clone()
    }

    /// Ends them and returns the numbers that were acknowledged.
    pub(crate) async fn finish(mut self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.seen.lock().unwrap().acks.iter().map(|(id, _)| *id).collect()
    }
}

/// A transaction of several statements, as applications have them.
async fn transaction(session: Option<Client>, port: u16, id: i64) -> Result<Client, String> {
    let open = match session {
        Some(open) => open,
        None => {
            let at = format!("host=127.0.0.1 port={port} user=postgres dbname={DATABASE}");
            let opened = tokio_postgres::connect(&at, NoTls).await;
            let (client, connection) = opened.map_err(|error| format!("connect: {error:?}"))?;
            tokio::spawn(connection);
            client
        }
    };
    for statement in ["BEGIN", &format!("INSERT INTO t VALUES ({id})"), "COMMIT"] {
        let done = open.batch_execute(statement).await;
        done.map_err(|error| format!("{statement}: {error:?}"))?;
    }
    Ok(open)
}
