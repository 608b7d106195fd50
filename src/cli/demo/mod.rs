//! `locum demo`: a whole cluster on this machine, broken on purpose, and judged by its clients.
//!
//! Everything lies in one temporary directory and on free ports of 127.0.0.1. However it ends, by itself, by an error
//! or by a signal at any moment, all its processes are stopped and the directory is removed, unless `--keep` was given
//! and it came to its end.

pub mod app;
mod check;
mod cluster;
mod fault;
mod floor;
mod folder;
mod health;
mod history;
mod link;
mod loopback;
mod machine;
mod member;
mod narrator;
mod node;
mod observer;
mod outcome;
mod processes;
mod scenario;
mod stage;
mod voice;
mod writers;

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow};
use futures_util::FutureExt as _;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    args::{DemoArgs, Scenario},
    failure::Exit,
    output,
};
use crate::report;
use cluster::Cluster;
use outcome::Judgement;
use stage::Stage;
use voice::Voice;

/// How often the floor is measured: as often as the cluster was broken, within these bounds. Each takes 2 s.
const FLOOR_TRIES: std::ops::RangeInclusive<u32> = 5..=10;

/// Runs the demo. The exit code is the verdict.
///
/// # Errors
/// It could not be played to its end. Everything is stopped and removed then, too.
pub async fn execute(args: DemoArgs) -> Result<ExitCode> {
    if let Some(dir) = &args.stop {
        return stop(dir).await;
    }
    // Before anything exists that a signal could leave behind.
    let mut signals = Signals::listen()?;
    let json_to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let json_file = writable(args.json.as_deref().filter(|_| !json_to_stdout))?;
    let voice = Voice::new(json_to_stdout);
    let stage = Stage::set_up()?;
    voice.say(&format!("everything this demo makes lies in {}", stage.folder.path().display()));

    let played = AssertUnwindSafe(play(&args, &stage, &voice)).catch_unwind();
    let played = select! {
        played = played => played.unwrap_or_else(|_| Err(anyhow!("the demo itself failed; please report it"))),
        name = signals.next() => Err(anyhow!("interrupted ({name})")),
    };
    let played = match played {
        Ok((judgement, json, cluster)) => {
            let told = deliver(json_file, json_to_stdout, &json);
            if args.keep && told.is_ok() {
                voice.print(&how_to_use(&cluster, &stage));
                return Ok(code(&judgement));
            }
            told.map(|()| judgement)
        }
        Err(error) => {
            let tails = stage.folder.tails();
            if !tails.is_empty() {
                output::talk(&format!("The last lines of the logs:\n{tails}"));
            }
            let full = tails.contains("No space left on device");
            Err(if full { error.context(folder::FULL) } else { error })
        }
    };
    stage.clear().await.context("clean up")?;
    voice.say("everything is stopped and removed");
    played.map(|judgement| code(&judgement))
}

fn code(judgement: &Judgement) -> ExitCode {
    if judgement.passed { Exit::Done.into() } else { Exit::Refused.into() }
}

/// The whole play: build, break, compare, report. What it leaves running is cleared away by the caller.
async fn play(args: &DemoArgs, stage: &Stage, voice: &Voice) -> Result<(Judgement, String, Cluster)> {
    let cluster = Cluster::build(&stage.folder, &stage.machine, args.durability(), voice).await?;
    let found = scenario::play(args, &cluster, voice).await?;
    let floor = if wants_floor(args) { measure_floor(args, stage, voice).await? } else { Vec::new() };
    let judgement = outcome::judge(&found, args.durability());
    let incidents: Vec<_> = found.faults.iter().map(|fault| fault.incident.clone()).collect();
    voice.print(&format!("\n{}", report::text(&incidents)));
    for incident in incidents.iter().filter(|incident| incident.rpo.lost_transactions > Some(0)) {
        voice.print(&format!("What was lost, as `locum report --lost {}` lists it:\n", incident.id));
        voice.print(&report::lost_text(incident, None));
    }
    voice.print(&outcome::to_text(&found, &judgement, &floor));
    let json = outcome::to_json(args, &stage.machine.version, &found, &judgement, &floor);
    let json = serde_json::to_string_pretty(&json).context("write the JSON")?;
    Ok((judgement, json, cluster))
}

/// The floor is a crash's; a cluster that is left running would be measured along with it.
fn wants_floor(args: &DemoArgs) -> bool {
    let crashes = matches!(args.scenario, Scenario::Crash | Scenario::CrashTwice);
    !args.keep && (args.floor || (crashes && args.runs > 1))
}

/// Stops the cluster, so that it does not slow down what is measured, and measures.
async fn measure_floor(args: &DemoArgs, stage: &Stage, voice: &Voice) -> Result<Vec<f64>> {
    stage.quiet().await?;
    let tries = args.runs.clamp(*FLOOR_TRIES.start(), *FLOOR_TRIES.end());
    voice.say(&format!(
        "the floor: the same crash {tries} times with no controller at all, on a pair of its own"
    ));
    floor::measure(&stage.folder, &stage.machine, tries, |number, ms| {
        voice.say(&format!("  try {number}: {ms:.1} ms from the kill to the first commit"));
    })
    .await
}

/// Opens the file for the result before anything is done, so that a bad path does not cost a whole run.
fn writable(path: Option<&Path>) -> Result<Option<(PathBuf, std::fs::File)>> {
    path.map(|path| {
        let file = std::fs::File::create(path);
        let file = file.with_context(|| format!("--json: {} cannot be written", path.display()))?;
        Ok((path.to_owned(), file))
    })
    .transpose()
}

fn deliver(file: Option<(PathBuf, std::fs::File)>, to_stdout: bool, json: &str) -> Result<()> {
    if to_stdout {
        // Nobody reading is no failure.
        let _ = output::data(json);
    }
    if let Some((path, mut file)) = file {
        let written = std::io::Write::write_all(&mut file, format!("{json}\n").as_bytes());
        written.with_context(|| format!("--json: write {}", path.display()))?;
    }
    Ok(())
}

/// What `--keep` says in the end.
fn how_to_use(cluster: &Cluster, stage: &Stage) -> String {
    let program = stage.machine.locum.display();
    let host = &cluster.hosts[0];
    let config = host.config_file();
    let (config, dir) = (config.display(), stage.folder.path().display());
    format!(
        "\nLeft running:\n  \
         database, always the primary   {}\n  \
         app, always the active one     http://127.0.0.1:{}/rows/count\n  \
         members                        {}\n\
         Look:      {program} status -c {config} --watch\n\
         Hand over: {program} switchover -c {config}\n\
         Logs:      {dir}/log\n\
         Stop:      {program} demo --stop {dir}\n",
        cluster.database_url(),
        host.web,
        cluster.hosts.iter().map(|host| format!("http://{}", host.api)).collect::<Vec<_>>().join("  "),
    )
}

/// `locum demo --stop DIR`.
async fn stop(dir: &Path) -> Result<ExitCode> {
    let stage = Stage::find(dir)?;
    stage.clear().await?;
    output::talk(&format!("everything in {} is stopped, and it is removed", dir.display()));
    Ok(Exit::Done.into())
}

/// Signals that ask the demo to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The name of the next one. Further ones change nothing: the way out is already being taken.
    async fn next(&mut self) -> &'static str {
        select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
