//! What people do to a server behind Locum's back, and what their programs leave behind.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{
    Part, clock, helper,
    member::spawn,
    place,
    plan::{POSTGRES_PORT, Plan},
    postgres,
    processes::{self, Process},
    run,
    within::within_limit,
};

/// How long a step of one may take on a busy machine.
const STEP: Duration = Duration::from_secs(20);
/// The port of a second server.
const OTHER_PORT: u16 = 5433;
/// More clients than a server of the laboratory lets in.
const CROWD: u16 = 105;
/// What a session or the archiver waits for. By this number the program is found.
const PROGRAM: &str = "sleep 611";

/// One of them. Each is about one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deed {
    /// A second server runs in a copy of the data directory, on another port.
    ServerInCopy,
    /// A second server is started in the same directory, which PostgreSQL refuses.
    SecondStart,
    /// A standby is promoted with `pg_promote()`.
    PromotedBySql,
    /// A standby is promoted with `pg_ctl promote`.
    PromotedByProgram,
    /// A standby has a recovery target that promotes, and is killed.
    LeftoverTarget,
    /// A standby has an apply delay, and is killed.
    LeftoverDelay,
    /// A standby has a trigger file that exists, and is killed. PostgreSQL 14 and 15.
    LeftoverTrigger,
    /// Transactions are read-only by default, by `ALTER SYSTEM`.
    ReadOnlySystem,
    /// The same for the role that Locum logs in with, by `ALTER ROLE`.
    ReadOnlyRole,
    /// `pg_hba.conf` rejects the role that Locum logs in with.
    LoginRejected,
    /// That role may not log in.
    LoginForbidden,
    /// No connection is left, also none of those that are reserved.
    ConnectionsFull,
    /// A session waits for a program when the postmaster is killed, and does not notice that.
    OrphanSession,
    /// The archiver waits for its command when the postmaster is killed.
    BusyArchiver,
}

