//! A live pair: two real PostgreSQL on loopback and two `locum run` members as processes of their own, as a user has
//! them. It decides nothing and waits for conditions only.
//!
//! Dropping it, also in a panic, ends every process that works in its folders, and no other.

mod member;
mod process;
mod session;
mod status;
mod third;
mod writer;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use locum::model::{
    Durability, EndpointKind, Lsn, Mode, NodeStatus, Operation, OperationState, Role, Snapshot,
};

use crate::fixture::{Node, Pair, SOON, free_ports, until};

pub(crate) use member::Member;
pub(crate) use process::{child, family, of_folder, send};
pub(crate) use session::{is_parked, session};
pub(crate) use status::{Api, Ended};
pub(crate) use third::{THIRD, Third, joined, well};
pub(crate) use writer::{Failures, Writer};

/// The names of the two nodes. The first one begins as the primary.
pub(crate) const NAMES: [&str; 2] = ["alpha", "beta"];
/// What control calls must show.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Between two looks at what a member shows.
const LOOK: Duration = Duration::from_millis(10);
/// A busy machine may take this long over a commit without a test failing over for it.
const PATIENT: &str = "policy.hang=10s";

/// What a pair is to be like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    durability: Option<&'static str>,
    set: Vec<String>,
    apps: Vec<String>,
    /// More of each node's file.
    more: [String; 2],
    /// More of both servers' `postgresql.conf`.
    server: String,
}

impl Wish {
    /// With this durability.
    pub(crate) fn durability(word: &'static str) -> Self {
        Self { durability: Some(word), ..Self::default() }
    }

    /// With this key, over everything else.
    pub(crate) fn set(mut self, key_and_value: &str) -> Self {
        self.set.push(key_and_value.to_owned());
        self
    }

    /// With more in the files, one text per node.
    pub(crate) fn more(mut self, more: [String; 2]) -> Self {
        self.more = more;
        self
    }

    /// With these settings of both servers, as in `postgresql.conf`.
    pub(crate) fn server(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.server);
        self
    }

    /// With app servers whose health paths these are, one per node.
    pub(crate) fn apps(mut self, health: [String; 2]) -> Self {
        self.apps = health.to_vec();
        self
    }
}

/// One node: its member and its PostgreSQL.
pub(crate) struct Host {
    /// The member's process.
    pub(crate) member: Member,
    /// The PostgreSQL.
    pub(crate) node: Node,
    /// Its public API.
    pub(crate) api: Api,
    /// The port of it.
    pub(crate) public: u16,
    /// Where clients of the database connect.
    pub(crate) database: u16,
    /// Where clients of the app server connect.
    pub(crate) web: u16,
}

impl Host {
    /// Puts a member beside a PostgreSQL.
    fn beside(node: Node, members: &[&str], shared: &Path, wish: &Wish, app: Option<&String>) -> Self {
        let [public, peer, database, web] = free_ports();
        let file = shared.join(format!("{}.toml", node.name));
        let mut text = config(&node, members, shared, [public, peer, database, web], wish, app);
        if let Some(index) = NAMES.iter().position(|name| *name == node.name) {
            text.push_str(&wish.more[index]);
        }
        write(&file, &text);
        let log = shared.join(format!("{}.log", node.name));
        let mut set = vec![PATIENT.to_owned()];
        set.extend(wish.set.clone());
        let member = Member::new(node.name, file, log, set);
        Self { member, node, api: Api::new(public), public, database, web }
    }

    /// Ends what its member has begun: only the pair's own hosts are looked after.
    pub(crate) fn end(&mut self) {
        self.member.kill();
        for pid in of_folder(self.node.folder()) {
            send(pid, "KILL");
        }
    }
}

/// The pair.
pub(crate) struct LivePair {
    /// `alpha` and `beta`.
    pub(crate) hosts: [Host; 2],
    /// The public APIs of hosts that joined later: one of them may lead.
    further: Vec<Api>,
    shared: tempfile::TempDir,
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
}

