//! What a laboratory consists of: drawn once from a wish, written to `plan.json`, never changed.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{place, processes};

/// The namespace of the bridge.
pub(crate) const HUB: &str = "hub";
/// The namespace of the clients.
pub(crate) const CLIENTS: &str = "clients";
/// PostgreSQL hosts, in order. The first one begins as the primary.
pub(crate) const NAMES: [&str; 3] = ["seoul", "tokyo", "busan"];
/// A host with a member and no PostgreSQL.
pub(crate) const WITNESS: &str = "jeju";
/// A host with nothing but a member of etcd, where there would not be three.
pub(crate) const QUORUM: &str = "daegu";
/// Of every PostgreSQL.
pub(crate) const POSTGRES_PORT: u16 = 5432;
/// Of every public API.
pub(crate) const API_PORT: u16 = 8008;
/// Between members.
pub(crate) const PEER_PORT: u16 = 8009;
/// Of every endpoint that leads to the primary.
pub(crate) const ENDPOINT_PORT: u16 = 6432;
/// Of every app server.
pub(crate) const APP_PORT: u16 = 8080;
/// Of every endpoint that leads to the active app server.
pub(crate) const WEB_PORT: u16 = 6480;
/// etcd, for its clients.
pub(crate) const ETCD_PORT: u16 = 2379;
/// etcd, among its members.
pub(crate) const ETCD_PEER_PORT: u16 = 2380;

/// Which store the members use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Store {
    /// One file, which all hosts of this machine share. No network fault reaches it.
    Embedded,
    /// So many members of etcd, on the first hosts.
    Etcd(usize),
}

/// What a laboratory is to be like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wish {
    /// PostgreSQL hosts, 2 or 3.
    pub(crate) hosts: usize,
    /// One more member, without PostgreSQL.
    pub(crate) witness: bool,
    /// Where the records are.
    pub(crate) store: Store,
    /// `policy.durability`.
    pub(crate) durability: String,
    /// `key=value`, over the configuration file.
    pub(crate) set: Vec<String>,
    /// Every PostgreSQL's files on a file system of its own with so many MB, that can be filled and frozen.
    pub(crate) disk_mb: Option<u32>,
    /// etcd's data on that file system too.
    pub(crate) etcd_on_disk: bool,
    /// A virtual IP, of either family, that leads to the primary's PostgreSQL.
    #[serde(default)]
    pub(crate) vip: bool,
    /// The first of them is taken after so long although somebody else answers for it.
    #[serde(default)]
    pub(crate) claim_after: Option<String>,
    /// An app server beside every PostgreSQL, which whoever builds it has to run, and endpoints that lead to it.
    #[serde(default)]
    pub(crate) app: bool,
    /// The wall clocks of its hosts can be set.
    #[serde(default)]
    pub(crate) clocks: bool,
    /// Every server has an archiver.
    #[serde(default)]
    pub(crate) archives: bool,
    /// It outlives the process that built it.
    pub(crate) stays: bool,
}

impl Default for Wish {
    fn default() -> Self {
        let store = place::default_store();
        Self {
            hosts: 3,
            witness: false,
            store,
            durability: "sync".to_owned(),
            set: Vec::new(),
            disk_mb: None,
            etcd_on_disk: false,
            vip: false,
            claim_after: None,
            app: false,
            clocks: false,
            archives: false,
            stays: false,
        }
    }
}

impl Wish {
    /// So many PostgreSQL hosts.
    #[must_use]
    pub(crate) fn hosts(hosts: usize) -> Self {
        Self { hosts, ..Self::default() }
    }

    /// With this durability.
    #[must_use]
    pub(crate) fn durability(mut self, word: &str) -> Self {
        word.clone_into(&mut self.durability);
        self
    }

    /// With this key, `policy.hang=1s`, over everything else.
    #[must_use]
    pub(crate) fn set(mut self, key_and_value: &str) -> Self {
        self.set.push(key_and_value.to_owned());
        self
    }

    /// With this store.
    #[must_use]
    pub(crate) fn store(mut self, store: Store) -> Self {
        self.store = store;
        self
    }

    /// With a member that has no PostgreSQL.
    #[must_use]
    pub(crate) fn witness(mut self) -> Self {
        self.witness = true;
        self
    }

    /// With etcd's data on the same small disks as PostgreSQL's.
    #[must_use]
    pub(crate) fn etcd_on_disk(mut self) -> Self {
        self.etcd_on_disk = true;
        self
    }

    /// With virtual IPs.
    #[must_use]
    pub(crate) fn vip(mut self) -> Self {
        self.vip = true;
        self
    }

    /// With virtual IPs, of which the IPv4 one is taken from others after so long.
    #[must_use]
    pub(crate) fn vip_claimed_after(mut self, time: &str) -> Self {
        self.claim_after = Some(time.to_owned());
        self.vip()
    }

    /// With app servers.
    #[must_use]
    pub(crate) fn app(mut self) -> Self {
        self.app = true;
        self
    }

    /// With wall clocks that can be set.
    #[must_use]
    pub(crate) fn clocks(mut self) -> Self {
        self.clocks = true;
        self
    }

    /// With small disks of their own.
    #[must_use]
    pub(crate) fn disks(mut self, mb: u32) -> Self {
        self.disk_mb = Some(mb);
        self
    }
}

/// One host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostPlan {
    /// Its name: of the namespace, the node, the member of etcd.
    pub(crate) name: String,
    /// Its address.
    pub(crate) ip: Ipv4Addr,
    /// It has a PostgreSQL.
    pub(crate) postgres: bool,
    /// It has a member, and so an endpoint.
    pub(crate) member: bool,
    /// It has a member of etcd.
    pub(crate) etcd: bool,
}

