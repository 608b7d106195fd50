//! The laboratory: a cluster of hosts, each a network namespace on a bridge that is in a namespace of its own, with real
//! PostgreSQL, real etcd and real members, and faults to break them with. Needs root; touches nothing of the
//! machine's own network.
//!
//! What there is, is written down once in `plan.json` ([`Plan`]); everything else is found by looking, so that another
//! process (`scripts/lab`) can go on with a laboratory, and clear one away whose owner was killed.
#![allow(dead_code, reason = "the tests, the tool and the soak each use a part")]

pub(crate) mod back;
pub(crate) mod begun;
pub(crate) mod clock;
pub(crate) mod copies;
pub(crate) mod cuts;
pub(crate) mod deed;
pub(crate) mod dice;
pub(crate) mod directory;
pub(crate) mod disk;
pub(crate) mod etcd;
pub(crate) mod fault;
pub(crate) mod fault_words;
pub(crate) mod helper;
pub(crate) mod member;
pub(crate) mod network;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod postgres;
pub(crate) mod processes;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod within;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

pub(crate) use back::{Back, Order};
pub(crate) use deed::Deed;
pub(crate) use directory::Fate;
pub(crate) use fault::{Fault, Part};
pub(crate) use place::available;
pub(crate) use plan::{HostPlan, Plan, Store, Wish};
pub(crate) use within::Within;

/// What control calls must show.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A laboratory that runs. Dropping it ends everything in it and removes it, unless it was [`Lab::left`] running.
pub(crate) struct Lab {
    /// What is in it.
    pub(crate) plan: Plan,
    threads: Mutex<BTreeMap<String, Arc<Within>>>,
    ours: bool,
}

impl Lab {
    /// Builds it: network, PostgreSQL that stream, the store, members. Returns once all processes are started; whether
    /// the cluster is whole is for [`Lab::whole`] to wait for.
    ///
    /// # Errors
    /// Some step failed; what was made is cleared away.
    pub(crate) fn build(wish: &Wish) -> Result<Self> {
        let lab = Self::prepare(wish)?;
        lab.start_all()?;
        Ok(lab)
    }

    /// Network, folders and data directories; nothing runs yet.
    ///
    /// # Errors
    /// As [`Lab::build`].
    pub(crate) fn prepare(wish: &Wish) -> Result<Self> {
        place::clear_stale();
        let plan = Plan::draw(wish)?;
        place::make(&plan).context("make the folders")?;
        // From here on, whatever fails is cleared away by the drop.
        let lab = Self { plan, threads: Mutex::default(), ours: true };
        network::make(&lab.plan).context("make the network")?;
        clock::make(&lab.plan).context("make the clocks")?;
        disk::make(&lab.plan).context("make the disks")?;
        postgres::make(&lab.plan).context("make the data directories")?;
        for host in lab.plan.members() {
            member::configure(&lab.plan, host).context("write a member's configuration")?;
        }
        Ok(lab)
    }

    /// Starts what [`Lab::prepare`] made.
    ///
    /// # Errors
    /// Some process did not start.
    pub(crate) fn start_all(&self) -> Result<()> {
        for host in self.plan.etcds() {
            etcd::start(&self.plan, host)?;
        }
        postgres::start_all(&self.plan)?;
        for host in self.plan.members() {
            member::start(&self.plan, host)?;
        }
        Ok(())
    }

    /// One that another process built, by its folder. Dropping this one clears nothing away.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Ok(Self { plan: Plan::read(folder)?, threads: Mutex::default(), ours: false })
    }

    /// Leaves it running when this value is dropped.
    #[must_use]
    pub(crate) fn left(mut self) -> Self {
        self.ours = false;
        self
    }

    /// A host by its name.
    #[must_use]
    pub(crate) fn host(&self, name: &str) -> &HostPlan {
        self.plan.host(name)
    }

    /// A thread whose sockets are on that host; made when first asked for.
    #[must_use]
    pub(crate) fn on(&self, host: &str) -> Arc<Within> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let enter = || Arc::new(Within::enter(&self.plan.namespace(host)).expect("a thread in a namespace"));
        Arc::clone(threads.entry(host.to_owned()).or_insert_with(enter))
    }

    /// Where clients are: a host of their own, without any part of the cluster.
    #[must_use]
    pub(crate) fn clients(&self) -> Arc<Within> {
        self.on(plan::CLIENTS)
    }

    /// The log of a member, etcd or PostgreSQL.
    #[must_use]
    pub(crate) fn log(&self, host: &str, of: &str) -> PathBuf {
        self.plan.folder_of(host).join(format!("{of}.log"))
    }

    /// The last lines of every log, for a failure's report.
    #[must_use]
    pub(crate) fn tails(&self, lines: usize) -> String {
        let mut text = String::new();
        for host in &self.plan.hosts {
            for of in ["member", "state/postgres"] {
                let log = fs::read_to_string(self.log(&host.name, of)).unwrap_or_default();
                let all: Vec<_> = log.lines().collect();
                let from = all.len().saturating_sub(lines);
                text += &format!("---- {} {of}\n{}\n", host.name, all[from..].join("\n"));
            }
        }
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        if std::thread::panicking() {
            if let Some(kept) = std::env::var_os("LOCUM_LAB_KEEP_LOGS") {
                place::keep_logs(&self.plan, Path::new(&kept));
            }
            eprintln!("{}", self.tails(40));
        }
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Err(error) = place::clear(&self.plan) {
            eprintln!("the laboratory {} is not wholly cleared away: {error:#}", self.plan.folder.display());
        }
    }
}
