//! What can go wrong, as values: each can be begun and healed, by this process or by another one. Their words are in `fault_words`.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{
    Back, Deed, Fate, Lab, Order, begun, clock, copies,
    cuts::{self, Cut},
    disk, etcd, helper, member,
    plan::{HUB, Plan, Store},
    processes::{self, Process},
};

/// A part of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// The first process of PostgreSQL alone. Killed, its children live some milliseconds more; stopped, their sessions
    /// go on.
    Postmaster,
    /// PostgreSQL, all of it.
    Postgres,
    /// One session of a client.
    Backend,
    /// The process that receives WAL on a standby.
    WalReceiver,
    /// The process that replays it.
    Startup,
    /// The process that sends WAL to standbys.
    WalSender,
    /// `locum run`.
    Member,
    /// `locum guard`.
    Guard,
    /// Both.
    Locum,
    /// The host's member of etcd.
    Etcd,
    /// Every process on the host.
    Everything,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Postmaster,
        Self::Postgres,
        Self::Backend,
        Self::WalReceiver,
        Self::Startup,
        Self::WalSender,
        Self::Member,
        Self::Guard,
        Self::Locum,
        Self::Etcd,
        Self::Everything,
    ];

    /// Its name, as on the command line.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Postgres => "postgres",
            Self::Backend => "backend",
            Self::WalReceiver => "wal-receiver",
            Self::Startup => "startup",
            Self::WalSender => "wal-sender",
            Self::Member => "member",
            Self::Guard => "guard",
            Self::Locum => "locum",
            Self::Etcd => "etcd",
            Self::Everything => "everything",
        }
    }

    /// Its processes on a host.
    #[must_use]
    pub(crate) fn of(self, plan: &Plan, host: &str) -> Vec<Process> {
        let is_it = |process: &Process| match self {
            Self::Postmaster => process.is_postmaster(),
            Self::Postgres => process.is_postgres(),
            Self::Backend => process.is_titled("writer postgres "),
            Self::WalReceiver => process.is_titled("walreceiver"),
            Self::Startup => process.is_titled("startup"),
            Self::WalSender => process.is_titled("walsender"),
            Self::Member => process.is_locum("run"),
            Self::Guard => process.is_locum("guard"),
            Self::Locum => process.is_locum("run") || process.is_locum("guard"),
            Self::Etcd => process.is_etcd(),
            Self::Everything => true,
        };
        processes::of_host(plan, host).into_iter().filter(is_it).collect()
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// SIGKILL, once. Healed: what no part of the cluster starts again by itself is started.
    Kill(Part, String),
    /// SIGSTOP. Healed: SIGCONT.
    Freeze(Part, String),
    /// The host's network goes silent, without one reset. Its processes and its local clients go on.
    Isolated(String),
    /// The same, and everything on it is killed at once: a power cut, seen from elsewhere. Healed: it boots.
    HostLost(String),
    /// Nothing passes between two hosts.
    LinkCut(String, String),
    /// What the first says does not reach the second.
    OneWayCut(String, String),
    /// The host reaches no member of etcd, its own included.
    StoreCut(String),
    /// Everything from and to the host is dropped for so many of every so many milliseconds.
    Bursts(String, u32, u32),
    /// Every member of etcd is stopped.
    StoreStopped,
    /// Every member of etcd is killed.
    StoreKilled,
    /// Every member of etcd runs only so many of every so many milliseconds.
    StoreSlow(u32, u32),
    /// No byte is free on the disk of the host's PostgreSQL.
    DiskFull(String),
    /// Writes to the disk of the host's PostgreSQL hang, and so do commits.
    DiskHangs(String),
    /// The wall clock of PostgreSQL and Locum on the host is set so many seconds ahead, or back.
    ClockSet(String, i64),
    /// So many processes that do nothing but load the processors, of all hosts, for these share one machine.
    Starved(u32),
    /// Disks are copied; healed, each host in turn loses power and boots with what was copied.
    DiskBack(Back, Vec<String>),
    /// The hosts of the primary and of a standby lose power; healed, they boot in that order.
    BothLost(Order, String, String),
    /// Something befalls the data directory of a server that runs.
    Directory(Fate, String),
    /// Somebody does something to a server.
    Deed(Deed, String),
}

