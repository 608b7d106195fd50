//! Real PostgreSQL servers, made with PostgreSQL's own programs: one is initialised, the others are copies of it.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    clock,
    member::spawn,
    place::USER,
    plan::{HostPlan, POSTGRES_PORT, Plan},
    run,
    within::within_limit,
};

/// How long a server may take until it answers on a busy machine.
const START: Duration = Duration::from_secs(30);
/// How long an answer may take, in seconds.
const ANSWER: &str = "60";

/// What all share. Durability is at PostgreSQL's defaults.
///
/// `dynamic_shared_memory_type = mmap` keeps a killed server from leaving files in `/dev/shm`.
const SETTINGS: &str = "
shared_buffers = 32MB
max_connections = 100
wal_keep_size = 64MB
max_slot_wal_keep_size = 256MB
max_wal_size = 128MB
dynamic_shared_memory_type = mmap
unix_socket_permissions = 0777
log_line_prefix = '%m [%p] '
";

/// The laboratory's network is nobody else's.
const HBA: &str = "
local all         all            trust
local replication all            trust
host  all         all  0.0.0.0/0 trust
host  replication all  0.0.0.0/0 trust
";

/// One command a line, as the single-user mode wants it. `journal` is what the checker's clients write.
const CONTENT: &str = "\
CREATE ROLE replicator LOGIN REPLICATION
CREATE ROLE keeper LOGIN SUPERUSER
GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO replicator
CREATE TABLE journal (writer int NOT NULL, seq bigint NOT NULL, node text NOT NULL, timeline int NOT NULL)
CREATE INDEX ON journal (writer, seq)
CREATE ROLE writer LOGIN
ALTER ROLE writer SET log_min_messages = fatal
GRANT SELECT, INSERT ON journal TO writer
";

/// A superuser that neither Locum nor the clients log in as: what is done to theirs is undone by it.
pub(crate) const KEEPER: &str = "keeper";

/// What every server's own archiver does, where one is wished.
const ARCHIVES: &str = "archive_mode = on\narchive_command = 'true'\n";

/// The arguments that tell one from the others.
#[must_use]
pub(crate) fn options(plan: &Plan, host: &HostPlan) -> Vec<String> {
    vec![
        format!("--port={POSTGRES_PORT}"),
        format!("--listen_addresses={}", if plan.wish.vip { "*".to_owned() } else { host.ip.to_string() }),
        format!("--unix_socket_directories={}", plan.socket_of(&host.name).display()),
        // By this name clients know who answered them.
        format!("--cluster_name={}", host.name),
    ]
}

/// A program as PostgreSQL's user.
pub(crate) fn program(plan: &Plan, name: &str) -> Command {
    let mut command = Command::new("setpriv");
    as_postgres(&mut command);
    command.arg(plan.bin.join(name)).current_dir(&plan.folder);
    command
}

pub(crate) fn as_postgres(command: &mut Command) {
    command.arg(format!("--reuid={USER}")).arg(format!("--regid={USER}")).args(["--init-groups", "--"]);
    command.env_remove("HOME").env("LC_ALL", "C");
}

