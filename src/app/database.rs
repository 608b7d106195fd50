//! Where an app server finds its database: handed to it by the environment of its commands, and by a file.
//!
//! The file has a line `NAME=value` for each variable, as systemd's `EnvironmentFile` and shells read it, and is replaced
//! whole whenever another primary is declared.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc};

use tokio::sync::watch;

use crate::model::{ClusterName, NodeId, Snapshot, Stamp, Version};

/// Where the database is, in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The epoch, as a stamp without version.
    pub stamp: Stamp,
    cluster: ClusterName,
    primary: NodeId,
    /// Where its PostgreSQL is reached, `host:port`.
    address: String,
    /// Where the app is to connect, `host:port`.
    connect: String,
}

impl Database {
    /// What a member shows. `through`: where the endpoint of this host listens that leads to the primary; without one
    /// the app connects to the primary itself. None: nobody is declared the primary, or it was never heard.
    #[must_use]
    pub fn of(snapshot: &Snapshot, through: Option<SocketAddr>) -> Option<Self> {
        let intent = snapshot.intent.as_ref()?;
        let primary = intent.primary.as_ref()?;
        let address = snapshot.nodes.iter().find(|node| node.node == *primary)?.database.clone()?;
        Some(Self {
            stamp: Stamp { version: Version(0), ..intent.stamp() },
            cluster: snapshot.cluster.clone(),
            primary: primary.clone(),
            connect: through.map_or_else(|| address.clone(), |at| reached_at(at).to_string()),
            address,
        })
    }

    /// The environment that says so.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 6] {
        let (host, port) = self.connect.rsplit_once(':').unwrap_or((&self.connect, ""));
        [
            ("LOCUM_CLUSTER", self.cluster.to_string()),
            ("LOCUM_EPOCH", self.stamp.epoch.to_string()),
            ("LOCUM_PRIMARY", self.primary.to_string()),
            ("LOCUM_PRIMARY_ADDRESS", self.address.clone()),
            ("PGHOST", host.trim_matches(['[', ']']).to_owned()),
            ("PGPORT", port.to_owned()),
        ]
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        let lines: String =
            self.variables().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let beside = file.with_added_extension("new");
        fs::write(&beside, lines)?;
        fs::rename(beside, file)
    }
}

/// Where a program of this host reaches what listens there.
fn reached_at(listen: SocketAddr) -> SocketAddr {
    match listen {
        SocketAddr::V4(at) if at.ip().is_unspecified() => ([127, 0, 0, 1], at.port()).into(),
        SocketAddr::V6(at) if at.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, at.port()).into(),
        at => at,
    }
}

/// Keeps the file, if there is one, and then `told`, at what the member shows, until it ends.
pub async fn follow_database(
    file: Option<&Path>,
    through: Option<SocketAddr>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    told: watch::Sender<Option<Database>>,
) {
    let mut failed = None;
    loop {
        let now = Database::of(&snapshots.borrow_and_update(), through);
        if let Some(database) = now.filter(|now| told.borrow().as_ref() != Some(now)) {
            // A line or two: nothing that a disk which works would take long for.
            match file.map_or(Ok(()), |file| database.write(file)) {
                Ok(()) => failed = None,
                Err(error) => {
                    let why = error.to_string();
                    if failed.as_ref() != Some(&why) {
                        tracing::warn!(file = ?file, %error, "the app server's file cannot be written");
                    }
                    failed = Some(why);
                }
            }
            if failed.is_none() {
                told.send_replace(Some(database));
            }
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}
