//! `locum rejoin`: bring a node back now, with what is done on it as it happens.

use serde_json::json;

use super::{
    Exit, Failure,
    args::RejoinArgs,
    client::Member,
    confirm,
    operation::{self, Ended},
    output,
};
use crate::model::Snapshot;

const PATH: &str = "/v1/rejoin";

/// Asks, follows, says how it ended.
pub(super) async fn execute(args: &RejoinArgs) -> Result<Exit, Failure> {
    let mut member = Member::find(&args.connect)?;
    if args.dry_run || !args.yes {
        let (_, answer) = member.post(PATH, &body(args, true)).await?;
        let blockers = operation::blockers(&answer);
        if args.dry_run && args.json {
            output::data(&json!({ "blockers": blockers }).to_string())?;
            return Ok(if blockers.is_empty() { Exit::Done } else { Exit::Refused });
        }
        if let Some(refusal) =
            operation::blocked(&blockers, &format!("{} cannot be brought back now:", args.node))
        {
            return Err(refusal);
        }
    }
    if args.dry_run {
        output::data(&format!("Nothing stands in the way: {}. Nothing was changed.", what(args)))?;
        return Ok(Exit::Done);
    }
    // Without a clone nothing is done that would not be done anyway.
    if !args.yes && args.from_scratch {
        confirm(args, &member).await?;
    }
    let (_, answer) = member.post(PATH, &body(args, false)).await?;
    let id = operation::id(&answer)?;
    if args.no_wait {
        return accepted(args, &member, id);
    }
    let progress = operation::talker(!args.json);
    match operation::wait(&member, id, args.timeout, progress).await? {
        Ended::Done(operation) => {
            output::data(&match args.json {
                true => json!({ "operation": operation }).to_string(),
                false => "Done.".to_owned(),
            })?;
            Ok(Exit::Done)
        }
        Ended::Not(operation) => {
            if args.json {
                output::data(&json!({ "operation": operation }).to_string())?;
            }
            Err(operation::refusal(&operation))
        }
    }
}

fn body(args: &RejoinArgs, dry_run: bool) -> serde_json::Value {
    json!({ "node": args.node, "from_scratch": args.from_scratch, "dry_run": dry_run })
}

fn what(args: &RejoinArgs) -> String {
    let node = &args.node;
    match args.from_scratch {
        true => format!("{node} would be cloned from the primary, and stand in no sync set until it streams"),
        false => format!("{node} would be brought back as it is, else by a rewind, else by a clone"),
    }
}

/// A clone costs redundancy for as long as it takes, and a copy of the data.
async fn confirm(args: &RejoinArgs, member: &Member) -> Result<(), Failure> {
    confirm::askable("a clone replaces the data of the node", "what stands in the way")?;
    let now: Snapshot = member.get("/v1/status").await?;
    let question = format!(
        "Clone {} of {} anew? Its data directory is put aside, and it is no standby until that has ended. [y/N]",
        args.node, now.cluster
    );
    confirm::agreed(&question)
}

fn accepted(args: &RejoinArgs, member: &Member, id: &str) -> Result<Exit, Failure> {
    let url = member.url(&format!("/v1/operations/{id}"));
    output::data(&match args.json {
        true => json!({ "operation": id, "url": url }).to_string(),
        false => {
            format!("Accepted as operation {id}. Follow it with `locum status --watch`, or GET {url}.")
        }
    })?;
    Ok(Exit::Done)
}
