//! `locum salvage`: what this host keeps of the WAL that it had to give up. Needs no member.

mod open;

use std::{fmt::Write as _, path::Path};

use jiff::Timestamp;
use serde_json::json;

use super::{
    Exit, Failure,
    args::{ConfigSource, SalvageArgs, SalvageVerb},
    output,
};
use crate::{
    config,
    model::LossList,
    postgres::{self, KeptSalvage},
    report,
};

/// One folder, and the head of its list. None: the list cannot be read, or an older release made the folder.
type Seen = (KeptSalvage, Option<LossList>);

/// Looks into the state directory.
pub(super) async fn execute(args: &SalvageArgs) -> Result<Exit, Failure> {
    match &args.verb {
        SalvageVerb::List { source, json } => list(source, *json),
        SalvageVerb::Open(args) => open::execute(args).await,
    }
}

fn list(source: &ConfigSource, json: bool) -> Result<Exit, Failure> {
    let seen = look(&config::load(&source.sources())?.config.state_dir)?;
    let text = if json {
        let folder = |(kept, list): &Seen| {
            json!({
                "id": kept.id,
                "dir": kept.dir,
                "bytes": kept.bytes,
                "saved_at": saved_at(kept),
                "from": list.as_ref().map(|list| list.from),
                "end": list.as_ref().map(|list| list.end),
                "committed": list.as_ref().map(|list| list.committed),
                "prepared": list.as_ref().map(|list| list.prepared),
                "unknown": list.as_ref().and_then(|list| list.unknown.clone()),
            })
        };
        let all = json!({ "salvages": seen.iter().map(folder).collect::<Vec<_>>() });
        serde_json::to_string_pretty(&all).unwrap_or_else(|_| all.to_string())
    } else {
        page(&seen)
    };
    output::data(&text)?;
    Ok(Exit::Done)
}

fn look(state_dir: &Path) -> Result<Vec<Seen>, Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("the salvages of {} cannot be read: {error}", state_dir.display());
        Failure::refused(what, &["Is this the user that the member runs as? Nothing was changed."])
    };
    let kept = postgres::kept(state_dir).map_err(failed)?;
    let list = |kept: KeptSalvage| {
        let list = postgres::read_list(state_dir, &kept.id, 0).unwrap_or_else(|error| {
            output::talk(&format!("note: the list of {} cannot be read: {error}", kept.dir.display()));
            None
        });
        (kept, list)
    };
    Ok(kept.into_iter().map(list).collect())
}

fn saved_at(kept: &KeptSalvage) -> Option<Timestamp> {
    Timestamp::try_from(kept.made).ok()
}

fn page(seen: &[Seen]) -> String {
    if seen.is_empty() {
        return "Nothing is salvaged on this host.\n".into();
    }
    let mut out = String::new();
    for (kept, list) in seen {
        let at =
            saved_at(kept).map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        let what = match list {
            None => "no list of transactions".to_owned(),
            Some(LossList { unknown: Some(why), committed, .. }) => {
                format!("{committed} transactions could be read; {why}")
            }
            Some(list) => format!(
                "{} committed, {} prepared, WAL {} to {}",
                list.committed, list.prepared, list.from, list.end
            ),
        };
        let size = report::bytes(kept.bytes);
        let _a_string_takes_all =
            writeln!(out, "{at}  {}  {size}\n  {what}\n  {}", kept.id, kept.dir.display());
    }
    out
}