/// The laboratory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Tells it from others.
    pub(crate) id: String,
    /// All its files.
    pub(crate) folder: PathBuf,
    /// The process that clears it away, and when that was started; None: a person does.
    pub(crate) owner: Option<(i32, u64)>,
    /// The program under test.
    pub(crate) locum: PathBuf,
    /// PostgreSQL's programs.
    pub(crate) bin: PathBuf,
    /// The hosts.
    pub(crate) hosts: Vec<HostPlan>,
    /// Where clients are.
    pub(crate) clients: Ipv4Addr,
    /// What was wished.
    pub(crate) wish: Wish,
}

impl Plan {
    /// Chooses names and addresses. Nothing is made.
    ///
    /// # Errors
    /// The wish cannot be granted, or programs are missing.
    pub(crate) fn draw(wish: &Wish) -> Result<Self> {
        ensure!((1..=NAMES.len()).contains(&wish.hosts), "1 to {} PostgreSQL hosts", NAMES.len());
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
        let id = format!("{:04x}", u16::from_le_bytes([random[0], random[1]]));
        let net = |last: u8| Ipv4Addr::new(10, 64 + random[2] % 128, random[3], last);
        let mut names: Vec<(&str, bool, bool)> =
            NAMES.iter().take(wish.hosts).map(|name| (*name, true, true)).collect();
        if wish.witness {
            names.push((WITNESS, false, true));
        }
        let members = match wish.store {
            Store::Embedded => 0,
            Store::Etcd(members) => members,
        };
        if names.len() < members {
            names.push((QUORUM, false, false));
        }
        ensure!(members <= names.len(), "{members} members of etcd need as many hosts");
        let hosts = names.iter().zip(1_u8..).map(|((name, postgres, member), number)| HostPlan {
            name: (*name).to_owned(),
            ip: net(number),
            postgres: *postgres,
            member: *member,
            etcd: usize::from(number) <= members,
        });
        Ok(Self {
            folder: place::root().join(format!("{}{id}", place::PREFIX)),
            owner: (!wish.stays).then(processes::this).flatten(),
            locum: place::locum()?,
            bin: place::postgres_programs()?,
            hosts: hosts.collect(),
            clients: net(200),
            wish: wish.clone(),
            id,
        })
    }

    /// Reads that of a folder.
    ///
    /// # Errors
    /// It is not a laboratory's.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join(place::PLAN));
        let text = text.with_context(|| format!("there is no laboratory in {}", folder.display()))?;
        serde_json::from_str(&text).context("read the plan")
    }

    /// A host by its name.
    #[must_use]
    pub(crate) fn host(&self, name: &str) -> &HostPlan {
        self.hosts.iter().find(|host| host.name == name).unwrap_or_else(|| panic!("no host {name}"))
    }

    /// Those with PostgreSQL.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &HostPlan> {
        self.hosts.iter().filter(|host| host.postgres)
    }

    /// Those with a member.
    pub(crate) fn members(&self) -> impl Iterator<Item = &HostPlan> {
        self.hosts.iter().filter(|host| host.member)
    }

    /// Those with a member of etcd.
    pub(crate) fn etcds(&self) -> impl Iterator<Item = &HostPlan> {
        self.hosts.iter().filter(|host| host.etcd)
    }

    /// The name of a host's network namespace.
    #[must_use]
    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("locum-{}-{host}", self.id)
    }

    /// Every namespace.
    #[must_use]
    pub(crate) fn namespaces(&self) -> Vec<String> {
        let names = self.hosts.iter().map(|host| host.name.as_str()).chain([HUB, CLIENTS]);
        names.map(|name| self.namespace(name)).collect()
    }

    /// A host's files.
    #[must_use]
    pub(crate) fn folder_of(&self, host: &str) -> PathBuf {
        self.folder.join(host)
    }

    /// The file system that a host's PostgreSQL is on, if it has one of its own.
    #[must_use]
    pub(crate) fn disk_of(&self, host: &str) -> PathBuf {
        self.folder_of(host).join("disk")
    }

    /// A host's data directory.
    #[must_use]
    pub(crate) fn data_of(&self, host: &str) -> PathBuf {
        self.disk_of(host).join("data")
    }

    /// Where a host's PostgreSQL has its socket: reachable whatever the network is like.
    #[must_use]
    pub(crate) fn socket_of(&self, host: &str) -> PathBuf {
        self.folder_of(host).join("run")
    }

    /// A member's configuration.
    #[must_use]
    pub(crate) fn config_of(&self, host: &str) -> PathBuf {
        self.folder_of(host).join("locum.toml")
    }

    /// The virtual IPs.
    #[must_use]
    pub(crate) fn vips(&self) -> (Ipv4Addr, Ipv6Addr) {
        let [a, b, c, _] = self.clients.octets();
        (
            Ipv4Addr::new(a, b, c, 99),
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, u16::from(b), u16::from(c) << 8 | 0x99),
        )
    }

    /// Where a host's client of etcd connects: to its own member first.
    #[must_use]
    pub(crate) fn etcd_urls(&self, of: &str) -> Vec<String> {
        let (own, others): (Vec<_>, Vec<_>) = self.etcds().partition(|host| host.name == of);
        own.iter().chain(&others).map(|host| format!("http://{}:{ETCD_PORT}", host.ip)).collect()
    }
}