impl Deed {
    /// All of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::ServerInCopy,
        Self::SecondStart,
        Self::PromotedBySql,
        Self::PromotedByProgram,
        Self::LeftoverTarget,
        Self::LeftoverDelay,
        Self::LeftoverTrigger,
        Self::ReadOnlySystem,
        Self::ReadOnlyRole,
        Self::LoginRejected,
        Self::LoginForbidden,
        Self::ConnectionsFull,
        Self::OrphanSession,
        Self::BusyArchiver,
    ];

    /// Its name, as on the command line.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ServerInCopy => "server-in-copy",
            Self::SecondStart => "second-start",
            Self::PromotedBySql => "promoted-by-sql",
            Self::PromotedByProgram => "promoted-by-pg-ctl",
            Self::LeftoverTarget => "leftover-target",
            Self::LeftoverDelay => "leftover-delay",
            Self::LeftoverTrigger => "leftover-trigger",
            Self::ReadOnlySystem => "read-only-system",
            Self::ReadOnlyRole => "read-only-role",
            Self::LoginRejected => "login-rejected",
            Self::LoginForbidden => "login-forbidden",
            Self::ConnectionsFull => "connections-full",
            Self::OrphanSession => "orphan-session",
            Self::BusyArchiver => "busy-archiver",
        }
    }

    /// The server leaves recovery, and Locum did not order it.
    #[must_use]
    pub(crate) const fn ends_recovery(self) -> bool {
        matches!(self, Self::PromotedBySql | Self::PromotedByProgram)
    }

    /// It is done to a standby.
    #[must_use]
    pub(crate) const fn is_of_standby(self) -> bool {
        self.ends_recovery()
            || matches!(self, Self::LeftoverTarget | Self::LeftoverDelay | Self::LeftoverTrigger)
    }

    /// It is done to the primary.
    #[must_use]
    pub(crate) const fn is_of_primary(self) -> bool {
        !self.is_of_standby() && !matches!(self, Self::ServerInCopy | Self::SecondStart)
    }

    /// The finding that Locum must show of it, by its tag; it must do nothing else.
    #[must_use]
    pub(crate) const fn finding(self) -> Option<&'static str> {
        match self {
            Self::ReadOnlySystem | Self::ReadOnlyRole => Some("read_only"),
            Self::LoginRejected | Self::LoginForbidden | Self::ConnectionsFull => Some("login_refused"),
            Self::LeftoverDelay => Some("recovery_hindered"),
            _ => None,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// It cannot be done to that server.
    pub(crate) fn begin(self, plan: &Plan, host: &str) -> Result<()> {
        let ask = |sql: &str| postgres::keep(plan, host, sql).map(drop);
        let set = |name: &str, value: &str| {
            ask(&format!("ALTER SYSTEM SET {name} = '{value}'"))?;
            ask("SELECT pg_reload_conf()")
        };
        match self {
            Self::ServerInCopy => server_in_copy(plan, host),
            Self::SecondStart => second_start(plan, host),
            Self::PromotedBySql => {
                // It may be frozen before it can answer.
                let _maybe_cut = postgres::keep(plan, host, "SELECT pg_promote(false)");
                Ok(())
            }
            Self::PromotedByProgram => {
                let mut command = postgres::program(plan, "pg_ctl");
                command.args(["promote", "--no-wait", "-D"]).arg(plan.data_of(host));
                run::command_output(command, None).map(drop)
            }
            Self::LeftoverTarget => {
                set("recovery_target_time", "2020-01-01")?;
                set("recovery_target_action", "promote")?;
                kill(plan, host, Part::Postgres)
            }
            Self::LeftoverDelay => {
                set("recovery_min_apply_delay", "90s")?;
                kill(plan, host, Part::Postgres)
            }
            Self::LeftoverTrigger => {
                fs::write(trigger(plan, host), "").context("write a trigger file")?;
                set("promote_trigger_file", &trigger(plan, host).display().to_string())?;
                kill(plan, host, Part::Postgres)
            }
            Self::ReadOnlySystem => set("default_transaction_read_only", "on"),
            Self::ReadOnlyRole => ask("ALTER ROLE postgres SET default_transaction_read_only = on"),
            Self::LoginRejected => {
                let (now, before) = hba(plan, host);
                let text = fs::read_to_string(&now).context("read pg_hba.conf")?;
                fs::write(&before, &text).context("keep pg_hba.conf")?;
                let rejects = "local all postgres reject\nhost all postgres 0.0.0.0/0 reject\n";
                fs::write(&now, rejects.to_owned() + &text).context("write pg_hba.conf")?;
                reload(plan, host);
                Ok(())
            }
            Self::LoginForbidden => ask("ALTER ROLE postgres NOLOGIN"),
            Self::ConnectionsFull => crowd(plan, host),
            Self::OrphanSession => {
                let name = orphan(host);
                let sql = format!("COPY (SELECT 1) TO PROGRAM 'exec {PROGRAM}'");
                helper::start(plan, &name, &format!("{} -c \"{sql}\"\n", psql(plan, host, &name)))?;
                waits_for_program(plan, host)?;
                kill(plan, host, Part::Postmaster)
            }
            Self::BusyArchiver => {
                ensure!(plan.wish.archives, "the laboratory was built without archivers");
                set("archive_command", &format!("exec {PROGRAM}"))?;
                ask("SELECT pg_switch_wal()")?;
                waits_for_program(plan, host)?;
                kill(plan, host, Part::Postmaster)
            }
        }
    }

    /// Does what a person does about it.
    ///
    /// # Errors
    /// Something could not be put right.
    pub(crate) fn heal(self, plan: &Plan, host: &str) -> Result<()> {
        match self {
            Self::ServerInCopy => {
                processes::end(|| mentioning(plan, host, &copied(plan, host).display().to_string()))?;
                fs::remove_dir_all(copied(plan, host)).context("remove the copy")
            }
            Self::SecondStart => processes::end(|| mentioning(plan, host, &other_port())),
            // Locum stops it, keeps what it wrote, and brings it back.
            Self::PromotedBySql | Self::PromotedByProgram => Ok(()),
            Self::LeftoverTarget => reset(plan, host, &["recovery_target_time", "recovery_target_action"]),
            Self::LeftoverDelay => reset(plan, host, &["recovery_min_apply_delay"]),
            Self::LeftoverTrigger => reset(plan, host, &["promote_trigger_file"]),
            Self::ReadOnlySystem => reset(plan, host, &["default_transaction_read_only"]),
            Self::ReadOnlyRole => at_primary(plan, "ALTER ROLE postgres RESET default_transaction_read_only"),
            Self::LoginRejected => {
                let (now, before) = hba(plan, host);
                fs::copy(before, now).context("write pg_hba.conf")?;
                reload(plan, host);
                Ok(())
            }
            Self::LoginForbidden => at_primary(plan, "ALTER ROLE postgres LOGIN"),
            Self::ConnectionsFull => helper::end(plan, &crowded(host)),
            Self::OrphanSession => {
                helper::end(plan, &orphan(host))?;
                processes::end(|| programs(plan, host))
            }
            Self::BusyArchiver => {
                reset(plan, host, &["archive_command"])?;
                processes::end(|| programs(plan, host))
            }
        }
    }
}

