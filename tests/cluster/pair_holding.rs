//! What holding costs: the same crash under the same load, with endpoints that hold, with endpoints that do not, and
//! without endpoints. A measurement: it prints, and asserts only what is promised of those that hold.

use std::{collections::BTreeMap, fmt};

use tokio::time::Instant;

use crate::pair::{Failures, LivePair, Wish, Writer, family, primary_of, send};

/// How many crashes each side has.
const RUNS: &str = "TEST_HOLD_RUNS";
/// Clients of each endpoint. Each comes back some milliseconds after it was refused.
const CLIENTS: usize = 4;
/// The shortest that can be told: less than any failover takes.
const SHORTEST: &str = "hold = \"100ms\"\n";

/// What clients meet while nobody serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// Endpoints with the usual `hold`.
    Holding,
    /// Endpoints that give up at once.
    Refusing,
    /// The two servers themselves, of which the driver picks the one that takes writes.
    Straight,
}

const SIDES: [Side; 3] = [Side::Holding, Side::Refusing, Side::Straight];

/// What one crash was like for the clients.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// From the last commit of anybody's to the next one, in milliseconds.
    all: f64,
    /// The same of the client that waited longest.
    worst: f64,
    failures: Failures,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failures { refused, lost } = self.failures;
        let (all, worst) = (self.all, self.worst);
        write!(f, "{all:6.0} ms, longest of a client {worst:6.0} ms; {refused} refused, {lost} sessions lost")
    }
}

/// The longest time without any of these moments, in milliseconds, of those that end after `from`.
fn longest(mut moments: Vec<Instant>, from: Instant) -> f64 {
    moments.sort_unstable();
    let gaps = moments.windows(2).filter(|two| two[1] >= from).map(|two| two[1] - two[0]);
    gaps.max().expect("two commits").as_secs_f64() * 1000.0
}

/// Kills the primary's PostgreSQL under load.
async fn crash(pair: &LivePair, side: Side, promotions: u64) -> Outage {
    let each = |text: &dyn Fn(usize) -> String| (0..2 * CLIENTS).map(text).collect();
    let writer = Writer::start_at(match side {
        Side::Holding | Side::Refusing => {
            each(&|client| format!("host=127.0.0.1 port={}", pair.hosts[client % 2].database))
        }
        Side::Straight => {
            let [one, other] = pair.hosts.each_ref().map(|host| host.node.port);
            each(&|_| format!("host=127.0.0.1,127.0.0.1 port={one},{other} target_session_attrs=read-write"))
        }
    })
    .await;
    let (old, killed) = (pair.primary().await, Instant::now());
    send(family(&pair.host(old).node.config.data_dir)[0], "KILL");
    pair.shows("another primary", |seen| primary_of(seen).is_some_and(|name| name != old)).await;
    writer.goes_on().await;
    let (acks, failures) = (writer.acks(), writer.failures());
    writer.finish().await;
    pair.whole(promotions).await;
    let mut of_each: BTreeMap<usize, Vec<Instant>> = BTreeMap::new();
    acks.iter().for_each(|ack| of_each.entry(ack.client).or_default().push(ack.at));
    let worst = of_each.into_values().map(|moments| longest(moments, killed)).fold(0.0, f64::max);
    Outage { all: longest(acks.iter().map(|ack| ack.at).collect(), killed), worst, failures }
}

fn spread(mut values: Vec<f64>) -> String {
    values.sort_unstable_by(f64::total_cmp);
    let (first, last) = (values[0], values[values.len() - 1]);
    let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
    format!("{first:.0} / {median:.0} / {last:.0}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for some minutes"]
async fn holding_costs_no_time_and_spares_every_refusal() {
    let runs: usize = std::env::var(RUNS).map_or(10, |runs| runs.parse().expect("a number"));
    let refusing = Wish::default().more([SHORTEST.to_owned(), SHORTEST.to_owned()]);
    let pairs = [LivePair::new().await, LivePair::wished(&refusing).await];
    let mut promotions = [0, 0];
    let mut outages: BTreeMap<Side, Vec<Outage>> = BTreeMap::new();
    for run in 0..runs {
        // Whoever is first in one run is last in another.
        for turn in 0..SIDES.len() {
            let side = SIDES[(run + turn) % SIDES.len()];
            let pair = usize::from(side == Side::Refusing);
            promotions[pair] += 1;
            let outage = crash(&pairs[pair], side, promotions[pair]).await;
            println!("{:2} {side:?}: {outage}", run + 1);
            outages.entry(side).or_default().push(outage);
        }
    }
    println!("\nminimum / median / maximum, in ms");
    for (side, outages) in &outages {
        let (all, worst) = outages.iter().map(|outage| (outage.all, outage.worst)).unzip();
        let refused: usize = outages.iter().map(|outage| outage.failures.refused).sum();
        println!("{side:?}: {}; longest of a client {}; {refused} refused", spread(all), spread(worst));
    }
    assert!(
        outages[&Side::Holding].iter().all(|outage| outage.failures.refused == 0),
        "somebody was refused"
    );
}
