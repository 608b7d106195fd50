//! The keys of `locum.toml`, section by section, with their defaults. `example.toml` says each in words.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use figment::{
    Figment,
    value::{Dict, Value},
};
use secrecy::SecretString;

use super::{
    Api, Config, Driven, Endpoint, Etcd, Origin, Postgres, Problem, Setting, Store, Witness, app, drivers,
    parse::{self, quote, quote_all, show_duration, show_size},
    reader::{Reader, Section},
};
use crate::{
    model::{
        AppTie, ClusterName, Driver, Durability, EndpointName, GuardMode, NodeId, Objectives, OnCrash, Policy,
    },
    postgres::SalvageLimits,
    tls,
};

/// Where the token is unless `api.token_file` says otherwise.
const TOKEN_FILE: &str = "/etc/locum/token";
/// The member's own state unless `state_dir` says otherwise.
const STATE_DIR: &str = "/var/lib/locum";
/// The public API: the port that users of other controllers have in their load balancers.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8008);
/// Traffic between members.
const PEER_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8009);
/// How long the leader's lease lasts without renewal.
const LEADER_TTL: Duration = Duration::from_secs(3);
/// How long a new connection may wait: longer than any failover that goes well.
const HOLD: Duration = Duration::from_secs(15);
/// How many may wait at one endpoint.
const MAX_HELD: usize = 1_000;
/// What is asked for where nobody says: service back within it.
const RTO: Duration = Duration::from_secs(5);
/// Shorter: a slow disk that syncs many files before recovery is taken for one that waits for nothing. Longer: a node that needs
/// a clone gets it later.
const START_TIMEOUT: Duration = Duration::from_secs(600);
/// Less: the WAL of a large loss is not kept whole. More: more of the disk that the state directory is on.
const SALVAGE_BYTES: u64 = 10 << 30;
/// Less: rows of a larger database cannot be copied out of what it gave up. More: it comes home later, by some seconds for
/// each GiB.
const SALVAGE_COPY: u64 = 1 << 30;
/// Shorter: gone before somebody has looked into it. Longer: kept although nobody will.
const SALVAGE_AGE: Duration = Duration::from_secs(90 * 86_400);

/// The API section, before its token has been read.
pub(super) struct ApiDraft {
    pub(super) api: Api,
    pub(super) token_file: PathBuf,
}

/// Everything that was read.
pub(super) struct Parsed {
    /// None if something that must be there is missing or bad.
    pub(super) config: Option<Config>,
    pub(super) token_file: PathBuf,
    pub(super) settings: Vec<Setting>,
    pub(super) problems: Vec<Problem>,
}

/// Reads all sections.
pub(super) fn parse(figment: Figment) -> Parsed {
    let mut reader = Reader::new(figment);
    let head = head(&mut reader);
    let objectives = objectives(&mut reader);
    let store = store(&mut reader);
    let ApiDraft { api, token_file } = api(&mut reader);
    let salvage = salvage(&mut reader);
    let postgres = postgres(&mut reader, salvage);
    let witness = witness(&mut reader);
    let (policy, leader_ttl, fence_command) = policy(&mut reader);
    let endpoints = endpoints(&mut reader);
    let app = app::read(&mut reader);
    let (settings, problems) = reader.finish();
    let config = || {
        let (cluster, node, members, state_dir) = head?;
        let (endpoints, mut driven) = endpoints?;
        let app = app?;
        driven.extend(app.as_ref().and_then(Driven::of_app));
        Some(Config {
            cluster,
            node,
            state_dir,
            objectives,
            store: store?,
            leader_ttl,
            members,
            api,
            postgres: postgres?,
            witness,
            policy,
            fence_command,
            endpoints,
            driven,
            app,
        })
    };
    Parsed { config: config(), token_file, settings, problems }
}

fn head(reader: &mut Reader) -> Option<(ClusterName, NodeId, Vec<NodeId>, PathBuf)> {
    let mut top = reader.top();
    let cluster = top.need(
        "cluster",
        "Name the service that is protected: cluster = \"orders\".",
        parse::name(ClusterName::new),
        |name| quote(name.as_str()),
    );
    let node = top.need(
        "node",
        "Name this host: node = \"seoul\". Every host has another name.",
        parse::name(NodeId::new),
        |name| quote(name.as_str()),
    );
    let read_members = |value: &Value| {
        let each = |item: &Value| parse::name(NodeId::new)(item);
        match value {
            Value::Array(_, items) => items.iter().map(each).collect(),
            other => parse::texts(other).map(|_| Vec::new()),
        }
    };
    let members = top.need(
        "members",
        "List every node of the cluster, this one among them: members = [\"seoul\", \"busan\"].",
        read_members,
        |members| quote_all(&members.iter().map(NodeId::as_str).collect::<Vec<_>>()),
    );
    let state_dir = top.or("state_dir", PathBuf::from(STATE_DIR), parse::path, show_path);
    top.finish();
    Some((cluster?, node?, members?, state_dir))
}

