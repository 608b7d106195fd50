//! `locum run` on a host, as a user has it.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{
    clock, place,
    plan::{API_PORT, APP_PORT, ENDPOINT_PORT, HostPlan, PEER_PORT, POSTGRES_PORT, Plan, Store, WEB_PORT},
    postgres, processes,
    within::within_limit,
};

/// How long a member may take to end.
const STOP: Duration = Duration::from_secs(30);

/// Starts a program that goes on running, its output appended to a log. It is collected whenever it ends.
///
/// # Errors
/// It cannot be started.
pub(crate) fn spawn(mut command: Command, log: &Path) -> Result<()> {
    let file = File::options().create(true).append(true).open(log).context("open a log")?;
    command.stdin(Stdio::null()).stdout(file.try_clone().context("open a log")?).stderr(file);
    let shown = format!("{command:?}");
    let mut child = command.process_group(0).spawn().with_context(|| format!("start {shown}"))?;
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Writes its configuration.
///
/// # Errors
/// The file system refuses.
pub(crate) fn configure(plan: &Plan, host: &HostPlan) -> Result<()> {
    place::secret(&plan.config_of(&host.name), &text(plan, host))
}

fn text(plan: &Plan, host: &HostPlan) -> String {
    let quoted = |text: &str| format!("\"{text}\"");
    let list = |texts: Vec<String>| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    let store = match plan.wish.store {
        Store::Embedded => format!("embedded = \"{}/store/store.db\"", plan.folder.display()),
        Store::Etcd(_) => format!("etcd = [{}]", list(plan.etcd_urls(&host.name))),
    };
    let (name, ip) = (&host.name, host.ip);
    let mut text = format!(
        r#"# Written by the laboratory.
cluster = "lab"
node = "{name}"
members = [{members}]
state_dir = "{state}"
[objectives]
rto = "5s"
rpo = "{rpo}"
[store]
{store}
[api]
listen = "{ip}:{API_PORT}"
peer_listen = "{ip}:{PEER_PORT}"
token_file = "{folder}/token"
[policy]
durability = "{durability}"
# It is broken as often as somebody likes.
max_failovers = 100000
[[endpoint]]
name = "db"
target = "primary"
listen = "{ip}:{ENDPOINT_PORT}"
"#,
        members = list(plan.members().map(|host| host.name.clone()).collect()),
        state = plan.folder_of(name).join("state").display(),
        rpo = if plan.wish.durability == "async" { "5s" } else { "0s" },
        folder = plan.folder.display(),
        durability = plan.wish.durability,
    );
    if plan.wish.vip {
        let (four, six) = plan.vips();
        let claims = plan.wish.claim_after.as_ref().map(|time| format!("claim_after = \"{time}\"\n"));
        let claims = claims.unwrap_or_default();
        for (name, address, more) in
            [("vip", format!("{four}/24"), claims.as_str()), ("vip6", format!("{six}/64"), "")]
        {
            text += &format!(
                "[[endpoint]]\nname = \"{name}\"\ntarget = \"primary\"\ndriver = \"vip\"\naddress = \"{address}\"\n\
                 interface = \"eth0\"\n{more}"
            );
        }
    }
    if plan.wish.app && host.postgres {
        text += &format!(
            "[[endpoint]]\nname = \"web\"\ntarget = \"app\"\nlisten = \"{ip}:{WEB_PORT}\"\n\
             [app]\nhealth = \"http://{ip}:{APP_PORT}/healthz\"\n"
        );
    }
    if host.postgres {
        text += &format!(
            r#"[postgres]
data_dir = "{data}"
bin_dir = "{bin}"
connect = "host={socket} port={POSTGRES_PORT} user=postgres dbname=postgres"
address = "{ip}:{POSTGRES_PORT}"
replication = "user=replicator"
verify = "user=postgres dbname=postgres"
options = [{options}]
"#,
            data = plan.data_of(name).display(),
            bin = plan.bin.display(),
            socket = plan.socket_of(name).display(),
            options = list(postgres::options(plan, host)),
        );
    } else {
        text += "[witness]\nverify = \"user=postgres dbname=postgres\"\n";
    }
    text
}

/// Starts it.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start(plan: &Plan, host: &HostPlan) -> Result<()> {
    let mut command = clock::on_host(plan, host);
    command
        .args(clock::settable(plan, host))
        .arg(&plan.locum)
        .arg("run")
        .arg("-c")
        .arg(plan.config_of(&host.name));
    for set in &plan.wish.set {
        command.args(["--set", set]);
    }
    command.env("RUST_LOG", "info,locum=debug");
    spawn(command, &plan.folder_of(&host.name).join("member.log"))
}

/// Stops it in order and starts it again, as an operator does to have its configuration read anew.
///
/// # Errors
/// It does not end, or cannot be started.
pub(crate) fn restart(plan: &Plan, host: &HostPlan) -> Result<()> {
    for process in processes::of_host(plan, &host.name).iter().filter(|process| process.is_locum("run")) {
        processes::send(process.pid, Signal::TERM);
    }
    ensure!(within_limit(STOP, || !runs(plan, &host.name)), "the member of {} does not end", host.name);
    start(plan, host)
}

/// True if a member runs on that host.
#[must_use]
pub(crate) fn runs(plan: &Plan, host: &str) -> bool {
    processes::of_host(plan, host).iter().any(|process| process.is_locum("run"))
}
