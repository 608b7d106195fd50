//! Faults in words: as they are counted, told, and typed.

use anyhow::{Context as _, Result, bail, ensure};

use super::{Back, Deed, Fate, Fault, Order, Part, plan::Plan};

impl Fault {
    /// Its kind, for counting.
    #[must_use]
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Kill(part, _) => format!("kill-{}", part.as_str()),
            Self::Freeze(part, _) => format!("freeze-{}", part.as_str()),
            Self::Isolated(_) => "isolated".into(),
            Self::HostLost(_) => "host-lost".into(),
            Self::LinkCut(..) => "link-cut".into(),
            Self::OneWayCut(..) => "one-way-cut".into(),
            Self::StoreCut(_) => "store-cut".into(),
            Self::Bursts(..) => "bursts".into(),
            Self::StoreStopped => "store-stopped".into(),
            Self::StoreKilled => "store-killed".into(),
            Self::StoreSlow(..) => "store-slow".into(),
            Self::DiskFull(_) => "disk-full".into(),
            Self::DiskHangs(_) => "disk-hangs".into(),
            Self::ClockSet(..) => "clock-set".into(),
            Self::Starved(_) => "starved".into(),
            Self::DiskBack(back, hosts) if hosts.len() > 1 => format!("{}-both", back.as_str()),
            Self::DiskBack(back, _) => back.as_str().into(),
            Self::BothLost(order, ..) => order.as_str().into(),
            Self::Directory(fate, _) => fate.as_str().into(),
            Self::Deed(deed, _) => deed.as_str().into(),
        }
    }

    /// The hosts it is about.
    #[must_use]
    pub(crate) fn hosts(&self) -> Vec<&str> {
        match self {
            Self::Kill(_, host) | Self::Freeze(_, host) => vec![host],
            Self::Isolated(host) | Self::HostLost(host) | Self::StoreCut(host) => vec![host],
            Self::Bursts(host, ..) | Self::DiskFull(host) | Self::DiskHangs(host) => vec![host],
            Self::ClockSet(host, _) => vec![host],
            Self::LinkCut(one, other) | Self::OneWayCut(one, other) => vec![one, other],
            Self::BothLost(_, one, other) => vec![one, other],
            Self::DiskBack(_, hosts) => hosts.iter().map(String::as_str).collect(),
            Self::Directory(_, host) | Self::Deed(_, host) => vec![host],
            Self::StoreStopped | Self::StoreKilled | Self::StoreSlow(..) | Self::Starved(_) => Vec::new(),
        }
    }

    /// As one sentence reads it.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let hosts = self.hosts().join(" ");
        format!("{} {hosts}", self.kind()).trim_end().to_owned()
    }

    /// From words, as on the command line: `kill postmaster seoul`, `host-lost seoul`, `link-cut seoul tokyo`.
    ///
    /// # Errors
    /// The words name no fault, or a host that is not there.
    pub(crate) fn parse(words: &[String], plan: &Plan) -> Result<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let host = |name: &str| -> Result<String> {
            ensure!(plan.hosts.iter().any(|host| host.name == name), "there is no host {name}");
            Ok(name.to_owned())
        };
        let part = |name: &str| {
            Part::ALL
                .into_iter()
                .find(|part| part.as_str() == name)
                .with_context(|| format!("{name} is none of {}", Part::ALL.map(Part::as_str).join(", ")))
        };
        let fault = match words.as_slice() {
            ["kill", what, at] => Self::Kill(part(what)?, host(at)?),
            ["freeze", what, at] => Self::Freeze(part(what)?, host(at)?),
            ["isolated", at] => Self::Isolated(host(at)?),
            ["host-lost", at] => Self::HostLost(host(at)?),
            ["link-cut", one, other] => Self::LinkCut(host(one)?, host(other)?),
            ["one-way-cut", from, to] => Self::OneWayCut(host(from)?, host(to)?),
            ["store-cut", at] => Self::StoreCut(host(at)?),
            ["bursts", at] => Self::Bursts(host(at)?, 300, 1000),
            ["bursts", at, silent, of] => Self::Bursts(host(at)?, silent.parse()?, of.parse()?),
            ["store-stopped"] => Self::StoreStopped,
            ["store-killed"] => Self::StoreKilled,
            ["store-slow"] => Self::StoreSlow(50, 250),
            ["store-slow", runs, of] => Self::StoreSlow(runs.parse()?, of.parse()?),
            ["disk-full", at] => Self::DiskFull(host(at)?),
            ["disk-hangs", at] => Self::DiskHangs(host(at)?),
            ["clock-set", at, ahead] => Self::ClockSet(host(at)?, ahead.parse()?),
            ["starved"] => Self::Starved(16),
            ["starved", busy] => Self::Starved(busy.parse()?),
            [kind, at @ ..] => {
                let hosts = at.iter().map(|name| host(name)).collect::<Result<Vec<_>>>()?;
                Self::of_hosts(kind, &hosts)
                    .with_context(|| format!("no such fault: {}; the faults are\n{USAGE}", words.join(" ")))?
            }
            [] => bail!("no fault; the faults are\n{USAGE}"),
        };
        Ok(fault)
    }

    /// From the names of the newer kinds, which are about hosts and nothing else.
    #[must_use]
    pub(crate) fn of_hosts(kind: &str, hosts: &[String]) -> Option<Self> {
        let back = Back::ALL.into_iter().find(|back| back.as_str() == kind);
        match (back, hosts) {
            (Some(back), [_] | [_, _]) => Some(Self::DiskBack(back, hosts.to_vec())),
            (None, [host]) => {
                let fate = Fate::ALL.into_iter().find(|fate| fate.as_str() == kind);
                let deed = Deed::ALL.into_iter().find(|deed| deed.as_str() == kind);
                let fate = fate.map(|fate| Self::Directory(fate, host.clone()));
                fate.or_else(|| deed.map(|deed| Self::Deed(deed, host.clone())))
            }
            (None, [primary, standby]) => {
                let order = Order::ALL.into_iter().find(|order| order.as_str() == kind)?;
                Some(Self::BothLost(order, primary.clone(), standby.clone()))
            }
            _ => None,
        }
    }

    /// The parts of it that are healed one after the other, each once all is well again after the one before.
    #[must_use]
    pub(crate) fn in_turn(&self) -> Vec<Self> {
        match self {
            Self::DiskBack(back, hosts) => {
                hosts.iter().map(|host| Self::DiskBack(*back, vec![host.clone()])).collect()
            }
            _ => vec![self.clone()],
        }
    }

    /// The host whose server leaves recovery by it, without an order of Locum.
    #[must_use]
    pub(crate) fn ends_recovery_of(&self) -> Option<&str> {
        match self {
            Self::Deed(deed, host) if deed.ends_recovery() => Some(host),
            _ => None,
        }
    }

    /// The finding that Locum must show while it lasts, by its tag. It must do nothing else: the primary stays.
    #[must_use]
    pub(crate) const fn finding(&self) -> Option<&'static str> {
        match self {
            Self::Deed(deed, _) => deed.finding(),
            _ => None,
        }
    }
}