impl LivePair {
    /// A synchronous pair, well and with every commit promised to be on the standby.
    pub(crate) async fn new() -> Self {
        Self::wished(&Wish::default()).await
    }

    /// The same, with what is wished.
    pub(crate) async fn wished(wish: &Wish) -> Self {
        let mut pair = Self::prepared(wish).await;
        pair.start_all().await;
        pair
    }

    /// Starts both members, until all is well.
    pub(crate) async fn start_all(&mut self) {
        for host in &mut self.hosts {
            host.member.start();
        }
        self.whole(0).await;
        // Under the name that its member gave it: the connection from before that is no longer there.
        let adopted = "SELECT count(*) = 1 AND bool_and(application_name LIKE 'locum%' AND state = 'streaming') \
                       FROM pg_stat_replication";
        self.host(self.primary().await).node.becomes(adopted, "t").await;
    }

    /// PostgreSQL runs and streams; no member was started yet.
    pub(crate) async fn prepared(wish: &Wish) -> Self {
        let Pair { primary, standby } = Pair::with(16, &wish.server).await;
        Self::around([primary, standby], wish)
    }

    /// Puts members beside two PostgreSQL, without starting them.
    pub(crate) fn around(nodes: [Node; 2], wish: &Wish) -> Self {
        let shared =
            tempfile::Builder::new().prefix("locum-test-").tempdir_in("/tmp").expect("a folder under /tmp");
        write(&shared.path().join("token"), TOKEN);
        fs::create_dir(shared.path().join("store")).expect("the store's folder");
        let mut apps = wish.apps.iter();
        let hosts = nodes.map(|node| Host::beside(node, &NAMES, shared.path(), wish, apps.next()));
        Self { hosts, further: Vec::new(), shared }
    }

    /// A further host with the same store and token, whose member was not started.
    pub(crate) fn further(&mut self, node: Node, wish: &Wish) -> Host {
        let [alpha, beta] = NAMES;
        let names = [alpha, beta, node.name];
        let host = Host::beside(node, &names, self.shared.path(), wish, None);
        self.further.push(host.api.clone());
        host
    }

