//! Both PostgreSQL hosts of a pair are off, and come back one by one: who serves in the end, or what stands in the way. The table
//! of what is expected was written before it was run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use locum::model::{Role, Snapshot};
use rustix::process::Signal;

use crate::{
    checker::{Clients, Load, Survivor, judge},
    lab::{Fault, Lab, Part, Wish, plan::WITNESS, processes, status::primary_of, within::within_limit},
};

/// What is expected is awaited for so long: the start of a server and a failover, on a busy machine.
const LIMIT: Duration = Duration::from_secs(45);
/// Where nobody is to serve, nobody does for so long: longer than a detection, a lease and a failover.
const NOBODY: Duration = Duration::from_secs(15);
/// For how long one look waits for a commit.
const COMMIT: Duration = Duration::from_secs(2);
/// How long services may take to end in order.
const ENDED: Duration = Duration::from_secs(30);
/// How long a cluster may take to be whole again.
const WHOLE: Duration = Duration::from_secs(120);
/// More numbers than one row's writers need.
const WRITERS: u32 = 100;

/// How the hosts went off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stop {
    /// The services of the standby's host are stopped, then those of the primary's.
    Orderly,
    /// Both at once.
    PowerCut,
}

/// Which hosts come back, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    Standby,
    Primary,
    StandbyThenPrimary,
    PrimaryThenStandby,
    Both,
}

/// One of the two, by what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Primary,
    Standby,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It serves clients.
    Serves(Host),
    /// It is the primary, and its commits wait for the other one.
    Waits(Host),
    /// Nobody is the primary; the finding that says why, by its tag.
    Held(&'static str),
}

use Comes::{Both, Primary, PrimaryThenStandby, Standby, StandbyThenPrimary};
use Outcome::{Held, Serves, Waits};
use Stop::{Orderly, PowerCut};

const MODES: [&str; 3] = ["sync", "sync-strict", "async"];

/// A row: how they went off, whether the witness and its store stay, who comes back; what is expected in each of [`MODES`].
type Row = (Stop, bool, Comes, [Outcome; 3]);

const P: Outcome = Serves(Host::Primary);
const S: Outcome = Serves(Host::Standby);
const P_WAITS: Outcome = Waits(Host::Primary);
const S_WAITS: Outcome = Waits(Host::Standby);
/// The primary's member was stopped in order: what it acknowledged since the standby went away, only it has.
const UNATTENDED: Outcome = Held("unattended");
const NO_STORE: Outcome = Held("store_lost");

const TABLE: [Row; 20] = [
    (PowerCut, true, Standby, [S, S_WAITS, S]),
    (PowerCut, true, Primary, [P, P_WAITS, P]),
    (PowerCut, true, StandbyThenPrimary, [S, S, S]),
    (PowerCut, true, PrimaryThenStandby, [P, P, P]),
    (PowerCut, true, Both, [P, P, P]),
    (PowerCut, false, Standby, [NO_STORE, NO_STORE, NO_STORE]),
    (PowerCut, false, Primary, [NO_STORE, NO_STORE, NO_STORE]),
    (PowerCut, false, StandbyThenPrimary, [P, P, P]),
    (PowerCut, false, PrimaryThenStandby, [P, P, P]),
    (PowerCut, false, Both, [P, P, P]),
    (Orderly, true, Standby, [UNATTENDED, UNATTENDED, UNATTENDED]),
    (Orderly, true, Primary, [P, P_WAITS, P]),
    (Orderly, true, StandbyThenPrimary, [P, P, P]),
    (Orderly, true, PrimaryThenStandby, [P, P, P]),
    (Orderly, true, Both, [P, P, P]),
    (Orderly, false, Standby, [NO_STORE, NO_STORE, NO_STORE]),
    (Orderly, false, Primary, [NO_STORE, NO_STORE, NO_STORE]),
    (Orderly, false, StandbyThenPrimary, [P, P, P]),
    (Orderly, false, PrimaryThenStandby, [P, P, P]),
    (Orderly, false, Both, [P, P, P]),
];

/// Which rows.
#[derive(Args)]
pub(crate) struct Options {
    /// `sync`, `sync-strict` or `async`.
    #[arg(long, default_value = "sync")]
    durability: String,
    /// Only those that went off so.
    #[arg(long)]
    stop: Option<Stop>,
    /// Only those with this quorum.
    #[arg(long)]
    quorum: Option<bool>,
}

