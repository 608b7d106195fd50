//! `locum pause` and `locum resume`.

use serde_json::{Value, json};

use super::{
    Exit, Failure,
    args::PauseArgs,
    client::Member,
    operation::{self, CONTROL_WAIT, Ended},
    output,
};
use crate::model::Snapshot;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Pause,
    Resume,
}

impl Verb {
    const fn path(self) -> &'static str {
        match self {
            Self::Pause => "/v1/pause",
            Self::Resume => "/v1/resume",
        }
    }

    const fn pauses(self) -> bool {
        matches!(self, Self::Pause)
    }
}

/// Asks for it and waits until it is in force.
pub(super) async fn execute(args: &PauseArgs, verb: Verb) -> Result<Exit, Failure> {
    let mut member = Member::find(&args.connect)?;
    let before: Snapshot = member.get("/v1/status").await?;
    let already = before.intent.as_ref().map(|intent| intent.paused) == Some(verb.pauses());
    let body = json!({ "dry_run": args.dry_run });
    let (_, answer) = member.post(verb.path(), &body).await?;
    if args.dry_run {
        return dry_run(args, verb, already, &answer);
    }
    match operation::wait(&member, operation::id(&answer)?, CONTROL_WAIT, |_| ()).await? {
        Ended::Done(operation) if args.json => {
            output::data(&json!({ "operation": operation, "paused": verb.pauses() }).to_string())?;
            Ok(Exit::Done)
        }
        Ended::Done(_) => {
            output::data(done(verb))?;
            Ok(Exit::Done)
        }
        Ended::Not(operation) => Err(operation::refusal(&operation)),
    }
}

fn dry_run(args: &PauseArgs, verb: Verb, already: bool, answer: &Value) -> Result<Exit, Failure> {
    let blockers = operation::blockers(answer);
    if args.json {
        output::data(&json!({ "blockers": blockers, "changes": !already }).to_string())?;
    } else if let Some(refusal) = operation::blocked(&blockers, "It is not possible now:") {
        return Err(refusal);
    } else {
        output::data(match (verb, already) {
            (Verb::Pause, false) => "It would suspend automatic action. Nothing was changed.",
            (Verb::Pause, true) => "Automatic action is already suspended. Nothing was changed.",
            (Verb::Resume, false) => "It would lift the suspension. Nothing was changed.",
            (Verb::Resume, true) => "Automatic action is not suspended. Nothing was changed.",
        })?;
    }
    Ok(if blockers.is_empty() { Exit::Done } else { Exit::Refused })
}

const fn done(verb: Verb) -> &'static str {
    match verb {
        Verb::Pause => "Automatic action is suspended: nothing is promoted until `locum resume`.",
        Verb::Resume => "Automatic action is on again.",
    }
}
