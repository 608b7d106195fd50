//! Random faults, one after the other, under load: each is healed, the cluster becomes whole, and the clients' history is
//! judged. The first thing that is wrong ends it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufWriter,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use locum::model::{Epoch, Incident, IncidentKind, Snapshot};

use crate::{
    Shape,
    amid::Amid,
    checker::{Clients, Load, Survivor, judge, judge::Row, outage},
    lab::{
        Fault, Lab, Store, Wish, deed,
        dice::{Deck, Dice, Drawn, Kinds, Means, draw},
        etcd, place,
        status::{finds, primary_of},
    },
};

/// How long a cluster may take to be whole once everything is healed: a clone of an old primary among it.
const WHOLE: Duration = Duration::from_secs(120);
/// Clients are served again within this, once it is whole.
const SERVED: Duration = Duration::from_secs(30);
/// More numbers than one round's writers need.
const WRITERS: u32 = 100;
/// The leader leaves the primary's host within this, if somebody else can lead.
const SETTLED: Duration = Duration::from_secs(6);
/// What Locum has to find or to tell, it does within this.
const FOUND: Duration = Duration::from_secs(20);
/// What goes on while a disk is put back lasts so much longer.
const GOES_ON: Duration = Duration::from_secs(2);
/// Waits that are cancelled.
const PATIENCE: Duration = Duration::from_millis(700);

/// What to do.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    shape: Shape,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// At most so many faults.
    #[arg(long)]
    faults: Option<usize>,
    /// Draws the faults; the same seed draws the same ones. Without it, one is chosen and said.
    #[arg(long)]
    seed: Option<u64>,
    /// Faults of the guard, too.
    #[arg(long)]
    guard: bool,
    /// Which kinds: those of processes, hosts and networks, those that nobody expects (disks that go back, directories that vanish,
    /// what people do to a server), or all. Each kind comes once before any comes again.
    #[arg(long, default_value = "all")]
    kinds: Drawing,
    /// Each fault strikes while something else goes on, or in peace, as is drawn: in mid-promotion, in mid-rewind, without a leader,
    /// without the store.
    #[arg(long, conflicts_with = "only")]
    amid: bool,
    /// No faults that kill or freeze a member beside a living PostgreSQL.
    #[arg(long)]
    spare_members: bool,
    /// Nothing is drawn: this fault again and again, such as "host-lost primary" or "kill postgres standby". Every outage is
    /// printed, for a measurement.
    #[arg(long, value_name = "FAULT")]
    only: Option<String>,
    /// How long each of these lasts, in milliseconds.
    #[arg(long, default_value_t = 4_000, requires = "only")]
    hold_ms: u64,
    /// Before each of these, etcd's own leader is moved to the primary's host.
    #[arg(long, requires = "only")]
    etcd_leads_there: bool,
    /// Before each of these, wait until Locum's leader has left the primary's host, or not.
    #[arg(long, requires = "only")]
    leader_anywhere: bool,
    /// Where the logs and the history go when something is wrong.
    #[arg(long, default_value = "target/soak")]
    keep: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Drawing {
    /// Processes, hosts, networks, the store.
    Old,
    /// What nobody expects.
    New,
    /// Both.
    All,
}

impl From<Drawing> for Kinds {
    fn from(drawing: Drawing) -> Self {
        match drawing {
            Drawing::Old => Self::Plain,
            Drawing::New => Self::Odd,
            Drawing::All => Self::All,
        }
    }
}

struct Soak<'a> {
    options: &'a Options,
    lab: Lab,
    first: u32,
    kept: Vec<Row>,
    measured: BTreeMap<String, Measured>,
    done: usize,
    acknowledged: usize,
    warned: usize,
    unknown: usize,
    lost: usize,
    strays: Vec<usize>,
}

/// Runs it. The exit code is 1 when something was wrong.
///
/// # Errors
/// The laboratory could not be built.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let wish = Wish { stays: false, ..options.shape.wish(false) };
    let seed = match options.seed {
        Some(seed) => seed,
        None => u64::from(std::process::id()) ^ crate::lab::processes::this().map_or(0, |(_, at)| at),
    };
    println!("seed {seed}; replay with --seed {seed} and the same other arguments");
    let lab = Lab::build(&wish)?;
    let means = Means {
        etcd: wish.store != Store::Embedded,
        disks: wish.disk_mb.is_some(),
        clocks: wish.clocks,
        guard: options.guard,
        members: !options.spare_members,
        archives: wish.archives,
        triggers: deed::has_trigger_files(&lab.plan),
    };
    let mut soak = Soak {
        options,
        lab,
        first: 1,
        kept: Vec::new(),
        measured: BTreeMap::new(),
        done: 0,
        acknowledged: 0,
        warned: 0,
        unknown: 0,
        lost: 0,
        strays: Vec::new(),
    };
    let mut result = soak.whole().await;
    if result.is_ok() {
        let mut dice = Dice::new(seed);
        // However it ends, the laboratory is cleared away.
        result = tokio::select! {
            result = soak.rounds(&mut dice, means) => result,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("listen for Ctrl-C")?;
                println!("interrupted; what was done until now:");
                Ok(())
            }
        };
    }
    soak.summary();
    match result {
        Ok(()) => {
            println!("nothing was wrong in {} faults", soak.done);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            fs::create_dir_all(&options.keep).context("make a folder for the logs")?;
            place::keep_logs(&soak.lab.plan, &options.keep);
            println!("WRONG: {error:#}\nreplay with --seed {seed} and the same other arguments");
            Ok(ExitCode::from(1))
        }
    }
}