/// Runs them, one after the other, in one laboratory, and prints the table. False: a row is not as expected.
///
/// # Errors
/// The laboratory could not be built or made whole again.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    let mode = MODES.iter().position(|mode| *mode == options.durability).context("a mode")?;
    let wish = Wish::hosts(2).witness().durability(&options.durability);
    let mut pair = Pair { lab: Lab::build(&wish)?, first: 1, lossless: options.durability != "async" };
    println!("| off | witness and store | comes back | mode | expected | seen |\n|---|---|---|---|---|---|");
    let mut as_expected = true;
    for (stop, quorum, comes, expected) in TABLE {
        if options.stop.is_some_and(|only| only != stop) || options.quorum.is_some_and(|only| only != quorum)
        {
            continue;
        }
        let expected = &expected[mode];
        let seen = pair.row(stop, quorum, comes, mode).await?;
        as_expected &= seen.is(expected);
        println!(
            "| {} | {} | {} | {} | {} | {}{} |",
            if stop == Orderly { "orderly" } else { "power cut" },
            if quorum { "stay" } else { "off too" },
            comes.text(),
            options.durability,
            expected.text(),
            seen.text(),
            if seen.is(expected) { "" } else { " **(differs)**" }
        );
    }
    Ok(as_expected)
}

impl Comes {
    const fn text(self) -> &'static str {
        match self {
            Standby => "the standby",
            Primary => "the primary",
            StandbyThenPrimary => "the standby, then the primary",
            PrimaryThenStandby => "the primary, then the standby",
            Both => "both at once",
        }
    }
}

impl Host {
    const fn text(self) -> &'static str {
        match self {
            Self::Primary => "the primary",
            Self::Standby => "the standby",
        }
    }
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Serves(host) => format!("{} serves", host.text()),
            Waits(host) => format!("{} is primary, commits wait", host.text()),
            Held(tag) => format!("nobody: `{tag}`"),
        }
    }
}

/// What is seen at one moment.
enum Seen {
    Serves(Option<Host>),
    Waits(Host),
    /// The findings, or what else is said.
    Nobody(Vec<String>),
}

impl Seen {
    fn is(&self, expected: &Outcome) -> bool {
        match (self, expected) {
            (Self::Serves(Some(host)), Serves(wanted)) | (Self::Waits(host), Waits(wanted)) => host == wanted,
            (Self::Nobody(tags), Held(tag)) => tags.iter().any(|one| one == tag),
            _ => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Serves(host) => format!("{} serves", host.map_or("somebody", Host::text)),
            Self::Waits(host) => Waits(*host).text(),
            Self::Nobody(tags) => format!("nobody: {}", tags.join(", ")),
        }
    }
}

struct Pair {
    lab: Lab,
    first: u32,
    lossless: bool,
}

/// One row under way.
struct Off<'a> {
    lab: &'a Lab,
    clients: &'a Clients,
    primary: String,
    standby: String,
    on: Vec<String>,
}

impl Pair {
    async fn whole(&self) -> Result<()> {
        match self.lab.shows_within(WHOLE, |seen| self.lab.is_whole(seen)).await {
            Ok(_) => Ok(()),
            Err(Some(last)) => bail!("not whole: {}; {:?}", self.lab.missing(&last).join("; "), last.plan),
            Err(None) => bail!("nobody leads"),
        }
    }

    async fn row(&mut self, stop: Stop, quorum: bool, comes: Comes, mode: usize) -> Result<Seen> {
        self.whole().await?;
        let seen = self.lab.settled().await;
        let primary = primary_of(&seen).context("a primary")?.to_owned();
        let standby = self.lab.standbys().await.remove(0);
        let load = Load { first: self.first, ..Load::default() };
        self.first += WRITERS;
        let clients = Clients::start(&self.lab, &load).await;
        let on = if quorum { vec![WITNESS.to_owned()] } else { Vec::new() };
        let mut off = Off { lab: &self.lab, clients: &clients, primary, standby, on };
        off.stop(stop, quorum).await?;
        let seen = off.come(stop, quorum, comes, mode).await?;
        // The end of each row: all is on, and nothing acknowledged is missing.
        for host in &self.lab.plan.hosts {
            off.boot(&host.name)?;
        }
        self.whole().await?;
        let healed = clients.now_us();
        let endpoints: Vec<_> = self.lab.plan.members().map(|host| host.name.as_str()).collect();
        let served = clients.is_served_within(WHOLE, healed, &endpoints).await;
        let history = clients.finish().await;
        let verdict = judge(&history, &Survivor::read(&self.lab, load.first).await?);
        let sound = if self.lossless { verdict.is_lossless() } else { verdict.is_sound() };
        if !served || !sound {
            bail!("{} in the end; served: {served}; {verdict}", comes.text());
        }
        Ok(seen)
    }
}