#[expect(clippy::ptr_arg, reason = "has the shape of the other `show` functions")]
fn show_path(path: &PathBuf) -> String {
    quote(&path.display().to_string())
}

fn objectives(reader: &mut Reader) -> Objectives {
    let mut section = reader.section("objectives");
    let rto = section.or("rto", RTO, parse::duration, show_duration);
    let rpo = section.or("rpo", Duration::ZERO, parse::duration, show_duration);
    section.finish();
    Objectives { rto_ms: rto.as_secs_f64() * 1000.0, rpo_ms: rpo.as_secs_f64() * 1000.0 }
}

/// None: it is missing or bad.
fn store(reader: &mut Reader) -> Option<Store> {
    let mut section = reader.section("store");
    let (has_file, has_etcd) = (section.has("embedded"), section.has("etcd"));
    let file = section.maybe("embedded", parse::path, show_path);
    let endpoints = section.maybe("etcd", parse::texts, |urls| quote_all(urls));
    let mut path = |key: &str| section.maybe(key, parse::path, show_path);
    let (ca_file, cert_file, key_file) =
        (path("etcd_ca_file"), path("etcd_cert_file"), path("etcd_key_file"));
    let password_file = path("etcd_password_file");
    let user = section.maybe("etcd_user", parse::text, |user| quote(user));
    section.finish();
    match (has_file, has_etcd) {
        (true, true) => {
            reader.problem(Problem::error(
                "store.etcd",
                "is given beside store.embedded: there is one place where members agree",
                "Keep etcd for members on several hosts, embedded for members on one machine.",
            ));
            None
        }
        (false, false) => {
            reader.problem(Problem::error(
                "store",
                "does not say where the members agree",
                "Give etcd = [\"https://10.0.0.1:2379\", ...] for members on several hosts, or \
                 embedded = \"/var/lib/locum/store.db\" for members on one machine.",
            ));
            None
        }
        (true, false) => {
            let keys = [
                ("etcd_ca_file", ca_file.is_some()),
                ("etcd_cert_file", cert_file.is_some()),
                ("etcd_key_file", key_file.is_some()),
                ("etcd_user", user.is_some()),
                ("etcd_password_file", password_file.is_some()),
            ];
            for (key, _) in keys.into_iter().filter(|(_, given)| *given) {
                reader.problem(Problem::error(
                    format!("store.{key}"),
                    "has no effect with store.embedded",
                    "Remove it, or give store.etcd instead of store.embedded.",
                ));
            }
            file.map(Store::Embedded)
        }
        (false, true) => {
            let endpoints = endpoints?;
            Some(Store::Etcd(Etcd { endpoints, ca_file, cert_file, key_file, user, password_file }))
        }
    }
}

/// Reads `[api]`, alone or with the rest.
pub(super) fn api(reader: &mut Reader) -> ApiDraft {
    let mut section = reader.section("api");
    let listen = section.or("listen", LISTEN, parse::listen, |at| quote(&at.to_string()));
    let peer_listen = section.or("peer_listen", PEER_LISTEN, parse::listen, |at| quote(&at.to_string()));
    let mut reached = |key: &str, from: &str, at: SocketAddr| {
        section.maybe(key, parse::address, |address| quote(address)).unwrap_or_else(|| {
            section.note(key, quote(&at.to_string()), Origin::Derived(format!("follows {from}")));
            at.to_string()
        })
    };
    let address = reached("address", "api.listen", listen);
    let peer_address = reached("peer_address", "api.peer_listen", peer_listen);
    let token_file = section.or("token_file", PathBuf::from(TOKEN_FILE), parse::path, show_path);
    let tls = tls(&mut section);
    section.finish();
    let token = SecretString::from("");
    ApiDraft { api: Api { listen, peer_listen, peer_address, address, token, tls }, token_file }
}

/// The keys of TLS between members: all of them, or none.
fn tls(section: &mut Section<'_>) -> Option<tls::Files> {
    const KEYS: [&str; 3] = ["tls_ca_file", "tls_cert_file", "tls_key_file"];
    if !KEYS.iter().any(|key| section.has(key)) {
        KEYS.iter().for_each(|key| section.know(key));
        return None;
    }
    let fix = "Members use TLS with all of tls_ca_file, tls_cert_file and tls_key_file, or not at all.";
    let [ca, cert, key] = KEYS.map(|key| section.need(key, fix, parse::path, show_path));
    Some(tls::Files { ca: ca?, cert: cert?, key: key? })
}

