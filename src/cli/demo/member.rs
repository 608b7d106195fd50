//! One host of the demo: its PostgreSQL, its app server, its member, and the files that these need.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use rustix::process::{Signal, kill_process};

use super::{
    folder::Folder,
    machine::Machine,
    node::{APP_DATABASE, APP_ROLE, Node, REPLICATOR, SUPERUSER},
    processes::{self, Running},
};
use crate::{cli::args::DemoDurability, model::NodeId};

/// How many ports a host takes.
pub(crate) const PORTS: usize = 6;

/// Files that both hosts share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The token for control calls.
    pub(crate) token_file: PathBuf,
    /// libpq's password file for the replication role.
    pub(crate) passfile: PathBuf,
    /// The password of the app's role.
    pub(crate) app_password: PathBuf,
    /// The embedded store.
    pub(crate) store: PathBuf,
    /// All hosts.
    pub(crate) names: Vec<String>,
    /// What an acknowledged commit promises.
    pub(crate) durability: DemoDurability,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its name.
    pub(crate) id: NodeId,
    /// Its PostgreSQL.
    pub(crate) node: Node,
    /// The API's `host:port`.
    pub(crate) api: String,
    /// The database endpoint's port.
    pub(crate) database: u16,
    /// The app endpoint's port.
    pub(crate) web: u16,
    /// The app server's own `host:port`.
    pub(crate) app: String,
    peer: String,
    folder: Folder,
    machine: Machine,
    app_server: Mutex<Option<Running>>,
    member: Mutex<Option<Running>>,
}

impl Host {
    /// Names a host and gives it its ports.
    pub(crate) fn new(id: NodeId, ports: &[u16], folder: &Folder, machine: &Machine) -> Self {
        let local = |port: u16| format!("127.0.0.1:{port}");
        Self {
            node: Node::new(id.as_str(), ports[0], folder, machine),
            api: local(ports[1]),
            peer: local(ports[2]),
            database: ports[3],
            web: ports[4],
            app: local(ports[5]),
            folder: folder.clone(),
            machine: machine.clone(),
            app_server: Mutex::new(None),
            member: Mutex::new(None),
            id,
        }
    }

