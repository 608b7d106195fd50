//! The `[app]` section: the app server beside a node, how it is told that it is well, and what can be wrong with that.

use std::{path::PathBuf, time::Duration};

use figment::value::Value;

use super::{
    Origin, Problem,
    parse::{self, quote, show_duration},
    reader::Reader,
};

/// Time between health probes. Longer: a dead app server is missed longer. Shorter: more load on it.
const INTERVAL: Duration = Duration::from_millis(100);
/// Below this the probes would be load on the app server.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Deadline of one. Shorter: a pause of the app server counts as a failure. Longer: one that hangs is missed longer.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How long start and promote, or stop, may take. Shorter: an app server that is slow to start is given up. Longer: one that hangs
/// while it starts keeps the others waiting.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// The name that the endpoint has which runs them, in status and reports.
pub const APP_SERVER: &str = "app-server";
/// The most of an answer that is searched for `body`.
pub const BODY_MAX: usize = 64 << 10;

/// The app server of a host.
#[derive(Clone, Debug)]
pub struct App {
    /// What is asked whether it is well.
    pub health: Health,
    /// Where clients' connections go, `host:port`.
    pub address: String,
    /// Time between probes.
    pub interval: Duration,
    /// Deadline of a probe.
    pub timeout: Duration,
    /// What is run as it becomes the active one, and ceases to be.
    pub commands: Commands,
    /// The file that tells it where its database is.
    pub database_file: Option<PathBuf>,
}

/// Programs of the operator's, by their paths, without which an app server that is passive simply waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// Starts it: run where it is to be the active one and is not well.
    pub start: Option<PathBuf>,
    /// Stops it: run where another one is to be active.
    pub stop: Option<PathBuf>,
    /// Tells it that it is the active one, and again when the database has moved.
    pub promote: Option<PathBuf>,
    /// How long start and promote, or stop, may take.
    pub timeout: Duration,
}

impl Commands {
    /// Each with its key.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let all = [("start", &self.start), ("stop", &self.stop), ("promote", &self.promote)];
        all.into_iter().filter_map(|(key, program)| Some((key, program.as_ref()?)))
    }

    /// There is anything to be run.
    #[must_use]
    pub fn any(&self) -> bool {
        self.each().next().is_some()
    }
}

/// How an app server tells that it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// By an answer to a GET of this URL.
    Http {
        /// The URL.
        url: reqwest::Url,
        /// The status that it must have; None: any 2xx.
        status: Option<u16>,
        /// What it must contain, within its first [`BODY_MAX`] bytes.
        body: Option<String>,
    },
    /// By taking a TCP connection at this `host:port`.
    Tcp(String),
    /// By the exit status 0 of this program.
    Command(PathBuf),
}

impl Health {
    /// Where it listens, as far as this says so.
    fn address(&self) -> Option<String> {
        match self {
            Self::Http { url, .. } => Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)),
            Self::Tcp(address) => Some(address.clone()),
            Self::Command(_) => None,
        }
    }
}

/// A URL, `tcp://host:port`, or the path of a program.
fn health(value: &Value) -> Result<Health, String> {
    let text = parse::text(value)?;
    if text.starts_with('/') {
        return Ok(Health::Command(PathBuf::from(text)));
    }
    if let Some(address) = text.strip_prefix("tcp://") {
        return parse::address(&Value::from(address)).map(Health::Tcp);
    }
    match reqwest::Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(Health::Http { url, status: None, body: None })
        }
        _ => Err(format!(
            "is {text:?}; write \"http://127.0.0.1:8080/healthz\", \"tcp://127.0.0.1:8080\", or the whole path of a program"
        )),
    }
}

fn status(value: &Value) -> Result<u16, String> {
    let status = parse::count(value)?;
    u16::try_from(status)
        .ok()
        .filter(|status| (100..600).contains(status))
        .ok_or_else(|| format!("is {status}, which is no status of HTTP"))
}

/// None: it is there and bad. `Some(None)`: this host has no app server.
pub(super) fn read(reader: &mut Reader) -> Option<Option<App>> {
    let mut section = reader.section("app");
    if !section.is_present() {
        return Some(None);
    }
    let mut health = section.need(
        "health",
        "Say how it is told that the app server is well: health = \"http://127.0.0.1:8080/healthz\".",
        health,
        |health| match health {
            Health::Http { url, .. } => quote(url.as_str()),
            Health::Tcp(address) => quote(&format!("tcp://{address}")),
            Health::Command(path) => quote(&path.display().to_string()),
        },
    );
    // Of any other kind they are keys that do not exist.
    if matches!(health, None | Some(Health::Http { .. })) {
        let wants = (
            section.maybe("status", status, u16::to_string),
            section.maybe("body", parse::text, |text| quote(text)),
        );
        if let Some(Health::Http { status, body, .. }) = &mut health {
            (*status, *body) = wants;
        }
    }
    let address = match &health {
        Some(health @ (Health::Http { .. } | Health::Tcp(_))) => {
            section.maybe("address", parse::address, |text| quote(text)).or_else(|| {
                let address = health.address()?;
                section.note("address", quote(&address), Origin::Derived("follows app.health".into()));
                Some(address)
            })
        }
        Some(Health::Command(_)) => section.need(
            "address",
            "Say where the app server takes clients' connections: address = \"127.0.0.1:8080\".",
            parse::address,
            |text| quote(text),
        ),
        None => section.maybe("address", parse::address, |text| quote(text)),
    };
    let interval = section.or("interval", INTERVAL, parse::duration, show_duration);
    let timeout = section.or("timeout", TIMEOUT, parse::duration, show_duration);
    let mut program = |key| section.maybe(key, parse::path, |path| quote(&path.display().to_string()));
    let (start, stop, promote) = (program("start"), program("stop"), program("promote"));
    let database_file = program("database_file");
    let limit = section.or("command_timeout", COMMAND_TIMEOUT, parse::duration, show_duration);
    section.finish();
    let commands = Commands { start, stop, promote, timeout: limit };
    Some(Some(App { health: health?, address: address?, interval, timeout, commands, database_file }))
}

/// What is wrong with it.
pub(super) fn check(app: &App, grace: Duration, problems: &mut Vec<Problem>) {
    if app.interval < INTERVAL_MIN {
        let least = humantime::format_duration(INTERVAL_MIN);
        let what = format!("is shorter than {least}: the probes would be load on the app server");
        problems.push(Problem::error("app.interval", what, "Set it to \"100ms\", for example."));
    }
    if app.timeout.is_zero() {
        problems.push(Problem::error("app.timeout", "is zero", "Set it to \"500ms\", for example."));
    }
    if app.commands.timeout.is_zero() {
        let what = "is zero, so no command could ever end";
        problems.push(Problem::error("app.command_timeout", what, "Set it to \"30s\", for example."));
    }
    if grace < app.interval {
        problems.push(Problem::error(
            "policy.app_grace",
            "is shorter than app.interval: a single lost probe would move the app",
            "Lengthen app_grace, or shorten app.interval.",
        ));
    }
}

/// What the machine says.
pub(super) fn check_host(app: &App, problems: &mut Vec<Problem>) {
    for (key, program) in app.commands.each() {
        super::host::program(&format!("app.{key}"), program, problems);
    }
    if let Health::Command(program) = &app.health {
        super::host::program("app.health", program, problems);
    }
    if let Some(folder) = app.database_file.as_deref().and_then(std::path::Path::parent) {
        super::host::writable("app.database_file", folder, problems);
    }
}