impl Fault {
    fn cuts(&self) -> Vec<Cut> {
        match self {
            Self::Isolated(host) | Self::HostLost(host) => vec![Cut::Host(host.clone())],
            Self::LinkCut(one, other) => {
                vec![Cut::OneWay(one.clone(), other.clone()), Cut::OneWay(other.clone(), one.clone())]
            }
            Self::OneWayCut(from, to) => vec![Cut::OneWay(from.clone(), to.clone())],
            Self::StoreCut(host) => vec![Cut::Store(host.clone())],
            Self::BothLost(_, one, other) => vec![Cut::Host(one.clone()), Cut::Host(other.clone())],
            _ => Vec::new(),
        }
    }
}

impl Lab {
    /// Begins a fault.
    ///
    /// # Errors
    /// This laboratory cannot do that, or there is nothing to do it to.
    pub(crate) fn begin(&self, fault: &Fault) -> Result<()> {
        let plan = &self.plan;
        if !fault.cuts().is_empty() {
            cuts::add(plan, &fault.cuts())?;
        }
        begun::note(plan, fault)?;
        match fault {
            Fault::Kill(part, host) => kill(plan, *part, host),
            Fault::Freeze(part, host) => {
                found(part.of(plan, host), *part, host)?;
                processes::stop(|| part.of(plan, host))
            }
            Fault::HostLost(host) => processes::end(|| Part::Everything.of(plan, host)),
            Fault::Isolated(_) | Fault::LinkCut(..) | Fault::OneWayCut(..) => Ok(()),
            Fault::StoreCut(_) => etcd_only(plan),
            Fault::Bursts(host, silent, of) => {
                helper::start(plan, &format!("burst-{host}"), &{ bursts(plan, host, *silent, *of) })
            }
            Fault::StoreStopped => {
                etcd_only(plan)?;
                each_etcd(plan, |host| processes::stop(|| Part::Etcd.of(plan, host)))
            }
            Fault::StoreKilled => {
                etcd_only(plan)?;
                each_etcd(plan, |host| processes::end(|| Part::Etcd.of(plan, host)))
            }
            Fault::StoreSlow(runs, of) => {
                etcd_only(plan)?;
                let pids: Vec<_> = plan.etcds().flat_map(|host| Part::Etcd.of(plan, &host.name)).collect();
                let pids: Vec<_> = pids.iter().map(|process| process.pid.to_string()).collect();
                helper::start(plan, "slow", &duty(&pids.join(" "), *runs, *of))
            }
            Fault::DiskFull(host) => disk::fill(plan, host),
            Fault::DiskHangs(host) => disk::freeze(plan, host),
            Fault::ClockSet(host, ahead) => clock::set(plan, host, *ahead),
            Fault::Starved(busy) => (0..*busy).try_for_each(|number| {
                helper::start(plan, &format!("busy-{number}"), "while :; do :; done\n")
            }),
            Fault::DiskBack(_, hosts) => hosts.iter().try_for_each(|host| copies::take(plan, host)),
            Fault::BothLost(_, one, other) => [one, other]
                .into_iter()
                .try_for_each(|host| processes::end(|| Part::Everything.of(plan, host))),
            Fault::Directory(fate, host) => fate.begin(plan, host),
            Fault::Deed(deed, host) => deed.begin(plan, host),
        }
    }

    /// Heals a fault.
    ///
    /// # Errors
    /// Something could not be put right.
    pub(crate) fn heal(&self, fault: &Fault) -> Result<()> {
        let plan = &self.plan;
        if !matches!(fault, Fault::BothLost(..)) && !fault.cuts().is_empty() {
            cuts::remove(plan, &fault.cuts())?;
        }
        begun::forget(plan, fault)?;
        match fault {
            Fault::Kill(_, host) | Fault::HostLost(host) => boot(plan, host),
            Fault::Freeze(part, host) => {
                go_on(&part.of(plan, host));
                Ok(())
            }
            Fault::Isolated(_) | Fault::LinkCut(..) | Fault::OneWayCut(..) | Fault::StoreCut(_) => Ok(()),
            Fault::Bursts(host, ..) => {
                helper::end(plan, &format!("burst-{host}"))?;
                super::run::nft(&plan.namespace(HUB), &quiet(host))
            }
            Fault::StoreStopped | Fault::StoreSlow(..) => {
                helper::end(plan, "slow")?;
                each_etcd(plan, |host| {
                    go_on(&Part::Etcd.of(plan, host));
                    Ok(())
                })
            }
            Fault::StoreKilled => each_etcd(plan, |host| boot_etcd(plan, host)),
            Fault::DiskFull(host) => disk::free(plan, host),
            Fault::DiskHangs(host) => disk::thaw(plan, host),
            Fault::ClockSet(host, _) => clock::set(plan, host, 0),
            Fault::Starved(_) => helper::end(plan, "busy"),
            Fault::DiskBack(back, hosts) => hosts.iter().try_for_each(|host| self.sets_back(*back, host)),
            Fault::BothLost(order, primary, standby) => self.boot_in(*order, primary, standby),
            Fault::Directory(fate, host) => fate.heal(plan, host),
            Fault::Deed(deed, host) => deed.heal(plan, host),
        }
    }