/// Makes all data directories.
///
/// # Errors
/// One of PostgreSQL's programs failed.
pub(crate) fn make(plan: &Plan) -> Result<()> {
    let mut servers = plan.servers();
    let first = servers.next().context("a PostgreSQL host")?;
    let data = plan.data_of(&first.name);
    let mut command = program(plan, "initdb");
    command.arg("-D").arg(&data).args(["-k", "-A", "trust", "-U", "postgres", "-E", "UTF8"]);
    command.args(["--locale=C", "--no-sync"]);
    run::command_output(command, None)?;
    let conf = data.join("postgresql.conf");
    let given = fs::read_to_string(&conf).context("read postgresql.conf")?;
    let archives = if plan.wish.archives { ARCHIVES } else { "" };
    fs::write(&conf, given + SETTINGS + archives).context("write postgresql.conf")?;
    fs::write(data.join("pg_hba.conf"), HBA).context("write pg_hba.conf")?;
    let mut single = program(plan, "postgres");
    single.args(["--single", "-D"]).arg(&data).arg("postgres");
    run::command_output(single, Some(CONTENT)).context("fill it")?;
    for standby in servers {
        let copy = plan.data_of(&standby.name);
        run::words(&format!("cp -a {} {}", data.display(), copy.display()))?;
        let conninfo = format!(
            "host={} port={POSTGRES_PORT} user=replicator application_name={}",
            first.ip, standby.name
        );
        let auto = format!("primary_conninfo = '{conninfo}'\nprimary_slot_name = '{}'\n", standby.name);
        let path = copy.join("postgresql.auto.conf");
        let given = fs::read_to_string(&path).context("read postgresql.auto.conf")?;
        fs::write(&path, given + &auto).context("write postgresql.auto.conf")?;
        fs::write(copy.join("standby.signal"), "").context("write standby.signal")?;
        super::place::give_to_postgres(&copy.join("standby.signal"))?;
    }
    // A crash recovery begins with an fsync of every file. It is not to be the one that first writes these.
    for host in plan.servers() {
        run::words(&format!("sync -f {}", plan.data_of(&host.name).display()))?;
    }
    Ok(())
}

/// Starts all of them, and returns once every standby streams.
///
/// # Errors
/// One does not start.
pub(crate) fn start_all(plan: &Plan) -> Result<()> {
    let names: Vec<_> = plan.servers().map(|host| host.name.clone()).collect();
    let (first, standbys) = names.split_first().context("a PostgreSQL host")?;
    start(plan, plan.host(first))?;
    answers(plan, first, "SELECT 1", "1")?;
    for standby in standbys {
        ask(plan, first, &format!("SELECT pg_create_physical_replication_slot('{standby}', true)"))?;
        start(plan, plan.host(standby))?;
    }
    let streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    answers(plan, first, streams, &standbys.len().to_string())
}

/// Starts one, as somebody would who knows nothing of Locum.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(plan: &Plan, host: &HostPlan) -> Result<()> {
    let mut command = clock::on_host(plan, host);
    command.arg("setpriv");
    as_postgres(&mut command);
    command
        .args(clock::settable(plan, host))
        .arg(plan.bin.join("postgres"))
        .arg("-D")
        .arg(plan.data_of(&host.name))
        .args(options(plan, host));
    spawn(command, &plan.folder_of(&host.name).join("state/postgres.log"))
}

/// What a server says to a query, over its socket: the network does not matter.
///
/// # Errors
/// It does not answer, or refuses.
pub(crate) fn ask(plan: &Plan, host: &str, sql: &str) -> Result<String> {
    ask_as(plan, host, "postgres", sql)
}

/// The same as [`KEEPER`], who may always write.
///
/// # Errors
/// As [`ask`].
pub(crate) fn keep(plan: &Plan, host: &str, sql: &str) -> Result<String> {
    ask_as(plan, host, KEEPER, sql)
}

fn ask_as(plan: &Plan, host: &str, role: &str, sql: &str) -> Result<String> {
    // A server that is stopped answers nobody.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", ANSWER, "psql", "-XAtq", "-U", role, "-d", "postgres"]);
    command.args(["-p", &POSTGRES_PORT.to_string()]);
    command.arg("-h").arg(plan.socket_of(host)).args(["-c", sql]).env("PGCONNECT_TIMEOUT", "5");
    if role == KEEPER {
        command.env("PGOPTIONS", "-c default_transaction_read_only=off");
    }
    Ok(run::command_output(command, None)?.trim().to_owned())
}

fn answers(plan: &Plan, host: &str, sql: &str, expected: &str) -> Result<()> {
    let mut last = Ok(String::new());
    let answered = within_limit(START, || {
        last = ask(plan, host, sql);
        last.as_ref().is_ok_and(|answer| answer == expected)
    });
    ensure!(answered, "{host} does not answer {expected:?} to {sql:?}, but {last:?}");
    Ok(())
}
