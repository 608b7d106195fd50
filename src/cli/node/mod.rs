//! `locum node`: a further standby is added to a running cluster, a node is drained, or removed.

mod add;

use serde_json::json;

use super::{
    Exit, Failure,
    args::{AboutNode, NodeArgs, NodeVerb},
    client::Member,
    confirm,
    operation::{self, Ended},
    output,
};
use crate::model::Snapshot;

/// How long it may take until nothing rests on a node: a change of the sync set, with its proof, and a note on the
/// primary's disk.
const DRAINED: std::time::Duration = std::time::Duration::from_secs(60);

/// One of the three.
pub(super) async fn execute(args: &NodeArgs) -> Result<Exit, Failure> {
    match &args.verb {
        NodeVerb::Add(args) => add::execute(args).await,
        NodeVerb::Drain(args) if args.undo => change(&args.about, &RESTORE).await,
        NodeVerb::Drain(args) => change(&args.about, &DRAIN).await,
        NodeVerb::Remove(args) => change(&args.about, &REMOVE).await,
    }
}

/// What is asked of the leader, in words.
struct Change {
    path: &'static str,
    question: Option<fn(&AboutNode, &Snapshot) -> String>,
    would: &'static str,
    done: &'static str,
}

const DRAIN: Change = Change {
    path: "/v1/node/drain",
    question: Some(|about, now| {
        let rest = now.nodes.iter().filter(|status| status.streaming && status.node != about.node).count();
        let left = match rest {
            0 => "no standby is left then, and nobody to fail over to".to_owned(),
            1 => "one standby is left then".to_owned(),
            some => format!("{some} standbys are left then"),
        };
        format!("Take {} of {} out of service? {left}. [y/N]", about.node, now.cluster)
    }),
    would: "would be taken out of service",
    done: "is out of service: its PostgreSQL, its member and its host can be stopped. \
           `locum node drain NODE --undo` takes that back.",
};

const RESTORE: Change = Change {
    path: RESTORE_PATH,
    question: None,
    would: "would be taken into service again",
    done: "is in service again, and is brought to stream.",
};

/// Where a node is taken into service again.
const RESTORE_PATH: &str = "/v1/node/restore";

const REMOVE: Change = Change {
    path: "/v1/node/remove",
    question: Some(|about, now| {
        format!(
            "Remove {} from {}? Its member ends, and no WAL is kept for it; its data stays as it is. [y/N]",
            about.node, now.cluster
        )
    }),
    would: "would be removed from the cluster",
    done: "is no part of the cluster any more. Take it out of `members` in the configuration of the others when they are \
           next restarted. `locum node add` on its host brings it back.",
};

async fn change(about: &AboutNode, change: &Change) -> Result<Exit, Failure> {
    let mut member = Member::find(&about.connect)?;
    let (_, answer) = member.post(change.path, &json!({ "node": about.node, "dry_run": true })).await?;
    let blockers = operation::blockers(&answer);
    if about.dry_run && about.json {
        output::data(&json!({ "blockers": blockers }).to_string())?;
        return Ok(if blockers.is_empty() { Exit::Done } else { Exit::Refused });
    }
    if let Some(refusal) = operation::blocked(&blockers, "It is not possible now:") {
        return Err(refusal);
    }
    if about.dry_run {
        output::data(&format!("{} {}. Nothing was changed.", about.node, change.would))?;
        return Ok(Exit::Done);
    }
    if let Some(question) = change.question.filter(|_| !about.yes) {
        confirm(&question(about, &member.get("/v1/status").await?))?;
    }
    let (_, answer) = member.post(change.path, &json!({ "node": about.node })).await?;
    let progress = operation::talker(!about.json);
    match operation::wait(&member, operation::id(&answer)?, DRAINED, progress).await? {
        Ended::Done(operation) => {
            output::data(&match about.json {
                true => json!({ "operation": operation }).to_string(),
                false => format!("{} {}", about.node, change.done.replace("NODE", about.node.as_str())),
            })?;
            Ok(Exit::Done)
        }
        Ended::Not(operation) => Err(operation::refusal(&operation)),
    }
}

fn confirm(question: &str) -> Result<(), Failure> {
    confirm::askable("this changes what the cluster can bear", "what stands in the way")?;
    confirm::agreed(question)
}
