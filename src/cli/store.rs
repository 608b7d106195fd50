//! `locum store accept`: a person's word that a store which was wiped or put back from a copy is to be believed.

use serde_json::{Value, json};

use super::{
    Exit, Failure,
    args::{StoreArgs, StoreVerb},
    client::Member,
    confirm,
    operation::{self, CONTROL_WAIT, Ended},
    output,
};
use crate::model::{Finding, Snapshot};

const PATH: &str = "/v1/store/accept";

/// Asks, waits until it is in force, says who keeps the pen.
pub(super) async fn execute(args: &StoreArgs) -> Result<Exit, Failure> {
    let StoreVerb::Accept(args) = &args.verb;
    let mut member = Member::find(&args.connect)?;
    let before: Snapshot = member.get("/v1/status").await?;
    let wanted = before.findings.iter().any(|found| found.finding == Finding::StoreNotBelieved);
    let (_, answer) = member.post(PATH, &json!({ "dry_run": true })).await?;
    if args.dry_run {
        return dry_run(args.json, wanted, &answer);
    }
    if before.findings.iter().any(|found| found.finding == Finding::StoreLost) {
        return Err(Failure::refused("the store does not answer", &["Nothing was changed."]));
    }
    if !wanted {
        return Err(Failure::refused("the store is believed already", &["Nothing was changed."]));
    }
    if !args.yes {
        confirm(&before)?;
    }
    let (_, answer) = member.post(PATH, &json!({ "dry_run": false })).await?;
    match operation::wait(&member, operation::id(&answer)?, CONTROL_WAIT, |_| ()).await? {
        Ended::Done(operation) if args.json => {
            output::data(&json!({ "operation": operation, "accepted": true }).to_string())?;
            Ok(Exit::Done)
        }
        Ended::Done(_) => {
            output::data(
                "The store is believed. The running primary keeps its place; the sync set is proven anew.",
            )?;
            Ok(Exit::Done)
        }
        Ended::Not(operation) => Err(operation::refusal(&operation)),
    }
}

fn dry_run(as_json: bool, wanted: bool, answer: &Value) -> Result<Exit, Failure> {
    let blockers = operation::blockers(answer);
    if as_json {
        output::data(&json!({ "blockers": blockers, "changes": wanted }).to_string())?;
    } else if let Some(refusal) = operation::blocked(&blockers, "It is not possible now:") {
        return Err(refusal);
    } else {
        output::data(match wanted {
            true => "The store would be believed, as a new life of it. Nothing was changed.",
            false => "The store is believed already. Nothing was changed.",
        })?;
    }
    Ok(if blockers.is_empty() { Exit::Done } else { Exit::Refused })
}

fn confirm(now: &Snapshot) -> Result<(), Failure> {
    confirm::askable("what the store has forgotten is not to be had again", "what stands in the way")?;
    let question = format!(
        "Believe the store of {} although members remember more than it holds? The running primary keeps its place, \
         and nothing is promised until the sync set is proven anew. [y/N]",
        now.cluster
    );
    confirm::agreed(&question)
}