    /// A host by its name.
    pub(crate) fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.node.name == name).expect("a host of that name")
    }

    /// The same, to be changed.
    pub(crate) fn host_mut(&mut self, name: &str) -> &mut Host {
        self.hosts.iter_mut().find(|host| host.node.name == name).expect("a host of that name")
    }

    /// The one that is not `name`.
    pub(crate) fn other(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.node.name != name).expect("another host")
    }

    /// The configuration file of a node.
    pub(crate) fn config_file(&self, name: &str) -> PathBuf {
        self.shared.path().join(format!("{name}.toml"))
    }

    /// The cluster as its leader shows it; None while there is none, or it does not answer.
    pub(crate) async fn leader(&self) -> Option<Snapshot> {
        self.leading().await.map(|(_, snapshot)| snapshot)
    }

    async fn leading(&self) -> Option<(&Api, Snapshot)> {
        for api in self.apis() {
            if let Some(snapshot) = api.status().await
                && snapshot.leader.as_ref() == Some(&snapshot.node)
            {
                return Some((api, snapshot));
            }
        }
        None
    }

    fn apis(&self) -> impl Iterator<Item = &Api> {
        self.hosts.iter().map(|host| &host.api).chain(&self.further)
    }

    /// Waits until the leader shows what is wanted.
    pub(crate) async fn shows(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let deadline = Instant::now() + SOON;
        let mut last = None;
        loop {
            match self.leader().await {
                Some(snapshot) if wanted(&snapshot) => return snapshot,
                seen => last = seen.or(last),
            }
            assert!(Instant::now() < deadline, "not within {SOON:?}: {what}; the last was {last:#?}");
            sleep(LOOK).await;
        }
    }

    /// Waits until all is well after so many promotions: one node serves, the other one streams, what is promised is in
    /// force, every endpoint leads to the primary, and nothing is going on.
    pub(crate) async fn whole(&self, promotions: u64) -> Snapshot {
        let what = format!("all is well after {promotions} promotions");
        let found = self.shows(&what, is_whole).await;
        let epoch = found.intent.as_ref().map(|intent| intent.epoch.0);
        assert_eq!(epoch, Some(1 + promotions), "so many promotions: {:#?}", found.last_incident);
        found
    }

    /// Waits until all is well with `name` as the primary, after however many promotions.
    pub(crate) async fn whole_again(&self, name: &str) -> Snapshot {
        self.shows(&format!("all is well with {name}"), |s| is_whole(s) && primary_of(s) == Some(name)).await
    }

    /// Waits until the operation is over; how it ended, and what was said.
    pub(crate) async fn over(&self, operation: &str) -> Operation {
        let ended = |operation: &Operation| {
            !matches!(operation.state, OperationState::Pending | OperationState::Running)
        };
        until("the end of the operation", || async {
            for api in self.apis() {
                let found = api.status().await.and_then(|snapshot| {
                    snapshot.operations.into_iter().find(|each| each.id == operation && ended(each))
                });
                if found.is_some() {
                    return found;
                }
            }
            None
        })
        .await
    }

    /// The name of the declared primary.
    pub(crate) async fn primary(&self) -> &'static str {
        let snapshot = self.shows("a primary", |s| primary_of(s).is_some()).await;
        let name = primary_of(&snapshot).expect("a primary").to_owned();
        self.host(&name).node.name
    }

    /// A control call to whoever leads. Returns the operation's identifier.
    pub(crate) async fn ask(&self, path: &str, body: serde_json::Value) -> String {
        until(path, || async {
            let (leader, _) = self.leading().await?;
            let (code, answer) = leader.post(path, Some(TOKEN), &body).await?;
            // 409: leadership moved a moment ago.
            assert!(code == 202 || code == 409, "{path}: {code} {answer}");
            (code == 202).then(|| answer["operation"].as_str().expect("an operation").to_owned())
        })
        .await
    }

    /// A control call that is to change nothing, to whoever leads. None: nobody does, or it does not answer.
    pub(crate) async fn dry_run(&self, path: &str, body: &serde_json::Value) -> Option<serde_json::Value> {
        let (leader, _) = self.leading().await?;
        let (code, said) = leader.post(path, Some(TOKEN), body).await?;
        (code == 200).then_some(said)
    }

    /// Every reason against a hand-over to that node.
    pub(crate) async fn blockers(&self, to: &str) -> Vec<String> {
        let body = serde_json::json!({ "to": to, "dry_run": true });
        let said = until("a dry run", || self.dry_run("/v1/switchover", &body)).await;
        serde_json::from_value(said["blockers"].clone()).expect("a list of reasons")
    }

    /// Hands over to that node, once there is no reason against it: the sync set may be changing at the moment.
    pub(crate) async fn hand_over(&self, to: &str) {
        until("no reason against a hand-over", || async { self.blockers(to).await.is_empty().then_some(()) })
            .await;
        let operation = self.ask("/v1/switchover", serde_json::json!({ "to": to })).await;
        let ended = self.over(&operation).await;
        assert_eq!(ended.state, OperationState::Done, "{ended:?}");
    }

    /// The standby gets nothing more of this primary's WAL, and lacks more than so many bytes of what the writers go on
    /// to write.
    pub(crate) async fn falls_behind(&self, primary: &str, bytes: u64) {
        let node = &self.host(primary).node;
        send(child(&node.config.data_dir, "walsender"), "STOP");
        // What was sent by now may still arrive; nothing that is written from now on is in any buffer.
        let position = async |function: &str| {
            let lsn = node.ask(&format!("SELECT {function}()")).await;
            lsn.parse::<Lsn>().expect("a position")
        };
        let sent = position("pg_current_wal_insert_lsn").await;
        until("a standby that lacks WAL", || async {
            let flushed = position("pg_current_wal_flush_lsn").await;
            (flushed.bytes_since(sent) > bytes).then_some(())
        })
        .await;
    }

    /// Writers through both endpoints.
    pub(crate) async fn write(&self) -> Writer {
        Writer::start(&self.hosts.each_ref().map(|host| host.database)).await
    }

    /// What must be true at the end of every test: the pair is whole after exactly so many promotions, PostgreSQL says
    /// so too, every acknowledged row is on the primary, members end when they are told to and PostgreSQL outlives
    /// them, and nothing of a repair is left lying about.
    pub(crate) async fn ends(self, writer: Writer, promotions: u64) -> Snapshot {
        let ended = self.ends_with_loss(writer, promotions).await;
        assert_eq!(ended.missing, 0, "acknowledged rows are missing");
        ended.snapshot
    }

    /// The same where rows may be lost: tells how many.
    pub(crate) async fn ends_with_loss(mut self, writer: Writer, promotions: u64) -> Ended {
        writer.goes_on().await;
        let snapshot = self.whole(promotions).await;
        let acknowledged = writer.finish().await;
        let name = self.primary().await;
        let primary = &self.host(name).node;
        let missing = crate::fixture::missing(primary, &acknowledged).await;
        let timeline = primary.ask("SELECT timeline_id FROM pg_control_checkpoint()").await;
        assert_eq!(timeline, (1 + promotions).to_string(), "every promotion begins one timeline");
        self.stops(name).await;
        Ended { snapshot, missing }
    }

    /// Members end when they are told to and PostgreSQL outlives them; nothing is left lying about.
    async fn stops(&mut self, primary: &str) {
        for host in &mut self.hosts {
            host.member.terminate().await;
        }
        // The standby first: a primary waits for its standbys when it stops.
        let (standby, primary) = (&self.other(primary).node, &self.host(primary).node);
        for node in [standby, primary] {
            let postmaster = node.instance.find().await.expect("a look for the postmaster");
            let postmaster = postmaster.unwrap_or_else(|| panic!("{} ended with its member", node.name));
            node.instance.stop_fast(&postmaster, SOON).await.expect("PostgreSQL stops");
            // Its guard, which has nothing to guard and nobody to serve, ends by itself a moment later.
            until("the end of every process of its folder", || {
                let left = of_folder(node.folder());
                async move { left.is_empty().then_some(()) }
            })
            .await;
            let entries = fs::read_dir(node.folder()).expect("the node's folder");
            let left: Vec<_> = entries
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
                .filter(|name| !["data", "run", "state"].contains(&name.as_str()))
                // What a clone put aside stays until the next one, on purpose.
                .filter(|name| !name.ends_with(locum::postgres::OLD_SUFFIX))
                .collect();
            assert!(left.is_empty(), "left beside {}: {left:?}", node.name);
        }
    }
}