/// None: it is there and bad. `Some(None)`: this host has no PostgreSQL.
fn postgres(reader: &mut Reader, salvage: SalvageLimits) -> Option<Option<Postgres>> {
    let mut section = reader.section("postgres");
    if !section.is_present() {
        return Some(None);
    }
    let data_dir = section.need(
        "data_dir",
        "Name the data directory: data_dir = \"/var/lib/postgresql/15/main\".",
        parse::path,
        show_path,
    );
    let bin_dir = section.maybe("bin_dir", parse::path, show_path);
    let connect = section.need(
        "connect",
        "Say how the agent reaches its own server: connect = \"host=/var/run/postgresql user=postgres dbname=postgres\".",
        parse::text,
        |text| quote(&masked(text)),
    );
    let address = section.need(
        "address",
        "Say where other nodes reach this server: address = \"10.0.0.1:5432\".",
        parse::address,
        |text| quote(text),
    );
    let replication = section.need(
        "replication",
        "Name the role that streams, rewinds and clones: replication = \"user=replicator passfile=/etc/locum/pgpass\".",
        parse::text,
        |text| quote(&masked(text)),
    );
    let verify = section.maybe("verify", parse::text, |text| quote(&masked(text))).or_else(|| {
        let verify = format!("{} dbname=postgres", replication.as_deref()?);
        section.note(
            "verify",
            quote(&masked(&verify)),
            Origin::Derived("follows postgres.replication".into()),
        );
        Some(verify)
    });
    let options = section.or("options", Vec::new(), parse::texts, |texts| quote_all(texts));
    let no_failover = section.or("no_failover", false, parse::boolean, bool::to_string);
    let no_sync = section.or("no_sync", false, parse::boolean, bool::to_string);
    let no_clone = section.or("no_clone", false, parse::boolean, bool::to_string);
    let priority = section.or("priority", 0, parse::rank, usize::to_string);
    let clone_max_rate = section.maybe("clone_max_rate", parse::size, show_size);
    let start_timeout = section.or("start_timeout", START_TIMEOUT, parse::duration, show_duration);
    section.finish();
    Some(Some(Postgres {
        data_dir: data_dir?,
        // Empty: looked for on the host, once the data directory has said which version it needs.
        bin_dir: bin_dir.unwrap_or_default(),
        connect: connect?,
        address: address?,
        verify: verify?,
        replication: replication?,
        options,
        no_failover,
        no_sync,
        no_clone,
        priority,
        clone_max_rate,
        start_timeout,
        salvage,
    }))
}

fn salvage(reader: &mut Reader) -> SalvageLimits {
    let mut section = reader.section("salvage");
    let max_bytes = section.or("max_bytes", SALVAGE_BYTES, parse::size, show_size);
    let max_age = section.or("max_age", SALVAGE_AGE, parse::duration, show_duration);
    let max_copy = section.or("max_copy", SALVAGE_COPY, parse::size, show_size);
    section.finish();
    SalvageLimits { max_bytes, max_age, max_copy }
}

/// A connection string without the password that should not be in it.
pub(super) fn masked(connection: &str) -> String {
    let hide = |word: &str| match word.split_once('=') {
        Some((key, _)) if key.eq_ignore_ascii_case("password") => format!("{key}=***"),
        _ => word.to_owned(),
    };
    connection.split_whitespace().map(hide).collect::<Vec<_>>().join(" ")
}

/// A host without PostgreSQL. As whom it proves service, when it leads, nobody can guess.
fn witness(reader: &mut Reader) -> Option<Witness> {
    let mut section = reader.section("witness");
    let verify = section.is_present().then(|| {
        section.need(
            "verify",
            "Say as whom a commit through the endpoints proves service: verify = \"user=replicator dbname=postgres\".",
            parse::text,
            |text| quote(&masked(text)),
        )
    });
    section.finish();
    Some(Witness { verify: verify?? })
}

