//! Hosts that come back: with an older disk, or in some order after all of them were off.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Fault, Lab, Part, copies, cuts, cuts::Cut, fault::boot, processes};

/// Between two hosts that come back in turn: longer than a detection and a failover.
const BETWEEN: Duration = Duration::from_secs(6);
/// A host takes at least so long to boot: longer than a detection.
const OFF: Duration = Duration::from_secs(2);

/// What goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Back {
    /// The data directory, and what the member remembers.
    Disk,
    /// The data directory.
    Data,
    /// What the member remembers.
    Memory,
    /// All of it, and the members elsewhere begin again: whoever leads then has never heard how far the host had come.
    Unknown,
}

impl Back {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Disk, Self::Data, Self::Memory, Self::Unknown];

    /// Its name, as on the command line.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk-back",
            Self::Data => "data-back",
            Self::Memory => "memory-back",
            Self::Unknown => "disk-back-new-leader",
        }
    }
}

/// Which host boots first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// The standby's, and the primary's some seconds later.
    StandbyFirst,
    /// The primary's, and the standby's some seconds later.
    PrimaryFirst,
    /// Neither.
    AtOnce,
}

impl Order {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::StandbyFirst, Self::PrimaryFirst, Self::AtOnce];

    /// Its name, as on the command line.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::StandbyFirst => "both-lost-standby-first",
            Self::PrimaryFirst => "both-lost-primary-first",
            Self::AtOnce => "both-lost-at-once",
        }
    }
}

impl Lab {
    /// The host loses power, and boots with the disk that was copied.
    pub(super) fn sets_back(&self, back: Back, host: &str) -> Result<()> {
        let lost = Fault::HostLost(host.to_owned());
        self.begin(&lost)?;
        std::thread::sleep(OFF);
        copies::put_back_of(&self.plan, host, back)?;
        if back == Back::Unknown {
            for other in self.plan.members().filter(|other| other.name != host) {
                processes::end(|| Part::Member.of(&self.plan, &other.name))?;
                boot(&self.plan, &other.name)?;
            }
        }
        self.heal(&lost)
    }

    pub(super) fn boot_in(&self, order: Order, primary: &str, standby: &str) -> Result<()> {
        let (first, second) =
            if order == Order::PrimaryFirst { (primary, standby) } else { (standby, primary) };
        self.powered_on(first)?;
        if order != Order::AtOnce {
            std::thread::sleep(BETWEEN);
        }
        self.powered_on(second)
    }

    fn powered_on(&self, host: &str) -> Result<()> {
        cuts::remove(&self.plan, &[Cut::Host(host.to_owned())])?;
        boot(&self.plan, host)
    }
}