impl Drop for LivePair {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for host in &mut self.hosts {
            host.member.kill();
            if failed {
                host.member.show_log();
            }
        }
        // What members had begun and nobody waits for now. PostgreSQL itself is ended with its `Node`.
        for host in &self.hosts {
            for pid in of_folder(host.node.folder()) {
                send(pid, "KILL");
            }
        }
    }
}

/// The declared primary.
pub(crate) fn primary_of(snapshot: &Snapshot) -> Option<&str> {
    snapshot.intent.as_ref()?.primary.as_ref().map(|node| node.as_str())
}

/// What a snapshot says of a node.
pub(crate) fn status_of<'a>(snapshot: &'a Snapshot, name: &str) -> &'a NodeStatus {
    snapshot.nodes.iter().find(|status| status.node.as_str() == name).expect("a node of that name")
}

/// True if one of the findings has this tag, as in the JSON.
pub(crate) fn finds(snapshot: &Snapshot, tag: &str) -> bool {
    snapshot
        .findings
        .iter()
        .any(|found| serde_json::to_value(&found.finding).expect("JSON")["finding"].as_str() == Some(tag))
}

/// True if there is no finding but of what a guard may not have on this machine, which differs.
pub(crate) fn is_quiet(snapshot: &Snapshot) -> bool {
    snapshot.findings.iter().all(|found| matches!(found.finding, locum::model::Finding::GuardLacks { .. }))
}

