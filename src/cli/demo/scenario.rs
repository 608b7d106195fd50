//! The story: wait until all is well, break something, wait until all is well again, and so on; then compare.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::{
    check::{self, Findings},
    cluster::Cluster,
    fault::{Fault, Injected},
    history::{Attempt, Gap, outage},
    observer::Observer,
    voice::Voice,
    writers::{DATABASE_WRITERS, Writers},
};
use crate::{
    cli::args::DemoArgs,
    clock::SystemClock,
    model::{Incident, IncidentId, Mono, NodeId},
    ports::Clock as _,
};

/// How long the cluster may take until all is well, at the start and before each fault.
const HEALTH_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take from a fault until redundancy is restored. A clone of this small cluster takes a second or two.
const RESTORE_LIMIT: Duration = Duration::from_secs(60);
/// How long clients write before a fault, so that there is something to lose and a rate to judge gaps by.
const WARM_UP: Duration = Duration::from_millis(1_500);
/// How long they go on after the last fault healed, so that a late stall shows.
const SETTLE: Duration = Duration::from_millis(700);
/// When the lost host comes back at the latest. In async the other side waits until its lease has run out.
const SERVED_LIMIT: Duration = Duration::from_secs(20);
/// When the killed app server is started again, as an init system would, if nobody took over until then.
const RESTART_APP_LIMIT: Duration = Duration::from_secs(10);

/// A fault, and what followed.
#[derive(Clone, Debug)]
pub(crate) struct Episode {
    /// The run it belongs to, from 1.
    pub(crate) run: u32,
    /// What was broken.
    pub(crate) fault: Fault,
    /// When, and whom it hit.
    pub(crate) injected: Injected,
    /// When all was well again.
    pub(crate) healed: Mono,
    /// The incident as the controller recorded it.
    pub(crate) incident: IncidentId,
    /// The primary before and after.
    pub(crate) primary: (NodeId, NodeId),
}

/// A fault as its clients saw it.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// The fault.
    pub(crate) episode: Episode,
    /// The incident in its final state.
    pub(crate) incident: Incident,
    /// The outage to the clients that judge; None: they were not served again.
    pub(crate) outage: Option<Gap>,
    /// The longest gap of the database's clients, where they are not the judges.
    pub(crate) database_gap: Option<Gap>,
    /// Acknowledged rows that are missing and were acknowledged between the end of the episode before and its own.
    pub(crate) lost: usize,
}

/// All that was found out.
#[derive(Clone, Debug)]
pub(crate) struct Findout {
    /// Fault by fault.
    pub(crate) faults: Vec<Judged>,
    /// What clients were told against what is there.
    pub(crate) check: Findings,
    /// What went wrong for clients how often.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Who holds the data in the end.
    pub(crate) survivor: NodeId,
}

/// Plays it.
///
/// # Errors
/// The cluster does not become well, or something cannot be broken or read.
pub(crate) async fn play(args: &DemoArgs, cluster: &Cluster, voice: &Voice) -> Result<Findout> {
    let mut writers = Writers::new();
    let observer = Observer::start(cluster, writers.history().clone(), voice.clone())?;
    observer.healthy(cluster, HEALTH_LIMIT).await?;
    voice.say("all is well: both nodes stream, endpoints are open, app servers are healthy");
    writers.add_database(&cluster.database());
    writers.add_app(cluster.rows_url());
    voice.say("4 database clients and 1 client of the app server commit numbered rows through the endpoints");
    let mut episodes = Vec::new();
    for run in 1..=args.runs {
        for fault in Fault::of(args.scenario) {
            let label = if args.runs > 1 { format!(" (run {run} of {})", args.runs) } else { String::new() };
            episodes.push(episode(*fault, run, &label, cluster, &observer, voice).await?);
        }
    }
    sleep(SETTLE).await;
    let last = observer.healthy(cluster, HEALTH_LIMIT).await?;
    let history = writers.stop().await;
    voice.say("clients stop; every acknowledged row is looked for on the surviving primary");
    let survivor = last.intent.as_ref().and_then(|intent| intent.primary.clone());
    let survivor = survivor.context("there is no primary in the end")?;
    let rows = check::rows_of(&cluster.host(&survivor)?.node).await?;
    let attempts = history.attempts();
    let faults = judge(episodes, &observer.incidents(), &attempts, &rows)?;
    let check = check::compare(&attempts, &rows);
    Ok(Findout { faults, check, errors: history.errors(), survivor })
}

/// One fault, from health to health.
async fn episode(
    fault: Fault,
    run: u32,
    label: &str,
    cluster: &Cluster,
    observer: &Observer,
    voice: &Voice,
) -> Result<Episode> {
    observer.healthy(cluster, HEALTH_LIMIT).await.context("before the fault")?;
    sleep(WARM_UP).await;
    let before = observer.healthy(cluster, HEALTH_LIMIT).await.context("before the fault")?;
    let known = observer.incidents();
    let injected = fault.inject(cluster, &before, observer).await?;
    voice.say_at(injected.at, &format!(">>> {}{label}", injected.what));
    if fault == Fault::App {
        observer.served_again(&known, RESTART_APP_LIMIT).await;
        voice.say(&format!("the app server of {} is started again, as an init system would", injected.node));
        cluster.host(&injected.node)?.start_app(&cluster.shared)?;
    }
    if fault == Fault::HostLost {
        observer.served_again(&known, SERVED_LIMIT).await;
        voice.say(&format!("{} comes back, as after a reboot: its member starts", injected.node));
        let host = cluster.host(&injected.node)?;
        host.start_member()?;
        host.start_app(&cluster.shared)?;
    }
    let incident = observer.restored(cluster, &known, RESTORE_LIMIT).await.context("after the fault")?;
    let healed = SystemClock.now();
    let after = observer.snapshot().context("no member answers")?;
    let primary_of = |snapshot: &crate::model::Snapshot| snapshot.intent.as_ref()?.primary.clone();
    let primary = primary_of(&before).zip(primary_of(&after)).context("there is no primary")?;
    voice
        .say(&format!("all is well again, {:.1} s after the fault", healed.since(injected.at).as_secs_f64()));
    Ok(Episode { run, fault, injected, healed, incident, primary })
}

/// What the clients saw of each fault.
fn judge(
    episodes: Vec<Episode>,
    incidents: &BTreeMap<IncidentId, Incident>,
    attempts: &[Attempt],
    rows: &BTreeMap<(u16, u64), u64>,
) -> Result<Vec<Judged>> {
    let mut since = Mono(0);
    let count = episodes.len();
    let mut judged = Vec::with_capacity(count);
    for (number, episode) in episodes.into_iter().enumerate() {
        let incident = incidents.get(&episode.incident).context("the incident was not kept")?.clone();
        let (at, healed) = (episode.injected.at, episode.healed);
        let until = if number + 1 == count { Mono(u64::MAX) } else { healed };
        let longest = |writers: &[u16]| outage(attempts, writers, at, healed);
        judged.push(Judged {
            outage: longest(episode.fault.judges()),
            database_gap: (!episode.fault.moves_database()).then(|| longest(&DATABASE_WRITERS)).flatten(),
            lost: check::lost_between(attempts, rows, since, until),
            incident,
            episode,
        });
        since = until;
    }
    Ok(judged)
}
