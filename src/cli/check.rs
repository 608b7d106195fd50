//! `locum check`: what differs between two nodes, and what is not as Locum needs it. Changes nothing.

use serde_json::json;

use super::{
    Exit, Failure,
    args::CheckArgs,
    nodes::{self, Names, Node},
    output,
};
use crate::{
    check::{self, About, Line, Severity, Wanted, sorted},
    config,
    postgres::Psql,
};

/// The replication role's name where no configuration says it.
const USUAL_ROLE: &str = "replicator";

/// Reads both, compares, prints.
pub(super) async fn execute(args: &CheckArgs) -> Result<Exit, Failure> {
    match (&args.primary, &args.standby) {
        (Some(primary), Some(standby)) => {
            let psql = Psql::on_path();
            let one = nodes::conninfo("--primary", primary)?;
            let other = nodes::conninfo("--standby", standby)?;
            let one = nodes::read(&psql, one, USUAL_ROLE, "the primary").await?;
            let other = nodes::read(&psql, other, USUAL_ROLE, "the standby").await?;
            let lines = without_configuration(&one, &other);
            print(args, lines, &one, Some(&other), Names("on the primary", "on the standby"))
        }
        _ => configured(args).await,
    }
}

async fn configured(args: &CheckArgs) -> Result<Exit, Failure> {
    let config = config::load(&args.source.sources())?.config;
    let Some(postgres) = &config.postgres else {
        return Err(Failure::refused(
            "this host has no [postgres] in its configuration: there is nothing to compare",
            &["Run it on a host with a database, or name both with --primary and --standby."],
        ));
    };
    let instance = nodes::instance(&config, postgres)?;
    let psql = Psql::of(&instance);
    let own = nodes::own(&psql, &instance, postgres).await?;
    let peer = nodes::peer(&psql, args.peer.as_deref(), &own.seen, postgres).await?;
    let wanted = nodes::wanted(&config, postgres);
    let lines = nodes::lines(&psql, &own, peer.as_ref(), &wanted, postgres).await;
    if peer.is_none() && !args.json {
        output::talk(
            "note: only this node was looked at. Name the other one: --peer \"host=… user=postgres\".",
        );
    }
    print(args, lines, &own, peer.as_ref(), Names("here", "there"))
}

/// Two nodes alone: what a configuration would ask for is not known, but what every pair needs is.
fn without_configuration(one: &Node, other: &Node) -> Vec<Line> {
    let mut lines = check::differences(&one.seen, &other.seen);
    for (node, about) in [(one, About::Here), (other, About::There)] {
        let wanted = Wanted {
            members: 2,
            host: node.conninfo.get("host").unwrap_or_default().to_owned(),
            replication: USUAL_ROLE.to_owned(),
            now: jiff::Timestamp::now().as_second(),
        };
        let mut seen = node.seen.clone();
        // Nobody said what the role is called.
        seen.replication = None;
        lines.extend(check::wants(&seen, &wanted).into_iter().map(|line| line.about(about)));
    }
    if one.seen.in_recovery && !other.seen.in_recovery {
        let pair = ("standby", "primary");
        lines.push(Line::new(
            Severity::Notice,
            "role",
            pair,
            "--primary and --standby were named the wrong way round",
        ));
    }
    lines
}

fn print(
    args: &CheckArgs,
    lines: Vec<Line>,
    one: &Node,
    other: Option<&Node>,
    names: Names,
) -> Result<Exit, Failure> {
    let lines = sorted(lines);
    let exit =
        if lines.iter().any(|line| line.severity == Severity::Blocks) { Exit::Refused } else { Exit::Done };
    if args.json {
        let body = json!({
            "ok": exit == Exit::Done,
            "here": nodes::as_json(&one.seen),
            "there": other.map(|other| nodes::as_json(&other.seen)),
            "lines": lines,
        });
        output::data(&body.to_string())?;
        return Ok(exit);
    }
    let Names(here, there) = names;
    nodes::tell_limits(here, &one.seen);
    if let Some(other) = other {
        nodes::tell_limits(there, &other.seen);
    }
    output::data(&nodes::page(&lines, names))?;
    output::data(&format!("{}. Nothing was changed.", capital(&nodes::count(&lines))))?;
    Ok(exit)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
