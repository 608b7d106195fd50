//! One PostgreSQL of the demo: made, started and stopped with PostgreSQL's own programs.
//!
//! Durability is at PostgreSQL's defaults: `fsync` and `synchronous_commit` are on.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::Pid;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Config, NoTls};

use super::{
    folder::Folder,
    machine::Machine,
    processes::{self, Running},
};

/// How long `initdb` may take; about one second where the disk is idle.
const INITDB_LIMIT: Duration = Duration::from_secs(60);
/// How long `pg_basebackup` may take; about one second.
const BACKUP_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often a starting server is tried.
const START_POLL: Duration = Duration::from_millis(20);
/// How long a connection attempt of the demo itself may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a fast stop may take before it is forced.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The superuser that members connect as.
pub(crate) const SUPERUSER: &str = "locum";
/// The role that streams, rewinds and clones.
pub(crate) const REPLICATOR: &str = "replicator";
/// The role of the app servers and writers.
pub(crate) const APP_ROLE: &str = "app";
/// The database they write to.
pub(crate) const APP_DATABASE: &str = "demo";

/// Settings that every node shares; they travel with clones and rewinds. What differs is given on the command line.
///
/// `dynamic_shared_memory_type = mmap` keeps a killed server from leaving files in `/dev/shm`.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 32MB
wal_level = replica
hot_standby = on
wal_keep_size = 64MB
max_slot_wal_keep_size = 1GB
max_wal_size = 256MB
dynamic_shared_memory_type = mmap
log_line_prefix = '%m [%p] '
";

/// Nobody but the owner of the private socket directory gets in without a password.
const HBA: &str = "
local all         all                     trust
local replication all                     trust
host  all         all        127.0.0.1/32 scram-sha-256
host  replication replicator 127.0.0.1/32 scram-sha-256
";

/// One node's PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The node's name.
    pub(crate) name: String,
    /// Its TCP port on 127.0.0.1.
    pub(crate) port: u16,
    folder: Folder,
    machine: Machine,
}

/// The passwords of a cluster's roles: random, and only in files that their users alone can read.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    /// Of the superuser, for connections over TCP.
    pub(crate) superuser: String,
    /// Of the replication role.
    pub(crate) replicator: String,
    /// Of the app's role.
    pub(crate) app: String,
}

impl Node {
    /// Names a node; nothing is made yet.
    pub(crate) fn new(name: &str, port: u16, folder: &Folder, machine: &Machine) -> Self {
        Self { name: name.to_owned(), port, folder: folder.clone(), machine: machine.clone() }
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join(&self.name).join("data")
    }

    /// The directory of its socket, which only PostgreSQL's user (and root) may enter.
    pub(crate) fn socket_dir(&self) -> PathBuf {
        self.folder.join(&self.name).join("run")
    }

    /// The arguments that tell it from the other node.
    pub(crate) fn options(&self) -> Vec<String> {
        vec![
            format!("--port={}", self.port),
            format!("--unix_socket_directories={}", self.socket_dir().display()),
        ]
    }

    /// Its `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes the directories that PostgreSQL's user owns.
    pub(crate) fn prepare(&self) -> Result<()> {
        // Its parent belongs to PostgreSQL's user too, as on a real host: a clone is made beside the data directory.
        self.folder.for_postgres(&self.name)?;
        self.folder.for_postgres(&format!("{}/data", self.name))?;
        self.folder.for_postgres(&format!("{}/run", self.name))?;
        Ok(())
    }

    /// Tells in good words when PostgreSQL's user cannot get at the directories.
    pub(crate) async fn reachable(&self) -> Result<()> {
        let mut command = processes::postgres_program(&self.machine, "postgres", &self.data_dir());
        command.arg("--version");
        let who = self.machine.account.as_ref().map_or("this user", |account| &account.name);
        processes::run(command, START_LIMIT).await.map(drop).with_context(|| {
            format!(
                "user {who}, which PostgreSQL runs as, cannot work in {} or run {}; set TMPDIR to a directory that \
                 everybody may pass through, such as /tmp",
                self.folder.path().display(),
                self.machine.bin_dir.join("postgres").display()
            )
        })
    }

