//! The keys of an `[[endpoint]]` that is not the built-in proxy, and what can be wrong with them.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::value::Value;

use super::{
    APP_SERVER, App, Problem,
    parse::{self, quote, quote_all, show_duration},
    reader::Section,
};
use crate::model::{Driver, EndpointKind, EndpointName};

/// Shorter: a busy machine fails tries that would have been good. Longer: one that hangs is tried again later.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A script may ask a cloud's API and wait for it.
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter: a service that restarts meanwhile is not told. Longer: the report of an incident stays open for it.
const GIVE_UP: Duration = Duration::from_secs(60);
/// As long as a switchover may take by default until it is rolled back.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// An endpoint that somebody else than the built-in proxy brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driven {
    /// Its name.
    pub name: EndpointName,
    /// Whose clients it leads.
    pub target: EndpointKind,
    /// How long one try may take.
    pub timeout: Duration,
    /// For how long an order is tried again until that is given up and told.
    pub give_up: Duration,
    /// Who does it.
    pub by: DrivenBy,
}

/// Who carries out the orders, with what that needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrivenBy {
    /// A PgBouncer's admin console.
    Pgbouncer(Pgbouncer),
    /// An IP address on the host of whoever clients are to be led to.
    Vip(Vip),
    /// A signed POST.
    Webhook(Webhook),
    /// A program, by its path.
    Exec(PathBuf),
    /// The app server of this host: its commands make it the active one, or a passive one.
    App,
}

/// A PgBouncer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pgbouncer {
    /// How its console is reached: libpq keywords without password.
    pub console: String,
    /// The file with the password, on one line.
    pub password_file: Option<PathBuf>,
    /// Its databases, as PgBouncer names them.
    pub databases: Vec<String>,
    /// The include file that says where they are. None: PgBouncer connects to a Locum proxy, and nothing changes.
    pub file: Option<PathBuf>,
    /// What else a line of that file says.
    pub options: String,
    /// How long its clients may be made to wait in a switchover.
    pub pause_max: Duration,
}

/// A virtual IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
}

/// A virtual IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// What moves.
    pub address: Address,
    /// On which interface.
    pub interface: String,
    /// After how long the rightful owner takes it although somebody else answers for it. None: never.
    pub claim_after: Option<Duration>,
}

/// A service that is told by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where.
    pub url: reqwest::Url,
    /// The file with the key that requests are signed with.
    pub secret_file: PathBuf,
}

impl Driven {
    /// What runs the commands of this host's app server. None: there are none.
    pub(super) fn of_app(app: &App) -> Option<Self> {
        if !app.commands.any() {
            return None;
        }
        Some(Self {
            name: EndpointName::new(APP_SERVER).ok()?,
            target: EndpointKind::App,
            timeout: app.commands.timeout,
            give_up: app.commands.timeout.max(GIVE_UP),
            by: DrivenBy::App,
        })
    }

    /// Which driver.
    #[must_use]
    pub const fn driver(&self) -> Driver {
        match self.by {
            DrivenBy::Pgbouncer(_) => Driver::Pgbouncer,
            DrivenBy::Vip(_) => Driver::Vip,
            DrivenBy::Webhook(_) => Driver::Webhook,
            DrivenBy::Exec(_) => Driver::Exec,
            DrivenBy::App => Driver::App,
        }
    }
}

/// Which driver a value names.
pub(super) fn driver(value: &Value) -> Result<Driver, String> {
    const ALL: [Driver; 5] = [Driver::Proxy, Driver::Pgbouncer, Driver::Vip, Driver::Webhook, Driver::Exec];
    let words: Vec<_> = ALL.iter().map(|driver| (driver.as_str(), *driver)).collect();
    parse::choice(value, &words)
}

