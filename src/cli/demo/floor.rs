//! The bare floor: what a failover costs with no controller at all, on a pair of its own on this very machine.
//!
//! The primary's postmaster is killed under four writers; a pidfd tells; orphans are killed; the standby is promoted
//! by file and signal, with a SIGHUP every 10 ms against the promotion that stalls; a fresh connection commits. The
//! time counts from the kill to that first acknowledged commit. There is no election, no fencing token, no recorded
//! decision, no endpoint and no proof: it is what no controller can beat, and what one should stay near to.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{PidfdFlags, Signal, kill_process, pidfd_open},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    folder::Folder,
    link::Link,
    loopback::{Ports, random_secret},
    machine::Machine,
    node::{APP_DATABASE, APP_ROLE, Node, Passwords, REPLICATOR},
    processes,
    stage::free_shared_memory,
    writers::Writers,
};
use crate::{clock::SystemClock, ports::Clock as _};

/// How long writers write before each kill.
const WARM_UP: Duration = Duration::from_millis(400);
/// How long one failover may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a killed postmaster may take to end.
const POLL_LIMIT: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };
/// How often the promoted server is tried and poked.
const TRY: Duration = Duration::from_millis(1);
/// How often it gets a SIGHUP meanwhile.
const POKE: Duration = Duration::from_millis(10);
/// The writer of the commit that ends a measurement; no other writer has this number.
const PROBE: u16 = 1_000;
/// The slot of the floor's standby.
const SLOT: &str = "floor";

/// The pair.
struct Pair {
    machine: Machine,
    nodes: [Node; 2],
    passwords: Passwords,
    passfile: String,
}

/// Measures so many failovers; milliseconds each.
///
/// # Errors
/// The pair cannot be made, or does not come up again after a failover.
pub(crate) async fn measure(
    folder: &Folder,
    machine: &Machine,
    tries: u32,
    tell: impl Fn(u32, f64),
) -> Result<Vec<f64>> {
    let mut pair = Pair::build(folder, machine).await.context("build the pair for the floor")?;
    let mut figures = Vec::new();
    for number in 1..=tries {
        let ms = pair.failover().await?;
        tell(number, ms);
        figures.push(ms);
        if number < tries {
            pair.restore().await.context("restore the pair for the floor")?;
        }
    }
    for node in &pair.nodes {
        processes::end_all(&node.data_dir(), machine).await?;
    }
    Ok(figures)
}

impl Pair {
    async fn build(folder: &Folder, machine: &Machine) -> Result<Self> {
        let ports = Ports::find(2)?.numbers();
        let nodes = [
            Node::new("floor-a", ports[0], folder, machine),
            Node::new("floor-b", ports[1], folder, machine),
        ];
        let passwords =
            Passwords { superuser: random_secret()?, replicator: random_secret()?, app: random_secret()? };
        let line = format!("*:*:*:{REPLICATOR}:{}\n", passwords.replicator);
        let passfile = folder.secret("floor-pgpass", &line, true)?.to_string_lossy().into_owned();
        for node in &nodes {
            node.prepare()?;
        }
        nodes[0].init().await?;
        nodes[0].start().await?;
        nodes[0].fill(&passwords).await?;
        let pair = Self { machine: machine.clone(), nodes, passwords, passfile };
        pair.follow().await?;
        Ok(pair)
    }

    /// The second node becomes a copy of the first, and streams from it.
    async fn follow(&self) -> Result<()> {
        self.nodes[1].copy_from(&self.nodes[0], SLOT, &self.passfile).await?;
        self.nodes[1].start().await?;
        self.nodes[0].streamed_by(1).await
    }

    /// After a failover: the survivor is the first node now, and the killed one is made anew.
    async fn restore(&mut self) -> Result<()> {
        self.nodes.swap(0, 1);
        let killed = &self.nodes[1];
        processes::end_all(&killed.data_dir(), &self.machine).await?;
        free_shared_memory(&killed.data_dir());
        std::fs::remove_dir_all(killed.data_dir()).context("remove the killed node")?;
        killed.prepare()?;
        self.follow().await
    }

    fn client(&self, node: &Node) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(node.port).user(APP_ROLE).dbname(APP_DATABASE);
        config.password(&self.passwords.app);
        config
    }

    async fn failover(&self) -> Result<f64> {
        let [primary, standby] = &self.nodes;
        let mut writers = Writers::new();
        writers.add_database(&self.client(primary));
        sleep(WARM_UP).await;
        let postmaster = primary.postmaster().context("the floor's primary does not run")?;
        let promoted = standby.postmaster().context("the floor's standby does not run")?;
        let orphans: Vec<_> = primary.processes().into_iter().filter(|p| p.pid != postmaster).collect();
        let died = pidfd_open(postmaster, PidfdFlags::empty()).context("watch the floor's primary")?;
        // A thread of its own that sleeps in poll(2) wakes as fast as anything can.
        let died = spawn_blocking(move || poll(&mut [PollFd::new(&died, PollFlags::IN)], Some(&POLL_LIMIT)));
        let request = standby.data_dir().join("promote");

        let killed = SystemClock.now();
        kill_process(postmaster, Signal::KILL).context("kill the floor's primary")?;
        died.await.context("watch the floor's primary")?.context("watch the floor's primary")?;
        for orphan in &orphans {
            let _ = kill_process(orphan.pid, Signal::KILL);
        }
        std::fs::write(&request, "").context("write the promotion's file")?;
        kill_process(promoted, Signal::USR1).context("promote the floor's standby")?;
        self.first_commit(standby, promoted).await?;
        let ms = SystemClock.now().ms_since(killed);

        writers.stop().await;
        processes::end_all(&primary.data_dir(), &self.machine).await?;
        Ok(ms)
    }

    /// A fresh connection, tried until a commit is acknowledged, while the server is poked.
    async fn first_commit(&self, standby: &Node, postmaster: rustix::process::Pid) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let config = self.client(standby);
        let mut poked = Instant::now();
        let mut link = None;
        for seq in 0.. {
            if Instant::now() > deadline {
                bail!("the floor's standby takes no writes {LIMIT:?} after its promotion");
            }
            let open = match link.take() {
                Some(open) => Some(open),
                None => Link::open(&config).await.ok(),
            };
            if let Some(open) = open {
                if open.insert(PROBE, seq, LIMIT).await.is_ok() {
                    return Ok(());
                }
                link = Some(open);
            }
            if poked.elapsed() >= POKE {
                let _ = kill_process(postmaster, Signal::HUP);
                poked = Instant::now();
            }
            sleep(TRY).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_floor_is_measured_more_than_once_on_one_pair() {
        let Ok(machine) = Machine::look() else { return };
        let folder = Folder::create(machine.account.as_ref()).expect("folder");
        let measured = measure(&folder, &machine, 2, |_, _| {}).await;
        processes::end_all(folder.path(), &machine).await.expect("all gone");
        folder.remove().expect("removed");
        let figures = measured.expect("measured");
        assert!(figures.len() == 2 && figures.iter().all(|ms| *ms > 1.0), "{figures:?}");
    }
}