fn kill(plan: &Plan, host: &str, part: Part) -> Result<()> {
    let victims = part.of(plan, host);
    ensure!(!victims.is_empty(), "there is no {} on {host}", part.as_str());
    for signal in [Signal::STOP, Signal::KILL] {
        victims.iter().for_each(|process| processes::send(process.pid, signal));
    }
    Ok(())
}

/// The server that is not in a copy.
fn reload(plan: &Plan, host: &str) {
    let own = plan.data_of(host).display().to_string();
    let postmasters = Part::Postmaster.of(plan, host).into_iter();
    for process in postmasters.filter(|process| process.line.contains(&own)) {
        processes::send(process.pid, Signal::HUP);
    }
}

fn mentioning(plan: &Plan, host: &str, word: &str) -> Vec<Process> {
    let all = processes::of_host(plan, host).into_iter();
    all.filter(|process| process.line.iter().any(|one| one.contains(word))).collect()
}

fn copied(plan: &Plan, host: &str) -> PathBuf {
    plan.folder_of(host).join("copied")
}

fn other_port() -> String {
    format!("--port={OTHER_PORT}")
}

fn trigger(plan: &Plan, host: &str) -> PathBuf {
    plan.folder_of(host).join("promote-now")
}

/// It, and how it was before.
fn hba(plan: &Plan, host: &str) -> (PathBuf, PathBuf) {
    (plan.data_of(host).join("pg_hba.conf"), plan.folder_of(host).join("pg_hba.before"))
}

fn second(plan: &Plan, host: &str, data: &std::path::Path) -> Result<()> {
    let mut command = clock::on_host(plan, plan.host(host));
    command.arg("setpriv");
    postgres::as_postgres(&mut command);
    command.arg(plan.bin.join("postgres")).arg("-D").arg(data).args([
        other_port(),
        format!("--listen_addresses={}", plan.host(host).ip),
        "--unix_socket_directories=".to_owned(),
        format!("--cluster_name={host}-copy"),
    ]);
    spawn(command, &plan.folder_of(host).join("second.log"))
}

fn server_in_copy(plan: &Plan, host: &str) -> Result<()> {
    let data = copied(plan, host);
    let mut command = postgres::program(plan, "pg_basebackup");
    command.args(["-U", "replicator", "-X", "stream", "-c", "fast", "-p", &POSTGRES_PORT.to_string(), "-h"]);
    command.arg(plan.socket_of(host)).arg("-D").arg(&data);
    run::command_output(command, None)?;
    second(plan, host, &data)?;
    let runs = within_limit(STEP, || data.join("postmaster.pid").exists());
    ensure!(
        runs,
        "the server in the copy does not start: {}",
        plan.folder_of(host).join("second.log").display()
    );
    Ok(())
}

fn second_start(plan: &Plan, host: &str) -> Result<()> {
    second(plan, host, &plan.data_of(host))?;
    let over = within_limit(STEP, || mentioning(plan, host, &other_port()).is_empty());
    ensure!(over, "a second server runs in the data directory of {host}");
    Ok(())
}