    /// `initdb` with checksums, and the shared settings.
    pub(crate) async fn init(&self) -> Result<()> {
        let data = self.data_dir();
        let mut command = processes::postgres_program(&self.machine, "initdb", &data);
        command.arg("--pgdata").arg(&data).args(["--username", SUPERUSER, "--auth", "trust"]);
        // What was made here need not survive a power cut before the server first starts; what it commits must.
        command.args(["--data-checksums", "--encoding", "UTF8", "--no-locale", "--no-sync"]);
        processes::run(command, INITDB_LIMIT).await.context("make the first node's PostgreSQL")?;
        let settings = data.join("postgresql.conf");
        let given = fs::read_to_string(&settings).context("read postgresql.conf")?;
        fs::write(&settings, given + SETTINGS).context("write postgresql.conf")?;
        fs::write(data.join("pg_hba.conf"), HBA).context("write pg_hba.conf")?;
        Ok(())
    }

    /// Makes this node a copy of `primary`, streaming through `slot` once it is started.
    pub(crate) async fn copy_from(&self, primary: &Self, slot: &str, passfile: &str) -> Result<()> {
        let data = self.data_dir();
        let mut command = processes::postgres_program(&self.machine, "pg_basebackup", &data);
        command.arg("--pgdata").arg(&data).args(["--host", "127.0.0.1", "--username", REPLICATOR]);
        command.args(["--port", &primary.port.to_string(), "--no-password", "--checkpoint=fast"]);
        command
            .args(["--no-sync", "--wal-method=stream", "--create-slot", "--slot", slot])
            .env("PGPASSFILE", passfile);
        processes::run(command, BACKUP_LIMIT).await.context("copy the first node")?;
        let conninfo = format!(
            "host=127.0.0.1 port={} user={REPLICATOR} passfile={passfile} application_name={slot}",
            primary.port
        );
        let auto = format!("primary_conninfo = '{conninfo}'\nprimary_slot_name = '{slot}'\n");
        let file = data.join("postgresql.auto.conf");
        let given = fs::read_to_string(&file).context("read postgresql.auto.conf")?;
        fs::write(&file, given + &auto).context("write postgresql.auto.conf")?;
        // It appears empty; only its owner matters, which stays PostgreSQL's user because the directory decides.
        fs::write(data.join("standby.signal"), "").context("write standby.signal")?;
        self.own("standby.signal")
    }

    fn own(&self, name: &str) -> Result<()> {
        if let Some(account) = &self.machine.account {
            let path = self.data_dir().join(name);
            std::os::unix::fs::chown(&path, Some(account.uid), Some(account.gid)).context("change owner")?;
        }
        Ok(())
    }

