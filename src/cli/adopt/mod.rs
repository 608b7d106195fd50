//! `locum adopt`: takes over a running pair without a restart. It looks, says what stands in the way, and changes only
//! what can be changed under running clients; the member that is started next does the rest.

mod action;
mod autostart;
mod rivals;
mod server;

use std::{fs, path::Path};

use serde_json::json;

use super::{
    Exit, Failure,
    args::AdoptArgs,
    confirm,
    nodes::{self, Names, Node},
    output,
};
use crate::{
    agent,
    check::{About, Line, Severity, identifier, sorted},
    config::{self, Config, Postgres},
    postgres::{Conninfo, Instance, Psql, password_of},
};
use action::{Action, Deed};

/// Where the way back is written down, below the state directory.
const UNDO: &str = "adopt-undo.txt";

/// What was found, and what is to be done.
struct Plan {
    lines: Vec<Line>,
    actions: Vec<Action>,
    /// The epoch that the node has promised: Locum manages it already.
    managed: Option<u64>,
}

/// Looks, says, asks, does.
pub(super) async fn execute(args: &AdoptArgs) -> Result<Exit, Failure> {
    let config = config::load(&args.source.sources())?.config;
    let Some(postgres) = &config.postgres else {
        return Err(Failure::refused(
            "this host has no [postgres] in its configuration: there is nothing to adopt",
            &["A member without PostgreSQL is just started: locum run."],
        ));
    };
    let instance = nodes::instance(&config, postgres)?;
    let psql = Psql::of(&instance);
    let postmaster = instance.find().await.map_err(anyhow::Error::from)?;
    let Some(postmaster) = postmaster else {
        return Err(Failure::refused(
            format!("no PostgreSQL runs in {}", instance.data_dir().display()),
            &[
                "adopt takes over a pair that runs. Nothing was changed.",
                "Start it as you did so far, and try again. For a new pair: locum init.",
            ],
        ));
    };
    let own = nodes::own(&psql, &instance, postgres).await?;
    let peer = nodes::peer(&psql, args.peer.as_deref(), &own.seen, postgres).await?;
    let plan =
        plan(args, &config, postgres, (&instance, postmaster.pid()), &psql, &own, peer.as_ref()).await?;
    let blocked = plan.lines.iter().any(|line| line.severity == Severity::Blocks);
    if args.dry_run || blocked {
        return show(args, &config, &plan, &own, peer.is_some(), blocked);
    }
    if !args.json {
        tell(&plan, &own, peer.is_some())?;
    }
    confirm(args, &plan)?;
    perform(&plan, &psql, &own.conninfo.to_string(), &instance, &config).await?;
    finish(args, &config, &plan, &own)
}

async fn plan(
    args: &AdoptArgs,
    config: &Config,
    postgres: &Postgres,
    (instance, pid): (&Instance, u32),
    psql: &Psql,
    own: &Node,
    peer: Option<&Node>,
) -> Result<Plan, Failure> {
    let seen = &own.seen;
    let wanted = nodes::wanted(config, postgres);
    let mut lines = nodes::lines(psql, own, peer, &wanted, postgres).await;
    let (certain, running) = rivals::find(instance.data_dir(), seen);
    lines.extend(running);
    if args.force {
        // What may be meant so: libraries that differ, a manager of another cluster.
        lines.iter_mut().filter(|line| is_soft(line)).for_each(|line| line.severity = Severity::Notice);
    }
    lines.extend(certain);
    lines.extend(server::lines(instance, &postgres.options, seen));
    let memory = agent::memory(&config.state_dir).map_err(anyhow::Error::from)?;
    if let Some(memory) = &memory {
        lines.extend(server::memory(config, memory, seen));
    }
    if !seen.in_recovery && !seen.standbys.iter().any(|standby| standby.state == "streaming") {
        let why = "nothing is protected until a standby streams; the other member's start does not make one of an empty host: locum init --standby";
        let pair = ("nobody streams from it", "a standby that streams");
        lines.push(Line::new(Severity::Notice, "standby", pair, why).about(About::Here));
    }
    let mut actions = roles(args, postgres, own, &mut lines);
    let config_file = seen.value("config_file").unwrap_or_default();
    let others = autostart::actions(Path::new(config_file), pid);
    actions.extend(
        others.map_err(|error| Failure::refused(format!("read {config_file}'s start.conf: {error}"), &[]))?,
    );
    if args.start {
        actions.push(start(args)?);
    }
    let managed = memory.and_then(|memory| memory.promise).map(|stamp| stamp.epoch.0);
    if managed.is_some() {
        // What Locum set itself is no news.
        lines.retain(|line| !["synchronous_standby_names"].contains(&line.what.as_str()));
    }
    Ok(Plan { lines: sorted(lines), actions, managed })
}