fn crowded(host: &str) -> String {
    format!("crowd-{host}")
}

fn orphan(host: &str) -> String {
    format!("orphan-{host}")
}

/// A client of a helper's script, named so that it ends with the helper.
fn psql(plan: &Plan, host: &str, helper: &str) -> String {
    let (socket, script) = (plan.socket_of(host), plan.folder.join(format!("helper-{helper}.sh")));
    format!(
        "psql -XAtq -U {} -d postgres -p {POSTGRES_PORT} -h {} -v script={}",
        postgres::KEEPER,
        socket.display(),
        script.display()
    )
}

fn crowd(plan: &Plan, host: &str) -> Result<()> {
    let (name, pipe) = (crowded(host), plan.folder_of(host).join("crowd"));
    let client = psql(plan, host, &name);
    let pipe = pipe.display();
    // Clients that wait for a line that never comes: each ends its session when it is ended. One that is refused tries again, for
    // a place that somebody else gives back.
    helper::start(
        plan,
        &name,
        &format!(
            "rm -f {pipe}; mkfifo {pipe}; exec 3<>{pipe}\nfor i in $(seq {CROWD}); do\n    until {client} <&3; do sleep 0.2; done &\ndone\nwait\n"
        ),
    )?;
    let full = || {
        postgres::keep(plan, host, "SELECT 1")
            .is_err_and(|error| error.to_string().contains("too many clients"))
    };
    ensure!(within_limit(STEP, full), "{host} still lets clients in");
    Ok(())
}

fn programs(plan: &Plan, host: &str) -> Vec<Process> {
    let all = processes::of_host(plan, host).into_iter();
    all.filter(|process| process.line.join(" ") == PROGRAM).collect()
}

fn waits_for_program(plan: &Plan, host: &str) -> Result<()> {
    ensure!(within_limit(STEP, || !programs(plan, host).is_empty()), "{PROGRAM} does not run on {host}");
    Ok(())
}

/// Takes settings out of a server that runs, or out of its file.
fn reset(plan: &Plan, host: &str, names: &[&str]) -> Result<()> {
    let asked = || {
        names.iter().try_for_each(|name| {
            postgres::keep(plan, host, &format!("ALTER SYSTEM RESET {name}")).map(drop)
        })?;
        postgres::keep(plan, host, "SELECT pg_reload_conf()").map(drop)
    };
    let written = || -> Result<()> {
        let path = plan.data_of(host).join("postgresql.auto.conf");
        let text = fs::read_to_string(&path)?;
        let stays = |line: &&str| !names.iter().any(|name| line.starts_with(name));
        let kept: Vec<_> = text.lines().filter(stays).collect();
        let fresh = path.with_extension("new");
        fs::write(&fresh, kept.join("\n") + "\n")?;
        place::give_to_postgres(&fresh)?;
        Ok(fs::rename(fresh, path)?)
    };
    let mut last = Ok(());
    let done = within_limit(STEP, || {
        last = asked();
        last.is_ok() || (Part::Postmaster.of(plan, host).is_empty() && written().is_ok())
    });
    ensure!(done, "the settings of {host} cannot be reset: {last:?}");
    Ok(())
}

/// Asks the server that takes writes.
fn at_primary(plan: &Plan, sql: &str) -> Result<()> {
    let writes = |host: &str| {
        postgres::keep(plan, host, "SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "f")
    };
    let mut last = Ok(String::new());
    let done = within_limit(STEP, || {
        let primary = plan.servers().find(|host| writes(&host.name));
        primary.is_some_and(|host| {
            last = postgres::keep(plan, &host.name, sql);
            last.is_ok()
        })
    });
    ensure!(done, "no primary took {sql}: {last:?}");
    Ok(())
}

/// Its PostgreSQL has `promote_trigger_file`.
#[must_use]
pub(crate) fn has_trigger_files(plan: &Plan) -> bool {
    let mut command = Command::new(plan.bin.join("postgres"));
    command.arg("--version");
    let version = run::command_output(command, None).unwrap_or_default();
    [" 14.", " 15."].iter().any(|number| version.contains(number))
}