/// Reads the keys of a driver, after those that all endpoints have. None: something that must be there is missing or bad.
pub(super) fn read(
    mut section: Section<'_>,
    driver: Driver,
    (name, target): (Option<EndpointName>, Option<EndpointKind>),
) -> Option<Driven> {
    let usual = if driver == Driver::Exec { EXEC_TIMEOUT } else { TIMEOUT };
    let timeout = section.or("timeout", usual, parse::duration, show_duration);
    let give_up = section.or("give_up", GIVE_UP, parse::duration, show_duration);
    let by = match driver {
        // No word of the configuration means the app server's commands.
        Driver::Proxy | Driver::App => None,
        Driver::Pgbouncer => pgbouncer(&mut section).map(DrivenBy::Pgbouncer),
        Driver::Vip => vip(&mut section).map(DrivenBy::Vip),
        Driver::Webhook => webhook(&mut section).map(DrivenBy::Webhook),
        Driver::Exec => section
            .need(
                "command",
                "Name the program that leads clients there: command = \"/etc/locum/repoint\".",
                parse::path,
                show_path,
            )
            .map(DrivenBy::Exec),
    };
    section.finish();
    Some(Driven { name: name?, target: target?, timeout, give_up, by: by? })
}

fn pgbouncer(section: &mut Section<'_>) -> Option<Pgbouncer> {
    let console = section.need(
        "console",
        "Say how PgBouncer's console is reached: console = \"host=127.0.0.1 port=6432 user=locum\"; the user is one of \
         its admin_users.",
        parse::text,
        |text| quote(&super::sections::masked(text)),
    );
    let password_file = section.maybe("password_file", parse::path, show_path);
    let databases = section.need(
        "databases",
        "List the databases, as PgBouncer names them, that lead to the primary: databases = [\"orders\"].",
        parse::texts,
        |texts| quote_all(texts),
    );
    let file = section.maybe("file", parse::path, show_path);
    let options = section.or("options", String::new(), words, |text| quote(text));
    let pause_max = section.or("pause_max", PAUSE_MAX, parse::duration, show_duration);
    Some(Pgbouncer { console: console?, password_file, databases: databases?, file, options, pause_max })
}

/// A text that may be empty.
fn words(value: &Value) -> Result<String, String> {
    match value {
        Value::String(_, text) => Ok(text.clone()),
        other => parse::text(other),
    }
}

fn vip(section: &mut Section<'_>) -> Option<Vip> {
    let address = section.need(
        "address",
        "Give the address with its prefix length: address = \"10.0.0.100/24\".",
        cidr,
        |address| quote(&format!("{}/{}", address.ip, address.prefix)),
    );
    let interface = section.need(
        "interface",
        "Name the network interface it lives on: interface = \"eth0\".",
        parse::text,
        |text| quote(text),
    );
    let claim_after = section.maybe("claim_after", parse::duration, show_duration);
    Some(Vip { address: address?, interface: interface?, claim_after })
}

fn cidr(value: &Value) -> Result<Address, String> {
    let text = parse::text(value)?;
    let parsed = text.split_once('/').and_then(|(ip, prefix)| {
        let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let usable = !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
        (usable && (1..=longest).contains(&prefix)).then_some(Address { ip, prefix })
    });
    parsed.ok_or_else(|| {
        format!(
            "is {text:?}, which is no address that can move between hosts; write it with its prefix length, for example \
             \"10.0.0.100/24\""
        )
    })
}

fn webhook(section: &mut Section<'_>) -> Option<Webhook> {
    let url = section.need(
        "url",
        "Say where the request goes: url = \"https://dns.example.com/locum\".",
        |value| {
            let text = parse::text(value)?;
            let url = reqwest::Url::parse(&text).ok();
            url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                .ok_or_else(|| format!("is {text:?}, which is no URL; begin it with https:// or http://"))
        },
        |url| quote(&shown(url)),
    );
    let secret_file = section.need(
        "secret_file",
        "Name the file with the key that requests are signed with: secret_file = \"/etc/locum/webhook-secret\".",
        parse::path,
        show_path,
    );
    Some(Webhook { url: url?, secret_file: secret_file? })
}