/// What strikes, before anybody knows who is who.
enum Choice<'a> {
    Drawn(&'a Drawn, Amid),
    Only(&'a Fault),
}

impl Choice<'_> {
    const fn amid(&self) -> Amid {
        match self {
            Self::Drawn(_, amid) => *amid,
            Self::Only(_) => Amid::Peace,
        }
    }

    /// A disk that goes back strikes when it is put back; before that it is only copied.
    fn strikes_at_the_end(&self) -> bool {
        matches!(self, Self::Drawn(drawn, _) if drawn.goes_back())
    }
}

/// What was measured of one kind of fault, in milliseconds.
#[derive(Default)]
struct Measured {
    /// How long clients elsewhere were without a commit.
    outages: Vec<f64>,
    /// How long after it was healed everything was whole: every node streams, and what is promised is in force.
    homes: Vec<f64>,
}

impl Soak<'_> {
    async fn rounds(&mut self, dice: &mut Dice, means: Means) -> Result<()> {
        let mut deck = Deck::new(means, self.options.kinds.into());
        let days = if self.options.amid { Amid::all(means.etcd, means.members) } else { vec![Amid::Peace] };
        let began = Instant::now();
        let until = Duration::from_secs_f64(self.options.minutes * 60.0);
        while began.elapsed() < until && self.options.faults.is_none_or(|most| self.done < most) {
            if let Some(words) = &self.options.only {
                self.again(words).await.with_context(|| format!("fault {}", self.done + 1))?;
                self.done += 1;
                continue;
            }
            let drawn = draw(dice, &mut deck);
            let amid = dice.one(&days);
            let amid = if amid.leaves_one() && drawn.takes_data() { Amid::Peace } else { amid };
            self.round(&drawn, amid).await.with_context(|| format!("fault {}", self.done + 1))?;
            self.done += 1;
        }
        self.all_kept().await
    }

    async fn whole(&self) -> Result<()> {
        match self.lab.shows_within(WHOLE, |seen| self.lab.is_whole(seen)).await {
            Ok(_) => Ok(()),
            Err(Some(last)) => bail!(
                "not whole {WHOLE:?} after everything was healed; missing: {}; the plan: {:?}",
                self.lab.missing(&last).join("; "),
                last.plan
            ),
            Err(None) => bail!("nobody leads {WHOLE:?} after everything was healed"),
        }
    }

    async fn round(&mut self, drawn: &Drawn, amid: Amid) -> Result<()> {
        self.settled().await;
        // What struck last may have been noticed late.
        self.whole().await?;
        let text = format!("{}{}", drawn.kind, amid.text());
        self.broken(drawn.hold, &Choice::Drawn(drawn, amid))
            .await
            .with_context(|| format!("{text}, {} ms", drawn.hold.as_millis()))
    }

    /// The fault itself, now that it is known who is who, and the primary it is about.
    async fn fault(&self, choice: &Choice<'_>) -> Result<(Fault, String)> {
        let (primary, standbys) = (self.lab.primary().await, self.lab.standbys().await);
        let fault = match choice {
            Choice::Drawn(drawn, _) => {
                let all: Vec<_> = self.lab.plan.hosts.iter().map(|host| host.name.clone()).collect();
                drawn.fault(&primary, &standbys, &all).context("a host for it")?
            }
            Choice::Only(fault) => (*fault).clone(),
        };
        Ok((fault, primary))
    }

    /// The one fault that is measured.
    async fn again(&mut self, words: &str) -> Result<()> {
        let (primary, standbys) = (self.lab.primary().await, self.lab.standbys().await);
        let standby = standbys.first().context("a standby")?;
        let named = |word: &str| match word {
            "primary" => primary.clone(),
            "standby" => standby.clone(),
            other => other.to_owned(),
        };
        let words: Vec<String> = words.split_whitespace().map(named).collect();
        let fault = Fault::parse(&words, &self.lab.plan)?;
        if !self.options.leader_anywhere {
            self.settled().await;
        }
        if self.options.etcd_leads_there {
            etcd::lead_from(&self.lab.plan, &primary)?;
        }
        self.broken(Duration::from_millis(self.options.hold_ms), &Choice::Only(&fault)).await
    }

    /// What Locum must find while it lasts, and what it must have told.
    async fn is_found(&self, fault: &Fault) -> Result<()> {
        let Some(tag) = fault.finding() else { return Ok(()) };
        match self.lab.shows_within(FOUND, |seen| finds(seen, tag)).await {
            Ok(_) => Ok(()),
            Err(last) => bail!("no finding {tag} within {FOUND:?}: {:?}", last.map(|seen| seen.findings)),
        }
    }

    /// The primary stays where a finding is all that is wanted; a server that left recovery is an incident.
    async fn is_told(&self, fault: &Fault, before: Option<Epoch>) -> Result<()> {
        if fault.finding().is_some() && before.is_some() {
            let after = self.lab.leader().await.and_then(|seen| seen.intent).map(|intent| intent.epoch);
            ensure!(after == before, "it failed over: the epoch was {before:?} and is {after:?}");
        }
        let Some(host) = fault.ends_recovery_of() else { return Ok(()) };
        let is_it = |incident: &Incident| {
            incident.kind == IncidentKind::LeftRecovery
                && incident.from.as_ref().is_some_and(|node| node.as_str() == host)
        };
        let seen = self.lab.shows_within(FOUND, |seen| seen.last_incident.as_ref().is_some_and(is_it)).await;
        match seen {
            Ok(_) => Ok(()),
            Err(last) => {
                bail!("that {host} left recovery is not told: {:?}", last.map(|seen| seen.last_incident))
            }
        }
    }

    /// Waits for the leader to be where it goes by itself; if it does not, then that is part of the test.
    async fn settled(&self) {
        let apart = |seen: &Snapshot| primary_of(seen).is_some_and(|primary| primary != seen.node.as_str());
        let _as_it_comes = self.lab.shows_within(SETTLED, apart).await;
    }

    async fn broken(&mut self, hold: Duration, choice: &Choice<'_>) -> Result<()> {
        let load = Load { first: self.first, impatient: Some(PATIENCE), eager: 1, ..Load::default() };
        self.first += WRITERS;
        let clients = Clients::start(&self.lab, &load).await;
        let before = self.lab.leader().await.and_then(|seen| seen.intent).map(|intent| intent.epoch);
        let amid = choice.amid();
        let began = clients.now_us();
        let mut going_on = Vec::new();
        if !choice.strikes_at_the_end() {
            going_on = amid.begin(&self.lab, &clients).await?;
        }
        let (fault, primary) = self.fault(choice).await?;
        let (begun, struck) = match clients.begin(&self.lab, &fault) {
            Ok(begun) => (begun, true),
            // Whom it is about may have just been killed.
            Err(error) if amid != Amid::Peace => {
                println!("      {}{} could not begin: {error:#}", fault.text(), amid.text());
                (began, false)
            }
            Err(error) => return Err(error),
        };
        tokio::time::sleep(hold).await;
        for broken in going_on {
            clients.heal(&self.lab, &broken)?;
        }
        let found = if struck { self.is_found(&fault).await } else { Ok(()) };
        let mut healing = Instant::now();
        let mut whole = Ok(());
        if matches!(fault, Fault::DiskBack(..)) {
            // A server that was copied stood still, and may have been taken over from: a disk that goes back before the other one
            // has everything takes with it what only it had.
            self.whole().await.context("before the disk goes back")?;
        }
        for part in fault.in_turn() {
            let going_on =
                if choice.strikes_at_the_end() { amid.begin(&self.lab, &clients).await? } else { Vec::new() };
            // What could not begin may have begun in part.
            clients
                .heal(&self.lab, &part)
                .map(drop)
                .or_else(|error| if struck { Err(error) } else { Ok(()) })?;
            healing = Instant::now();
            if !going_on.is_empty() {
                tokio::time::sleep(GOES_ON).await;
            }
            for broken in going_on {
                clients.heal(&self.lab, &broken)?;
            }
            whole = self.whole().await;
            if whole.is_err() {
                break;
            }
        }
        let home = healing.elapsed().as_secs_f64() * 1000.0;
        // What the clients saw is judged even if it did not become whole.
        let endpoints: Vec<_> = self.lab.plan.members().map(|host| host.name.as_str()).collect();
        let healed = clients.now_us();
        let served = clients.is_served_within(SERVED, healed, &endpoints).await;
        let until = clients.now_us();
        let history = clients.finish().await;
        found?;
        whole?;
        let told = match struck {
            true => self.is_told(&fault, before.filter(|_| amid == Amid::Peace)).await,
            false => Ok(()),
        };
        let survivor = Survivor::read(&self.lab, load.first).await?;
        let verdict = judge(&history, &survivor);
        let lasted = outage::longest_elsewhere_ms(&history, begun, until, fault_host(&fault));
        println!(
            "{:>4}  {:<32} {:>5} ms  outage {:>6} ms  whole {:>5.0} ms after  {} acknowledged, {} warned, {} unknown, primary {} -> {}",
            self.done + 1,
            fault.text() + amid.text(),
            hold.as_millis(),
            lasted.map_or_else(|| "?".into(), |ms| format!("{ms:.0}")),
            home,
            verdict.acknowledged,
            verdict.warned,
            verdict.unknown,
            primary,
            survivor.node
        );
        self.acknowledged += verdict.acknowledged;
        self.warned += verdict.warned;
        self.unknown += verdict.unknown;
        self.lost += verdict.lost.len();
        if struck && fault.ends_recovery_of().is_some() {
            self.strays.push(verdict.stray.len());
            println!(
                "      {} acknowledged there within {} ms, of which {} are not there",
                verdict.stray.len(),
                verdict.stray_ms().unwrap_or_default(),
                verdict.stray_missing
            );
        }
        // What strikes the primary is another matter than what strikes somebody else.
        let role = if fault.hosts().contains(&primary.as_str()) { " of the primary" } else { "" };
        let missed = if struck { "" } else { ", not begun" };
        let of_kind =
            self.measured.entry(format!("{}{role}{}{missed}", fault.kind(), amid.text())).or_default();
        of_kind.outages.extend(lasted);
        of_kind.homes.push(home);
        let may_lose = self.options.shape.durability == "async";
        if !verdict.is_sound() || (!may_lose && !verdict.is_lossless()) {
            fs::create_dir_all(&self.options.keep)?;
            let path =
                self.options.keep.join(format!("history-{}-{}.jsonl", self.lab.plan.id, self.done + 1));
            history.write(&survivor, &mut BufWriter::new(File::create(&path)?))?;
            bail!("{verdict}the history is in {}", path.display());
        }
        told?;
        let lost: std::collections::BTreeSet<_> = verdict.lost.iter().collect();
        let told = history
            .attempts
            .iter()
            .filter(|a| a.outcome == crate::checker::Outcome::Acknowledged && !history.is_stray(a));
        self.kept.extend(told.map(|a| (a.writer, a.seq)).filter(|row| !lost.contains(row)));
        if !served {
            bail!(
                "clients are not served through every endpoint {SERVED:?} after all is well: {:?}",
                history.errors()
            );
        }
        Ok(())
    }

    /// What survived its own fault must survive all later ones, too.
    async fn all_kept(&self) -> Result<()> {
        let survivor = Survivor::read(&self.lab, 0).await?;
        let gone: Vec<_> = self.kept.iter().filter(|row| !survivor.rows.contains_key(row)).collect();
        if !gone.is_empty() && self.options.shape.durability != "async" {
            bail!(
                "{} rows that had survived their fault are gone in the end, such as {:?}",
                gone.len(),
                gone[0]
            );
        }
        Ok(())
    }

    fn summary(&self) {
        println!(
            "\n{} faults; {} commits acknowledged, {} with a warning, {} unknown, {} acknowledged and lost",
            self.done, self.acknowledged, self.warned, self.unknown, self.lost
        );
        if !self.strays.is_empty() {
            println!(
                "{} acknowledged by servers that were promoted by hand, until they were frozen ({:?})",
                self.strays.iter().sum::<usize>(),
                self.strays
            );
        }
        println!(
            "{:<36} {:>5}  {:<26} whole again after it was healed",
            "fault (ms: min, median, max)", "count", "outage of clients elsewhere"
        );
        for (kind, measured) in &self.measured {
            let spread = |all: &[f64]| {
                let (min, median, max) = outage::spread(all).unwrap_or_default();
                format!("{min:>7.0} {median:>7.0} {max:>7.0}")
            };
            println!(
                "{kind:<36} {:>5}  {:<27} {}",
                measured.homes.len(),
                spread(&measured.outages),
                spread(&measured.homes)
            );
        }
    }
}

/// The host whose own endpoint's clients do not count; for others no host has that name.
fn fault_host(fault: &Fault) -> &str {
    match fault {
        Fault::Isolated(host) | Fault::HostLost(host) | Fault::Bursts(host, ..) => host,
        Fault::Kill(_, host) | Fault::Freeze(_, host) => host,
        _ => "",
    }
}
