//! The whole cluster: two hosts on this machine, built step by step.

use anyhow::{Context as _, Result, bail};

use super::{
    folder::Folder,
    loopback::{Ports, random_secret},
    machine::Machine,
    member::{Host, PORTS, Shared},
    node::{APP_DATABASE, APP_ROLE, Passwords, REPLICATOR},
    voice::Voice,
};
use crate::{cli::args::DemoDurability, model::NodeId};

/// The hosts' names. The first one begins as the primary.
const NAMES: [&str; 2] = ["seoul", "tokyo"];

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The hosts.
    pub(crate) hosts: Vec<Host>,
    /// Files that both share.
    pub(crate) shared: Shared,
    /// The token for control calls.
    pub(crate) token: String,
    passwords: Passwords,
}

impl Cluster {
    /// Builds it: two PostgreSQL, two app servers, two members.
    ///
    /// # Errors
    /// Any of it does not start; the message names it.
    pub(crate) async fn build(
        folder: &Folder,
        machine: &Machine,
        durability: DemoDurability,
        voice: &Voice,
    ) -> Result<Self> {
        let cluster = Self::plan(folder, machine, durability)?;
        let (seoul, tokyo) = (&cluster.hosts[0], &cluster.hosts[1]);
        seoul.node.reachable().await?;
        seoul.node.init().await?;
        seoul.node.start().await?;
        seoul.node.fill(&cluster.passwords).await?;
        voice.say(&format!(
            "{} runs: PostgreSQL {}, checksums on, port {}",
            seoul.id, machine.version, seoul.node.port
        ));
        let passfile = cluster.shared.passfile.to_string_lossy().into_owned();
        tokyo.node.copy_from(&seoul.node, &tokyo.id.slot(), &passfile).await?;
        tokyo.node.start().await?;
        seoul.node.streamed_by(1).await?;
        voice.say(&format!(
            "{} streams from {} through the slot {}, port {}",
            tokyo.id,
            seoul.id,
            tokyo.id.slot(),
            tokyo.node.port
        ));
        for host in &cluster.hosts {
            host.write_config(&cluster.shared)?;
            host.start_app(&cluster.shared)?;
            host.start_member()?;
        }
        voice.say("two members and two app servers are started");
        Ok(cluster)
    }

    fn plan(folder: &Folder, machine: &Machine, durability: DemoDurability) -> Result<Self> {
        let ports = Ports::find(PORTS * NAMES.len())?;
        let numbers = ports.numbers();
        let mut hosts = Vec::new();
        for (name, numbers) in NAMES.iter().zip(numbers.chunks(PORTS)) {
            let host = Host::new(NodeId::new(*name)?, numbers, folder, machine);
            host.node.prepare()?;
            hosts.push(host);
        }
        let passwords =
            Passwords { superuser: random_secret()?, replicator: random_secret()?, app: random_secret()? };
        let token = random_secret()?;
        let pgpass = format!("*:*:*:{REPLICATOR}:{}\n", passwords.replicator);
        folder.private("state")?;
        let shared = Shared {
            token_file: folder.secret("token", &token, false)?,
            passfile: folder.secret("pgpass", &pgpass, true)?,
            app_password: folder.secret("app-password", &passwords.app, false)?,
            store: folder.join("state").join("store.db"),
            names: NAMES.map(str::to_owned).to_vec(),
            durability,
        };
        Ok(Self { hosts, shared, token, passwords })
    }

    /// A host by its name.
    ///
    /// # Errors
    /// There is none of that name.
    pub(crate) fn host(&self, id: &NodeId) -> Result<&Host> {
        self.hosts.iter().find(|host| host.id == *id).with_context(|| format!("there is no host {id}"))
    }

    /// How writers connect to the database: through the first member's endpoint, and when it is gone through the other's.
    pub(crate) fn database(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        for host in &self.hosts {
            config.host("127.0.0.1").port(host.database);
        }
        config.user(APP_ROLE).dbname(APP_DATABASE);
        config.password(&self.passwords.app).application_name("writer");
        config
    }

    /// The same as a URL, for people.
    pub(crate) fn database_url(&self) -> String {
        let (port, password) = (self.hosts[0].database, &self.passwords.app);
        format!("postgresql://{APP_ROLE}:{password}@127.0.0.1:{port}/{APP_DATABASE}")
    }

    /// Where rows are posted to: through the first member's app endpoint.
    pub(crate) fn rows_url(&self) -> String {
        format!("http://127.0.0.1:{}/rows", self.hosts[0].web)
    }

    /// Fails if a member or an app server has ended: it is of no use to wait for it.
    ///
    /// # Errors
    /// One has; it is named.
    pub(crate) fn all_running(&self) -> Result<()> {
        for member in self.hosts.iter().filter_map(Host::member) {
            if let Some(how) = member.ended() {
                bail!("{} ended ({how})", member.name);
            }
        }
        Ok(())
    }
}
