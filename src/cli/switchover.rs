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
    model::{Operation, OperationState, Snapshot},
    report::{self, Paint},
};

const PATH: &str = "/v1/switchover";
const CANCEL: &str = "/v1/switchover/cancel";

/// Asks, follows, reports.
pub(super) async fn execute(args: &SwitchoverArgs) -> Result<Exit, Failure> {
    let mut member = Member::find(&args.connect)?;
    if args.cancel {
        return cancel(args, &mut member).await;
    }
    if args.dry_run {
        return dry_run(args, &mut member).await;
    }
    if !args.yes {
        confirm(args, &mut member).await?;
    }
    let (_, answer) = member.post(PATH, &body(args, false)).await?;
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
        Ended::Done(operation) if operation.state == OperationState::Scheduled => scheduled(args, &operation),
        Ended::Done(operation) => done(args, &operation),
        Ended::Not(operation) => {
            if args.json {
                print_json(&operation)?;
            }
            Err(operation::refusal(&operation))
        }
    }
}

fn body(args: &SwitchoverArgs, dry_run: bool) -> Value {
    json!({ "to": args.to, "at": args.at, "dry_run": dry_run })
}

/// Drops the one that is scheduled.
async fn cancel(args: &SwitchoverArgs, member: &mut Member) -> Result<Exit, Failure> {
    let (_, answer) = member.post(CANCEL, &json!({ "dry_run": args.dry_run })).await?;
    if args.dry_run {
        let blockers = operation::blockers(&answer);
        if args.json {
            output::data(&json!({ "blockers": blockers }).to_string())?;
            return Ok(if blockers.is_empty() { Exit::Done } else { Exit::Refused });
        }
        if let Some(refusal) = operation::blocked(&blockers, "nothing is there to be cancelled:") {
            return Err(refusal);
        }
        output::data("A switchover is scheduled, and would be dropped. Nothing was changed.")?;
        return Ok(Exit::Done);
    }
    match operation::wait(member, operation::id(&answer)?, operation::CONTROL_WAIT, |_| ()).await? {
        Ended::Done(operation) if args.json => print_json(&operation)?,
        Ended::Done(_) => output::data("The scheduled switchover is cancelled.")?,
        Ended::Not(operation) => return Err(operation::refusal(&operation)),
    }
    Ok(Exit::Done)
}

fn scheduled(args: &SwitchoverArgs, operation: &Operation) -> Result<Exit, Failure> {
    if args.json {
        print_json(operation)?;
    } else {
        let at = args.at.map_or_else(String::new, |at| format!(" for {at}"));
        output::data(&format!(
            "Scheduled{at} as operation {}. Whoever leads then begins it, if nothing stands in its way within a minute; \
             `locum switchover --cancel` drops it.",
            operation.id
        ))?;
    }
    Ok(Exit::Done)
}

async fn dry_run(args: &SwitchoverArgs, member: &mut Member) -> Result<Exit, Failure> {
    let answer = ask_blockers(args, member).await?;
    let blockers = operation::blockers(&answer);
    if args.json {
        output::data(&json!({ "blockers": blockers, "notes": operation::notes(&answer) }).to_string())?;
        return Ok(if blockers.is_empty() { Exit::Done } else { Exit::Refused });
    }
    for note in operation::notes(&answer) {
        output::talk(&format!("note: {note}"));
    }
    if let Some(refusal) = operation::blocked(&blockers, "a switchover is not possible now:") {
        return Err(refusal);
    }
    let later = if args.at.is_some() { " at that time, when it is judged again" } else { "" };
    output::data(&format!(
        "Nothing stands in the way of a switchover{}{later}. Nothing was changed.",
        to(args)
    ))?;
    Ok(Exit::Done)
}

async fn ask_blockers(args: &SwitchoverArgs, member: &mut Member) -> Result<Value, Failure> {
    Ok(member.post(PATH, &body(args, true)).await?.1)
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
    let at = args.at.map_or_else(String::new, |at| format!(" at {at}"));
    let question = format!(
        "Hand over the primary of {}{from}{to}{at}? Connections to it are cut when their transaction has ended. [y/N]",
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
