//! `locum switchover`: a planned hand-over, with its phases as they happen.

use serde_json::{Value, json};

use super::{
    Exit, Failure,
    args::SwitchoverArgs,
    client::Member,
    confirm,
    operation::{self, Ended},
    output,
};
use crate::{
    model::{Operation, Snapshot},
    report::{self, Paint},
};

const PATH: &str = "/v1/switchover";

/// Asks, follows, reports.
pub(super) async fn execute(args: &SwitchoverArgs) -> Result<Exit, Failure> {
    let mut member = Member::find(&args.connect)?;
    if args.dry_run {
        return dry_run(args, &mut member).await;
    }
    if !args.yes {
        confirm(args, &mut member).await?;
    }
    let (_, answer) = member.post(PATH, &json!({ "to": args.to, "dry_run": false })).await?;
    let id = operation::id(&answer)?;
    if args.no_wait {
        return accepted(args, &member, id);
    }
    let mut shown = 0;
    let progress = |operation: &Operation| {
        if !args.json {
            shown = phases(operation, shown);
        }
    };
    match operation::wait(&member, id, args.timeout, progress).await? {
        Ended::Done(operation) => done(args, &operation),
        Ended::Not(operation) => {
            if args.json {
                print_json(&operation)?;
            }
            Err(operation::refusal(&operation))
        }
    }
}

async fn dry_run(args: &SwitchoverArgs, member: &mut Member) -> Result<Exit, Failure> {
    let answer = ask_blockers(args, member).await?;
    let blockers = operation::blockers(&answer);
    if args.json {
        output::data(&json!({ "blockers": blockers }).to_string())?;
        return Ok(if blockers.is_empty() { Exit::Done } else { Exit::Refused });
    }
    if let Some(refusal) = operation::blocked(&blockers, "a switchover is not possible now:") {
        return Err(refusal);
    }
    output::data(&format!("Nothing stands in the way of a switchover{}. Nothing was changed.", to(args)))?;
    Ok(Exit::Done)
}

async fn ask_blockers(args: &SwitchoverArgs, member: &mut Member) -> Result<Value, Failure> {
    Ok(member.post(PATH, &json!({ "to": args.to, "dry_run": true })).await?.1)
}

fn to(args: &SwitchoverArgs) -> String {
    args.to.as_ref().map_or_else(String::new, |node| format!(" to {node}"))
}

/// Asks the person, once it is known that it would be possible.
async fn confirm(args: &SwitchoverArgs, member: &mut Member) -> Result<(), Failure> {
    confirm::askable("a switchover moves the primary", "what stands in the way")?;
    let now: Snapshot = member.get("/v1/status").await?;
    let answer = ask_blockers(args, member).await?;
    if let Some(refusal) =
        operation::blocked(&operation::blockers(&answer), "a switchover is not possible now:")
    {
        return Err(refusal);
    }
    let primary = now.intent.as_ref().and_then(|intent| intent.primary.as_ref());
    let from = primary.map_or_else(String::new, |node| format!(" from {node}"));
    let to = args.to.as_ref().map_or_else(|| " to the best standby".to_owned(), |node| format!(" to {node}"));
    let question = format!(
        "Hand over the primary of {}{from}{to}? Connections to it are cut when their transaction has ended. [y/N]",
        now.cluster
    );
    confirm::agreed(&question)
}

fn accepted(args: &SwitchoverArgs, member: &Member, id: &str) -> Result<Exit, Failure> {
    let url = member.url(&format!("/v1/operations/{id}"));
    if args.json {
        output::data(&json!({ "operation": id, "url": url }).to_string())?;
    } else {
        output::data(&format!(
            "Accepted as operation {id}. Follow it with `locum status --watch`, or GET {url}."
        ))?;
    }
    Ok(Exit::Done)
}

/// Tells the marks that were not told before. Returns how many have been.
fn phases(operation: &Operation, shown: usize) -> usize {
    let Some(incident) = &operation.incident else { return shown };
    for (index, mark) in incident.marks.iter().enumerate().skip(shown) {
        let before = index.checked_sub(1).and_then(|before| incident.marks.get(before));
        let took =
            before.map_or_else(String::new, |before| format!("+{}", report::ms(mark.at.ms_since(before.at))));
        output::talk(&format!("  {:20} {took}", mark.name.as_str()));
    }
    incident.marks.len().max(shown)
}

fn done(args: &SwitchoverArgs, operation: &Operation) -> Result<Exit, Failure> {
    if args.json {
        print_json(operation)?;
        return Ok(Exit::Done);
    }
    for message in &operation.messages {
        output::talk(message);
    }
    match &operation.incident {
        Some(incident) => {
            output::data(&report::incident_text_in(incident, Paint::when(output::is_coloured())))?;
        }
        None => output::data("Done.")?,
    }
    Ok(Exit::Done)
}

fn print_json(operation: &Operation) -> Result<(), Failure> {
    let incident = operation.incident.as_ref().map(report::Printed::from);
    let body = json!({
        "operation": operation.id,
        "state": operation.state,
        "messages": operation.messages,
        "incident": incident,
    });
    Ok(output::data(&body.to_string())?)
}