    /// Heals everything, whoever broke it.
    ///
    /// # Errors
    /// Something could not be put right.
    pub(crate) fn heal_all(&self) -> Result<()> {
        let plan = &self.plan;
        for fault in begun::all(plan)? {
            self.heal(&fault)?;
        }
        helper::end_all(plan)?;
        cuts::apply(plan, &[])?;
        clock::make(plan)?;
        disk::thaw_all(plan)?;
        for host in &plan.hosts {
            super::run::nft(&plan.namespace(HUB), &quiet(&host.name))?;
            go_on(&Part::Everything.of(plan, &host.name));
            if host.postgres {
                disk::free(plan, &host.name)?;
            }
            boot(plan, &host.name)?;
        }
        Ok(())
    }
}

fn found(processes: Vec<Process>, part: Part, host: &str) -> Result<Vec<Process>> {
    ensure!(!processes.is_empty(), "there is no {} on {host}", part.as_str());
    Ok(processes)
}

fn kill(plan: &Plan, part: Part, host: &str) -> Result<()> {
    let victims = found(part.of(plan, host), part, host)?;
    match part {
        Part::Backend => processes::send(victims[0].pid, Signal::KILL),
        // Before one of them could notice that another is gone.
        Part::Postgres | Part::Everything | Part::Locum => {
            victims.iter().for_each(|process| processes::send(process.pid, Signal::STOP));
            victims.iter().for_each(|process| processes::send(process.pid, Signal::KILL));
        }
        _ => victims.iter().for_each(|process| processes::send(process.pid, Signal::KILL)),
    }
    Ok(())
}

fn go_on(processes: &[Process]) {
    processes.iter().for_each(|process| processes::send(process.pid, Signal::CONT));
}

/// Starts what an operating system starts: PostgreSQL is the member's to start.
pub(super) fn boot(plan: &Plan, host: &str) -> Result<()> {
    boot_etcd(plan, host)?;
    let host = plan.host(host);
    if host.member && !member::runs(plan, &host.name) { member::start(plan, host) } else { Ok(()) }
}

fn boot_etcd(plan: &Plan, host: &str) -> Result<()> {
    let host = plan.host(host);
    if host.etcd && !etcd::runs(plan, &host.name) { etcd::start(plan, host) } else { Ok(()) }
}

fn etcd_only(plan: &Plan) -> Result<()> {
    ensure!(
        plan.wish.store != Store::Embedded,
        "the embedded store is a file: only etcd can be cut off or stopped"
    );
    Ok(())
}

fn each_etcd(plan: &Plan, what: impl Fn(&str) -> Result<()>) -> Result<()> {
    plan.etcds().try_for_each(|host| what(&host.name))
}

/// Lets a host's packets through again, also if none were dropped.
fn quiet(host: &str) -> String {
    format!("table bridge burst-{host} {{\n}}\ndelete table bridge burst-{host}\n")
}

fn bursts(plan: &Plan, host: &str, silent: u32, of: u32) -> String {
    let ip = plan.host(host).ip;
    let net = format!("nsenter --net=/run/netns/{} nft", plan.namespace(HUB));
    let (on, off) = (seconds(silent), seconds(of.saturating_sub(silent)));
    format!(
        "while :; do\n{net} -f - <<'END'\ntable bridge burst-{host} {{\nchain drops {{\n\
         type filter hook forward priority 1;\nip saddr {ip} drop\nip daddr {ip} drop\n}}\n}}\nEND\n\
         sleep {on}\n{net} delete table bridge burst-{host}\nsleep {off}\ndone\n"
    )
}

fn duty(pids: &str, runs: u32, of: u32) -> String {
    let (on, off) = (seconds(of.saturating_sub(runs)), seconds(runs));
    format!("while :; do\nkill -STOP {pids}\nsleep {on}\nkill -CONT {pids}\nsleep {off}\ndone 2>/dev/null\n")
}

fn seconds(ms: u32) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