/// The faults, as on the command line.
pub(crate) const USAGE: &str =
    "  kill PART HOST           PART: postmaster postgres backend wal-receiver startup wal-sender member
                           guard locum etcd everything
  freeze PART HOST
  isolated HOST            its network is silent, its processes go on
  host-lost HOST           silent and killed; healed it boots
  link-cut HOST HOST
  one-way-cut FROM TO
  store-cut HOST           it reaches no member of etcd
  bursts HOST [MS OF-MS]   silent for 300 of every 1000 ms
  store-stopped | store-killed | store-slow [MS OF-MS]
  disk-full HOST | disk-hangs HOST      with --disks
  clock-set HOST SECONDS                ahead, or back; with --clocks
  starved [PROCESSES]
The disk is copied at once; healed, the host loses power and boots with what was copied:
  disk-back HOST [HOST]    data and what the member remembers; two hosts in turn
  data-back HOST | memory-back HOST
  disk-back-new-leader HOST             and the other members begin again
The primary's host and a standby's lose power; healed, they boot in this order:
  both-lost-standby-first PRIMARY STANDBY | both-lost-primary-first PRIMARY STANDBY
  both-lost-at-once PRIMARY STANDBY
The data directory of a server that runs:
  directory-removed HOST | directory-moved HOST | directory-parent-moved HOST
  directory-mounted-over HOST | directory-replaced HOST
What somebody does to a server:
  server-in-copy HOST      a second one in a copy of the directory, on another port
  second-start HOST        a second one is started in the same directory
  promoted-by-sql STANDBY | promoted-by-pg-ctl STANDBY
  leftover-target STANDBY | leftover-delay STANDBY | leftover-trigger STANDBY
                           recovery settings, and the server is killed
  read-only-system PRIMARY | read-only-role PRIMARY
  login-rejected PRIMARY | login-forbidden PRIMARY | connections-full PRIMARY
  orphan-session PRIMARY   a session waits for a program, and the postmaster is killed
  busy-archiver PRIMARY    the archiver waits for its command, and the postmaster is killed";