/// Why the leader does what it does, in one text.
pub(crate) fn plan_of(snapshot: &Snapshot) -> String {
    snapshot.plan.join("\n")
}

/// True if all is well and nothing is going on.
pub(crate) fn is_whole(snapshot: &Snapshot) -> bool {
    let Some(intent) = &snapshot.intent else { return false };
    let Some(primary) = &intent.primary else { return false };
    let promised = intent.durability == Durability::Async || intent.sync.len() == 1;
    let settled = intent.sync == intent.sync_next && intent.handover.is_none() && !intent.paused;
    let nodes = snapshot.nodes.len() == 2
        && snapshot.nodes.iter().all(|status| match status.node == *primary {
            true => status.role == Role::Primary && status.serving,
            false => status.role == Role::Standby && status.streaming && status.lag_bytes.is_some(),
        });
    let is_ordered = |kind| matches!(kind, EndpointKind::Primary | EndpointKind::App);
    let endpoints = snapshot.endpoints.len() >= 2
        && snapshot.endpoints.iter().all(|endpoint| endpoint.mode == Mode::Open)
        // One that balances is ordered by nobody.
        && snapshot.endpoints.iter().all(|e| !is_ordered(e.kind) || e.stamp.epoch == intent.epoch);
    // A sender that has just connected has not heard yet what its standby has.
    let known = snapshot.rpo.as_ref().is_some_and(|rpo| rpo.bytes.is_some());
    promised && settled && nodes && endpoints && known && snapshot.incident.is_none()
}

fn config(
    node: &Node,
    members: &[&str],
    shared: &Path,
    ports: [u16; 4],
    wish: &Wish,
    app: Option<&String>,
) -> String {
    let quoted = |text: &str| format!("\"{text}\"");
    let [public, peer, database, web] = ports;
    let pg = &node.config;
    let durability = wish.durability.unwrap_or("sync");
    let rpo = if durability == "async" { "5s" } else { "0s" };
    let options: Vec<_> = pg.options.iter().map(|option| quoted(option)).collect();
    let app = app.map_or(String::new(), |health| {
        format!(
            "[[endpoint]]\nname = \"web\"\ntarget = \"app\"\nlisten = \"127.0.0.1:{web}\"\n\
             [app]\nhealth = \"{health}\"\ninterval = \"50ms\"\n"
        )
    });
    format!(
        r#"cluster = "pairs"
node = "{name}"
members = {members:?}
state_dir = "{state}"
[objectives]
rto = "5s"
rpo = "{rpo}"
[store]
embedded = "{shared}/store/store.db"
[api]
listen = "127.0.0.1:{public}"
peer_listen = "127.0.0.1:{peer}"
token_file = "{shared}/token"
[postgres]
data_dir = "{data}"
bin_dir = "{bin}"
connect = "{connect}"
address = "{address}"
replication = "{replication}"
options = [{options}]
[policy]
durability = "{durability}"
max_failovers = 1000
[[endpoint]]
name = "db"
target = "primary"
listen = "127.0.0.1:{database}"
{app}"#,
        name = node.name,
        state = node.state_dir.display(),
        shared = shared.display(),
        data = pg.data_dir.display(),
        bin = pg.bin_dir.display(),
        connect = pg.connect,
        address = pg.address,
        replication = pg.replication,
        options = options.join(", "),
    )
}