impl Off<'_> {
    async fn stop(&self, stop: Stop, quorum: bool) -> Result<()> {
        let pair = [&self.standby, &self.primary];
        if stop == Orderly {
            for host in pair {
                self.stop_services(host)?;
                let since = self.clients.now_us();
                if host == &self.standby {
                    // Whether commits go on without it, or wait, is the mode's.
                    let _as_it_comes =
                        self.clients.is_served_within(NOBODY / 2, since, &[self.primary.as_str()]).await;
                }
            }
        } else {
            pair.iter().try_for_each(|host| self.lab.begin(&Fault::HostLost((*host).clone())))?;
        }
        if quorum { Ok(()) } else { self.lab.begin(&Fault::HostLost(WITNESS.to_owned())) }
    }

    /// As a host that is shut down does: the member first, then PostgreSQL, then what is left.
    fn stop_services(&self, host: &str) -> Result<()> {
        let plan = &self.lab.plan;
        for (part, signal) in
            [(Part::Member, Signal::TERM), (Part::Postmaster, Signal::INT), (Part::Everything, Signal::TERM)]
        {
            part.of(plan, host).iter().for_each(|process| processes::send(process.pid, signal));
            if !within_limit(ENDED, || part.of(plan, host).is_empty()) {
                bail!("{} of {host} does not end", part.as_str());
            }
        }
        self.lab.begin(&Fault::HostLost(host.to_owned()))
    }

    fn boot(&mut self, host: &str) -> Result<()> {
        if !self.on.iter().any(|on| on == host) {
            self.on.push(host.to_owned());
        }
        self.lab.heal(&Fault::HostLost(host.to_owned()))
    }

    async fn come(&mut self, stop: Stop, quorum: bool, comes: Comes, mode: usize) -> Result<Seen> {
        let expected = |comes: Comes| {
            let row = TABLE.into_iter().find(|row| (row.0, row.1, row.2) == (stop, quorum, comes));
            row.map(|(.., expected)| expected[mode].clone()).context("a row")
        };
        let (primary, standby) = (self.primary.clone(), self.standby.clone());
        match comes {
            Standby => self.boot(&standby)?,
            Primary => self.boot(&primary)?,
            Both => [&primary, &standby].into_iter().try_for_each(|host| self.boot(host))?,
            StandbyThenPrimary => {
                self.boot(&standby)?;
                self.seen(&expected(Standby)?).await?;
                self.boot(&primary)?;
            }
            PrimaryThenStandby => {
                self.boot(&primary)?;
                self.seen(&expected(Primary)?).await?;
                self.boot(&standby)?;
            }
        }
        self.seen(&expected(comes)?).await
    }

    /// What is seen once it is as expected, or at the latest after a while.
    async fn seen(&self, expected: &Outcome) -> Result<Seen> {
        let began = Instant::now();
        loop {
            // A member that ends because its store is away is started again, as systemd does.
            self.on.iter().try_for_each(|host| self.lab.heal(&Fault::HostLost(host.clone())))?;
            let seen = self.look().await;
            let nobody = matches!(expected, Held(_)) && began.elapsed() < NOBODY;
            if (seen.is(expected) && !nobody) || began.elapsed() > LIMIT {
                return Ok(seen);
            }
        }
    }

    async fn look(&self) -> Seen {
        let since = self.clients.now_us();
        let endpoints: Vec<&str> = [&self.primary, &self.standby]
            .into_iter()
            .filter(|host| self.on.contains(host))
            .map(String::as_str)
            .collect();
        let served = self.clients.is_served_within(COMMIT, since, &endpoints).await;
        let leader = self.lab.leader().await;
        let declared = leader.as_ref().and_then(primary_of).and_then(|name| self.named(name));
        if served {
            return Seen::Serves(declared);
        }
        // A leader that has just begun may not show it yet.
        let is_primary = |snapshot: &Snapshot, name: &str| {
            let mut nodes = snapshot.nodes.iter();
            nodes.any(|status| status.node.as_str() == name && status.role == Role::Primary)
        };
        match (&leader, declared) {
            (Some(snapshot), Some(host)) if is_primary(snapshot, self.name(host)) => Seen::Waits(host),
            (Some(snapshot), _) => Seen::Nobody(tags(snapshot)),
            (None, _) => {
                let any = self.lab.all().await;
                let tags = any.first().map(tags).unwrap_or_else(|| vec!["no member answers".to_owned()]);
                Seen::Nobody(tags)
            }
        }
    }

    fn named(&self, name: &str) -> Option<Host> {
        [Host::Primary, Host::Standby].into_iter().find(|host| self.name(*host) == name)
    }

    fn name(&self, host: Host) -> &str {
        match host {
            Host::Primary => &self.primary,
            Host::Standby => &self.standby,
        }
    }
}

/// The findings, by their tags, and what the plan waits for.
fn tags(snapshot: &Snapshot) -> Vec<String> {
    let tag = |found: &locum::model::Finding| {
        serde_json::to_value(found).ok().and_then(|value| Some(value["finding"].as_str()?.to_owned()))
    };
    let findings = snapshot.findings.iter().filter_map(|found| tag(&found.finding));
    findings
        .filter(|tag| tag != "guard_lacks")
        .chain(snapshot.plan.first().map(|plan| format!("“{plan}”")))
        .collect()
}