/// A URL without what may be secret in it.
#[must_use]
pub fn shown(url: &reqwest::Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[expect(clippy::ptr_arg, reason = "has the shape of the other `show` functions")]
fn show_path(path: &PathBuf) -> String {
    quote(&path.display().to_string())
}

/// What the values say about each other.
pub(super) fn check(driven: &Driven, handover: Duration, problems: &mut Vec<Problem>) {
    let key = |key: &str| format!("endpoint[{}].{key}", driven.name);
    let mut error = |name: &str, what: String, fix: &str| problems.push(Problem::error(key(name), what, fix));
    if driven.timeout.is_zero() {
        error("timeout", "is zero, so nothing could ever be done".into(), "Set it to \"2s\", for example.");
    }
    if driven.give_up < driven.timeout {
        error("give_up", "is shorter than timeout: not even one try could end".into(), "Lengthen it.");
    }
    if driven.target == EndpointKind::Standbys {
        let what = format!("is \"standbys\", and {} leads to one place only", driven.driver().as_str());
        error("target", what, "Use the proxy for that: it balances. Or write target = \"primary\".");
    }
    match &driven.by {
        DrivenBy::Pgbouncer(pgbouncer) => {
            if driven.target == EndpointKind::App {
                error(
                    "target",
                    "is \"app\", but PgBouncer speaks to PostgreSQL only".into(),
                    "Write target = \"primary\".",
                );
            }
            match pgbouncer.console.parse::<tokio_postgres::Config>() {
                Err(what) => error(
                    "console",
                    format!("is no connection string: {}", super::check::chain(&what)),
                    "Write it as \"host=127.0.0.1 port=6432 user=locum\".",
                ),
                Ok(parsed) if parsed.get_password().is_some() => error(
                    "console",
                    "holds a password, which does not belong into this file".into(),
                    "Put it into a file and name that: password_file = \"/etc/locum/pgbouncer-password\".",
                ),
                Ok(parsed) if parsed.get_hosts().is_empty() || parsed.get_user().is_none() => error(
                    "console",
                    "lacks host= or user=".into(),
                    "Write it as \"host=127.0.0.1 port=6432 user=locum\".",
                ),
                Ok(_) => {}
            }
            if pgbouncer.databases.is_empty() {
                error("databases", "lists none".into(), "List the databases that lead to the primary.");
            }
            // What a key of PgBouncer's own file may consist of.
            let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
            if let Some(name) = pgbouncer.databases.iter().find(|name| !name.chars().all(plain)) {
                error(
                    "databases",
                    format!("holds {name:?}, which PgBouncer could not have in its file"),
                    "Use letters, digits, '_', '-' and '.'; \"*\" cannot be paused, so list the databases.",
                );
            }
            if pgbouncer.options.contains(['\n', '\r']) {
                error("options", "holds a line break".into(), "Write all options on one line.");
            }
            if !pgbouncer.options.is_empty() && pgbouncer.file.is_none() {
                error("options", "has no effect without file".into(), "Remove it, or add file.");
            }
            if pgbouncer.pause_max < handover {
                let what = "is shorter than policy.handover: PgBouncer would resume in the middle of a slow switchover";
                problems.push(Problem::warning(
                    key("pause_max"),
                    what,
                    "Lengthen pause_max, or shorten policy.handover.",
                ));
            }
        }
        DrivenBy::Webhook(webhook) => {
            let host = webhook.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
            if webhook.url.scheme() == "http" && !local {
                let what = "is http: everybody on the way can read the request, and answer it";
                problems.push(Problem::warning(key("url"), what, "Use https."));
            }
        }
        DrivenBy::Vip(_) | DrivenBy::Exec(_) | DrivenBy::App => {}
    }
}

/// What the machine says.
pub(super) fn check_host(driven: &Driven, problems: &mut Vec<Problem>) {
    let key = |key: &str| format!("endpoint[{}].{key}", driven.name);
    match &driven.by {
        DrivenBy::Pgbouncer(pgbouncer) => {
            if let Some(file) = &pgbouncer.password_file {
                super::host::secret(&key("password_file"), file, problems);
            }
            if let Some(folder) = pgbouncer.file.as_deref().and_then(Path::parent) {
                super::host::writable(&key("file"), folder, problems);
            }
        }
        DrivenBy::Webhook(webhook) => {
            super::host::secret(&key("secret_file"), &webhook.secret_file, problems);
        }
        DrivenBy::Exec(command) => super::host::program(&key("command"), command, problems),
        // Its programs are keys of [app].
        DrivenBy::App => {}
        DrivenBy::Vip(vip) => {
            let known = fs::read_to_string("/proc/net/dev").unwrap_or_default();
            let name = format!("{}:", vip.interface);
            if !known.lines().any(|line| line.trim_start().starts_with(&name)) {
                let what = format!("is {:?}, and this host has no such interface", vip.interface);
                problems.push(Problem::error(key("interface"), what, "`ip link` lists those there are."));
            }
        }
    }
}