    /// Starts the server as a child of this process and waits until it answers.
    pub(crate) async fn start(&self) -> Result<Running> {
        let mut command = processes::postgres_program(&self.machine, "postgres", &self.data_dir());
        command.arg("-D").arg(self.data_dir()).args(self.options());
        let running = Running::start(&format!("{}-postgresql", self.name), command, &self.folder)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(how) = running.ended() {
                bail!("PostgreSQL of {} ended while it started ({how})", self.name);
            }
            match self.superuser().await {
                Ok(_) => return Ok(running),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("PostgreSQL of {} does not answer", self.name)));
                }
                Err(_) => sleep(START_POLL).await,
            }
        }
    }

    /// A superuser's connection over the private socket, straight to this node.
    pub(crate) async fn superuser(&self) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(self.socket_dir()).port(self.port).user(SUPERUSER).dbname("postgres");
        connect(&config).await
    }

    /// The same, in the app's database.
    pub(crate) async fn superuser_of_app(&self) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(self.socket_dir()).port(self.port).user(SUPERUSER).dbname(APP_DATABASE);
        connect(&config).await
    }

    /// Roles, the app's database and its table.
    pub(crate) async fn fill(&self, passwords: &Passwords) -> Result<()> {
        let client = self.superuser().await?;
        let Passwords { superuser, replicator, app } = passwords;
        client
            .batch_execute(&format!(
                "ALTER ROLE {SUPERUSER} PASSWORD '{superuser}';
                 CREATE ROLE {REPLICATOR} LOGIN REPLICATION PASSWORD '{replicator}';
                 GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean),
                     pg_catalog.pg_stat_file(text, boolean), pg_catalog.pg_read_binary_file(text),
                     pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO {REPLICATOR};
                 CREATE ROLE {APP_ROLE} LOGIN PASSWORD '{app}';"
            ))
            .await
            .context("create the demo's roles")?;
        client
            .batch_execute(&format!("CREATE DATABASE {APP_DATABASE} OWNER {APP_ROLE}"))
            .await
            .context("create the demo's database")?;
        // No unique key: a row that is there twice must be able to show it.
        self.superuser_of_app()
            .await?
            .batch_execute(&format!(
                "CREATE TABLE rows (writer int NOT NULL, seq bigint NOT NULL,
                     written_at timestamptz NOT NULL DEFAULT clock_timestamp());
                 ALTER TABLE rows OWNER TO {APP_ROLE};"
            ))
            .await
            .context("create the demo's table")
    }

    /// Waits until that many standbys stream from it.
    pub(crate) async fn streamed_by(&self, count: i64) -> Result<()> {
        let client = self.superuser().await?;
        let query = "SELECT count(*) FROM pg_catalog.pg_stat_replication WHERE state = 'streaming'";
        let deadline = Instant::now() + START_LIMIT;
        while client.query_one(query, &[]).await.context("ask who streams")?.get::<_, i64>(0) != count {
            if Instant::now() > deadline {
                bail!("no standby streams from {} within {START_LIMIT:?}", self.name);
            }
            sleep(START_POLL).await;
        }
        Ok(())
    }

    /// The postmaster as its lock file names it, if it runs. Works whoever started it.
    pub(crate) fn postmaster(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
        let pid = processes::pid(text.lines().next()?)?;
        self.processes().iter().any(|process| process.pid == pid).then_some(pid)
    }

    /// Every process of its server, orphans too.
    pub(crate) fn processes(&self) -> Vec<processes::Process> {
        processes::of_data_dir(&self.data_dir(), &self.machine)
    }
}

/// Connects, and drives the connection in the background.
pub(crate) async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = timeout(CONNECT_LIMIT, config.connect(NoTls)).await??;
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pair_streams_and_is_gone_afterwards() {
        let Ok(machine) = Machine::look() else { return };
        let folder = Folder::create(machine.account.as_ref()).expect("folder");
        let ports = super::super::loopback::Ports::find(2).expect("ports");
        let numbers = ports.numbers();
        drop(ports);
        let seoul = Node::new("seoul", numbers[0], &folder, &machine);
        let tokyo = Node::new("tokyo", numbers[1], &folder, &machine);
        let passwords = Passwords { superuser: "s".into(), replicator: "r".into(), app: "a".into() };
        let passfile = folder.secret("pgpass", "*:*:*:replicator:r\n", true).expect("passfile");
        for node in [&seoul, &tokyo] {
            node.prepare().expect("directories");
        }
        seoul.reachable().await.expect("reachable");
        seoul.init().await.expect("initdb");
        seoul.start().await.expect("primary");
        seoul.fill(&passwords).await.expect("roles");
        tokyo.copy_from(&seoul, "locum_tokyo", &passfile.to_string_lossy()).await.expect("copy");
        tokyo.start().await.expect("standby");
        seoul.streamed_by(1).await.expect("streams");
        assert!(seoul.postmaster().is_some());
        processes::end_all(folder.path(), &machine).await.expect("all gone");
        assert!(processes::of_folder(folder.path(), &machine).is_empty());
        folder.remove().expect("removed");
    }
}