    /// Where its configuration is.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join(format!("{}.toml", self.id))
    }

    /// Writes its configuration.
    pub(crate) fn write_config(&self, shared: &Shared) -> Result<()> {
        let state = self.folder.private(&format!("state/{}", self.id))?;
        let text = self.config(shared, &state.display().to_string());
        self.folder.secret(&format!("{}.toml", self.id), &text, false)?;
        Ok(())
    }

    fn config(&self, shared: &Shared, state: &str) -> String {
        let Self { id, node, api, peer, database, web, app, .. } = self;
        let members: Vec<_> = shared.names.iter().map(|name| quoted(name)).collect();
        let options: Vec<_> = node.options().iter().map(|option| quoted(option)).collect();
        let (durability, rpo) = match shared.durability {
            DemoDurability::Sync => ("sync", "0s"),
            DemoDurability::Async => ("async", "5s"),
        };
        let replication = format!("user={REPLICATOR} passfile={}", shared.passfile.display());
        let connect = format!(
            "host={} port={} user={SUPERUSER} dbname=postgres",
            node.socket_dir().display(),
            node.port
        );
        format!(
            r#"# Written by `locum demo`.
cluster = "demo"
node = "{id}"
members = [{members}]
state_dir = {state}

[objectives]
rto = "5s"
rpo = "{rpo}"

[store]
embedded = {store}

[api]
listen = "{api}"
peer_listen = "{peer}"
token_file = {token}

[postgres]
data_dir = {data}
bin_dir = {bin}
connect = {connect}
address = "{address}"
replication = {replication}
options = [{options}]

[policy]
durability = "{durability}"
# The demo breaks the primary as often as it is asked to.
max_failovers = 100000

[[endpoint]]
name = "db"
target = "primary"
listen = "127.0.0.1:{database}"

[[endpoint]]
name = "web"
target = "app"
listen = "127.0.0.1:{web}"

[app]
health = "http://{app}/healthz"
"#,
            members = members.join(", "),
            state = quoted(state),
            store = quoted(&shared.store.to_string_lossy()),
            token = quoted(&shared.token_file.to_string_lossy()),
            data = quoted(&node.data_dir().to_string_lossy()),
            bin = quoted(&self.machine.bin_dir.to_string_lossy()),
            connect = quoted(&connect),
            address = node.address(),
            replication = quoted(&replication),
            options = options.join(", "),
        )
    }

    /// Starts `locum run`.
    pub(crate) fn start_member(&self) -> Result<()> {
        let mut command = processes::locum_program(&self.machine, self.folder.path());
        command.arg("run").arg("-c").arg(self.config_file());
        let running = Running::start(&format!("{}-member", self.id), command, &self.folder)?;
        *self.member.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }

    /// The member that was started last, unless it was killed on purpose.
    pub(crate) fn member(&self) -> Option<Running> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Kills everything of this host at once: PostgreSQL, guard, member, app server. How many processes that were.
    pub(crate) fn kill(&self) -> usize {
        let member = self.member.lock().unwrap_or_else(PoisonError::into_inner).take();
        let own = format!("/{}", self.id);
        let processes: Vec<_> = processes::of_folder(self.folder.path(), &self.machine)
            .into_iter()
            .filter(|process| {
                process.arguments.iter().any(|argument| argument.contains(&own))
                    || process.cwd.to_string_lossy().contains(&own)
            })
            .collect();
        for process in &processes {
            // One that ended meanwhile needs no killing.
            let _ = kill_process(process.pid, Signal::KILL);
        }
        member.iter().for_each(|member| member.signal(Signal::KILL));
        let app = self.kill_app();
        processes.len() + usize::from(app.is_some())
    }

    /// Starts the app server.
    pub(crate) fn start_app(&self, shared: &Shared) -> Result<()> {
        let mut command = processes::locum_program(&self.machine, self.folder.path());
        let database = format!(
            "host=127.0.0.1 port={} user={APP_ROLE} dbname={APP_DATABASE} application_name=app-{}",
            self.database, self.id
        );
        command.args(["demo-app", "--listen", &self.app, "--database", &database]);
        command.arg("--password-file").arg(&shared.app_password);
        let running = Running::start(&format!("{}-app", self.id), command, &self.folder)?;
        *self.app_server.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        Ok(())
    }

    /// Kills the app server; its process, for people.
    pub(crate) fn kill_app(&self) -> Option<i32> {
        let slot = self.app_server.lock().unwrap_or_else(PoisonError::into_inner);
        let running = slot.as_ref()?;
        running.signal(Signal::KILL);
        Some(running.pid.as_raw_nonzero().get())
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_written_is_one_that_a_member_takes() {
        let Ok(machine) = Machine::look() else { return };
        let folder = Folder::create(machine.account.as_ref()).expect("folder");
        let id = NodeId::new("seoul").expect("name");
        let host = Host::new(id, &[11, 12, 13, 14, 15, 16], &folder, &machine);
        host.node.prepare().expect("directories");
        std::fs::write(host.node.data_dir().join("PG_VERSION"), "15\n").expect("write");
        for durability in [DemoDurability::Sync, DemoDurability::Async] {
            let shared = Shared {
                token_file: folder.secret("token", "0123456789abcdef0123456789abcdef", false).expect("token"),
                passfile: folder.secret("pgpass", "*:*:*:replicator:x\n", true).expect("passfile"),
                app_password: folder.join("app-password"),
                store: folder.join("store.db"),
                names: vec!["seoul".into(), "tokyo".into()],
                durability,
            };
            host.write_config(&shared).expect("written");
            let loaded = crate::config::load(&crate::config::Sources::file(host.config_file()));
            let loaded = loaded.expect("a sound configuration");
            assert_eq!(loaded.config.endpoints.len(), 2);
            assert_eq!(loaded.config.policy.max_failovers, 100_000);
        }
        folder.remove().expect("removed");
    }
}