fn policy(reader: &mut Reader) -> (Policy, Duration, Option<PathBuf>) {
    let default = Policy::default();
    let mut section = reader.section("policy");
    let fence_command = section.maybe("fence_command", parse::path, show_path);
    let policy = Policy {
        durability: section
            .or("durability", default.durability, parse::durability, |d| quote(durability(*d))),
        max_data_loss: section.or("max_data_loss", default.max_data_loss, parse::size, show_size),
        detect: section.or("detect", default.detect, parse::duration, show_duration),
        hang: section.or("hang", default.hang, parse::duration, show_duration),
        on_crash: section.or("on_crash", default.on_crash, parse::on_crash, |on| quote(on_crash(*on))),
        write_wait: section.or("write_wait", default.write_wait, parse::duration, show_duration),
        app_grace: section.or("app_grace", default.app_grace, parse::duration, show_duration),
        app: section.or("app", default.app, parse::app_tie, |tie| quote(app_tie(*tie))),
        drain: section.or("drain", default.drain, parse::duration, show_duration),
        handover: section.or("handover", default.handover, parse::duration, show_duration),
        max_failovers: section.or("max_failovers", default.max_failovers, parse::count, usize::to_string),
        flap_window: section.or("flap_window", default.flap_window, parse::duration, show_duration),
        max_switchover_lag: section.or(
            "max_switchover_lag",
            default.max_switchover_lag,
            parse::size,
            show_size,
        ),
        max_slot_wal: section.or("max_slot_wal", default.max_slot_wal, parse::size, show_size),
        lease_ttl: section.or("lease_ttl", default.lease_ttl, parse::duration, show_duration),
        guard: section.or("guard", default.guard, parse::guard, |mode| quote(guard(*mode))),
        freeze_max: section.or("freeze_max", default.freeze_max, parse::duration, show_duration),
        veto_max: section.or("veto_max", default.veto_max, parse::duration, show_duration),
        rescue_max: section.or("rescue_max", default.rescue_max, parse::duration, show_duration),
        has_fence_command: fence_command.is_some(),
    };
    let leader_ttl = section.or("leader_ttl", LEADER_TTL, parse::duration, show_duration);
    section.finish();
    (policy, leader_ttl, fence_command)
}

const fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "sync",
        Durability::SyncStrict => "sync-strict",
        Durability::Async => "async",
    }
}

const fn app_tie(tie: AppTie) -> &'static str {
    match tie {
        AppTie::Tied => "tied",
        AppTie::Free => "free",
    }
}

const fn on_crash(on_crash: OnCrash) -> &'static str {
    match on_crash {
        OnCrash::Failover => "failover",
        OnCrash::Restart => "restart",
        OnCrash::Fastest => "fastest",
    }
}

const fn guard(mode: GuardMode) -> &'static str {
    match mode {
        GuardMode::Enforce => "enforce",
        GuardMode::Observe => "observe",
    }
}

/// An endpoint of one kind or the other.
enum Either {
    Proxy(Endpoint),
    Driven(Driven),
}

fn endpoints(reader: &mut Reader) -> Option<(Vec<Endpoint>, Vec<Driven>)> {
    let tables = reader.tables("endpoint");
    // All are read before any is given up, so that every problem is told.
    let read: Vec<_> = tables.into_iter().enumerate().map(|(i, dict)| endpoint(reader, i, dict)).collect();
    let (mut proxies, mut driven) = (Vec::new(), Vec::new());
    for each in read {
        match each? {
            Either::Proxy(endpoint) => proxies.push(endpoint),
            Either::Driven(endpoint) => driven.push(endpoint),
        }
    }
    Some((proxies, driven))
}

fn endpoint(reader: &mut Reader, index: usize, dict: Dict) -> Option<Either> {
    let name = dict.get("name").and_then(Value::as_str);
    let label = name.map_or_else(|| format!("#{}", index + 1), str::to_owned);
    let mut section = reader.table("endpoint", &label, dict);
    let name = section
        .need("name", "Name it: name = \"db\".", parse::name(EndpointName::new), |name| quote(name.as_str()));
    let driver = section.or("driver", Driver::Proxy, drivers::driver, |driver| quote(driver.as_str()));
    let target = section.need(
        "target",
        "Say what it leads to: target = \"primary\", \"standbys\" or \"app\".",
        parse::target,
        |kind| quote(kind.as_str()),
    );
    if driver != Driver::Proxy {
        return drivers::read(section, driver, (name, target)).map(Either::Driven);
    }
    let listen = section.need(
        "listen",
        "Say where clients connect: listen = \"0.0.0.0:6432\".",
        parse::listen,
        |at| quote(&at.to_string()),
    );
    let hold = section.or("hold", HOLD, parse::duration, show_duration);
    let max_held = section.or("max_held", MAX_HELD, parse::count, usize::to_string);
    let (tuning, target) = super::endpoint::read(&mut section, target);
    section.finish();
    Some(Either::Proxy(Endpoint { name: name?, target: target?, listen: listen?, max_held, hold, tuning }))
}