/// Of what blocks, that which an operator may know better.
fn is_soft(line: &Line) -> bool {
    let soft = ["C library", "ICU", "extension ", "another manager"];
    line.severity == Severity::Blocks && soft.iter().any(|begin| line.what.starts_with(begin))
}

/// What the replication role lacks, on the primary. What is going to be made stands in nobody's way.
fn roles(args: &AdoptArgs, postgres: &Postgres, own: &Node, lines: &mut Vec<Line>) -> Vec<Action> {
    let Some(role) = own.seen.replication.as_ref().filter(|_| !own.seen.in_recovery) else {
        return Vec::new();
    };
    let name = identifier(&role.name);
    let mut actions = Vec::new();
    let of_role = |line: &Line| line.what.starts_with(&format!("role {} of postgres.replication", role.name));
    if !role.exists {
        if !args.create_roles {
            return actions;
        }
        let passfile =
            postgres.replication.parse::<Conninfo>().ok().and_then(|i| i.get("passfile").map(str::to_owned));
        let password = passfile.and_then(|file| password_of(Path::new(&file), &role.name).ok().flatten());
        let with = password.as_ref().map_or("", |_| " PASSWORD '(from the passfile)'");
        let secret =
            password.map_or_else(String::new, |text| format!(" PASSWORD '{}'", text.replace('\'', "''")));
        let quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic'; \
                     SET standard_conforming_strings = on;";
        actions.push(Action {
            what: "the role that streams, rewinds and clones".into(),
            command: format!("CREATE ROLE {name} LOGIN REPLICATION{with}"),
            undo: format!("DROP OWNED BY {name}; DROP ROLE {name}"),
            deed: Deed::Sql(format!("{quiet} CREATE ROLE {name} LOGIN REPLICATION{secret};")),
        });
    }
    let mut role = role.clone();
    if !role.exists {
        role.lacks = crate::check::REWIND.map(str::to_owned).to_vec();
    }
    let grants = role.grants();
    if !grants.is_empty() {
        let undo: Vec<_> =
            grants.iter().map(|grant| grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM ")).collect();
        actions.push(Action {
            what: "it may read files, as pg_rewind does".into(),
            command: grants.join("; "),
            undo: undo.join("; "),
            deed: Deed::Sql(format!("{};", grants.join("; "))),
        });
    }
    if !actions.is_empty() {
        let solved = |line: &Line| {
            of_role(line)
                && (line.severity == Severity::Reload
                    || !own.seen.replication.as_ref().is_some_and(|r| r.exists))
        };
        lines.retain(|line| !solved(line));
    }
    actions
}

fn start(args: &AdoptArgs) -> Result<Action, Failure> {
    if !autostart::has_systemd() {
        return Err(Failure::refused(
            "--start needs systemd, which does not run this machine",
            &["Nothing was changed. Leave it out, and start `locum run` as you start other services."],
        ));
    }
    let file = &args.source.config;
    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if file.parent() != Some(Path::new("/etc/locum")) || name.is_empty() {
        return Err(Failure::refused(
            format!("--start runs locum@NAME, which reads /etc/locum/NAME.toml, not {}", file.display()),
            &["Nothing was changed. Put the configuration there, and name it with -c."],
        ));
    }
    let unit = format!("locum@{name}");
    Ok(Action {
        what: "Locum takes over as soon as all members run".into(),
        command: format!("systemctl enable --now {unit}"),
        undo: format!("systemctl disable --now {unit}"),
        deed: Deed::Run(vec!["systemctl".into(), "enable".into(), "--now".into(), unit]),
    })
}

/// What a dry run, or a refusal, says.
fn show(
    args: &AdoptArgs,
    config: &Config,
    plan: &Plan,
    own: &Node,
    both: bool,
    blocked: bool,
) -> Result<Exit, Failure> {
    let exit = if blocked { Exit::Refused } else { Exit::Done };
    if args.json {
        output::data(&json(config, plan, own, false, !blocked))?;
        return Ok(exit);
    }
    tell(plan, own, both)?;
    for action in &plan.actions {
        output::data(&format!("would do  {}\n          {}", action.what, action.command))?;
    }
    if blocked {
        return Err(Failure::refused(
            "this node cannot be adopted as it is: see what blocks",
            &["Nothing was changed. What clients do goes on."],
        ));
    }
    output::data(&format!(
        "It can be adopted without a restart. Nothing was changed. Next: {}",
        next(args, plan.managed.is_none())
    ))?;
    Ok(exit)
}

fn tell(plan: &Plan, own: &Node, both: bool) -> Result<(), Failure> {
    if let Some(epoch) = plan.managed {
        output::data(&format!("Locum manages this node already: it has promised epoch {epoch}."))?;
    }
    if !both {
        output::talk(
            "note: only this node was looked at. Name the other one: --peer \"host=… user=postgres\".",
        );
    }
    nodes::tell_limits("here", &own.seen);
    output::data(&format!("This node is a {}, PostgreSQL {}.", own.seen.role(), own.seen.release))?;
    if !plan.lines.is_empty() {
        output::data(&nodes::page(&plan.lines, Names("here", "there")))?;
    }
    Ok(())
}

fn confirm(args: &AdoptArgs, plan: &Plan) -> Result<(), Failure> {
    if args.yes || plan.actions.is_empty() {
        return Ok(());
    }
    for action in &plan.actions {
        output::talk(&format!("  {}: {}", action.what, action.command));
    }
    confirm::askable("this changes the node", "what would be done")?;
    confirm::agreed("Do that? [y/N]")
}

async fn perform(
    plan: &Plan,
    psql: &Psql,
    conninfo: &str,
    instance: &Instance,
    config: &Config,
) -> Result<(), Failure> {
    instance.own_state_dir().await.map_err(anyhow::Error::from)?;
    let mut undo: Vec<String> = Vec::new();
    for action in &plan.actions {
        // Written down first: the way back must not depend on this process.
        undo.push(action.undo.clone());
        note(&config.state_dir.join(UNDO), &action.undo).map_err(|error| {
            Failure::refused(format!("write down how to undo it: {error}"), &["Nothing more was changed."])
        })?;
        if let Err(error) = action.perform(psql, conninfo).await {
            undo.pop();
            // Taking back what was not done could undo what was there before.
            if let Err(error) = forget(&config.state_dir.join(UNDO), &action.undo) {
                output::talk(&format!("warning: take {:?} out of {UNDO} by hand: {error}", action.undo));
            }
            let mut hints =
                vec!["Nothing of it was done, and nothing after it. PostgreSQL was not touched.".to_owned()];
            hints.extend(undo.iter().map(|undo| format!("To undo what was done before: {undo}")));
            let hints: Vec<_> = hints.iter().map(String::as_str).collect();
            return Err(Failure::refused(format!("{}: {error}", action.command), &hints));
        }
        output::talk(&format!("done: {}\n      undo: {}", action.command, action.undo));
    }
    instance.own_state_dir().await.map_err(anyhow::Error::from)?;
    Ok(())
}

fn note(path: &Path, line: &str) -> std::io::Result<()> {
    let before = fs::read_to_string(path).unwrap_or_default();
    if before.lines().any(|known| known == line) {
        Ok(())
    } else {
        fs::write(path, format!("{before}{line}\n"))
    }
}

fn forget(path: &Path, line: &str) -> std::io::Result<()> {
    let kept = fs::read_to_string(path)?;
    fs::write(
        path,
        kept.lines().filter(|known| *known != line).map(|known| format!("{known}\n")).collect::<String>(),
    )
}

fn finish(args: &AdoptArgs, config: &Config, plan: &Plan, own: &Node) -> Result<Exit, Failure> {
    if args.json {
        output::data(&json(config, plan, own, true, true))?;
        return Ok(Exit::Done);
    }
    if plan.actions.is_empty() {
        output::data("Nothing is left to change here.")?;
    }
    output::data(&format!("Next: {}", next(args, plan.managed.is_none())))?;
    Ok(Exit::Done)
}

fn next(args: &AdoptArgs, fresh: bool) -> String {
    if args.start {
        return "`locum status`, once the other node's member runs as well.".into();
    }
    let file = args.source.config.display();
    let after = if fresh {
        " PostgreSQL goes on as it is; the running primary is declared when every member has reported."
    } else {
        ""
    };
    format!("`locum run -c {file}`, or the service locum@NAME, on every node.{after}")
}

fn json(config: &Config, plan: &Plan, own: &Node, done: bool, ok: bool) -> String {
    json!({
        "ok": ok,
        "node": config.node,
        "here": nodes::as_json(&own.seen),
        "managed_epoch": plan.managed,
        "lines": plan.lines,
        "actions": plan.actions.iter().map(|action| action.as_json(done)).collect::<Vec<_>>(),
    })
    .to_string()
}
