//! Follows an operator's request until it has ended, within a deadline.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Exit, Failure, client::Member, output};
use crate::model::{Operation, OperationState};

/// Time between two looks: short, because a switchover takes some 100 ms.
const LOOK: Duration = Duration::from_millis(50);
/// How long pause and resume may take: one write to the store.
pub(super) const CONTROL_WAIT: Duration = Duration::from_secs(15);

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// As asked, which may be that it begins later.
    Done(Operation),
    /// Refused, rolled back or given up.
    Not(Operation),
}

/// The identifier in the answer to a control call.
pub(super) fn id(answer: &Value) -> Result<&str, Failure> {
    answer["operation"].as_str().ok_or_else(|| {
        Failure::new(
            Exit::Unknown,
            "the member accepted it, but its answer is not understood",
            &["Look with `locum status`. Is the member of the same version as this program?"],
        )
    })
}

/// Blockers in the answer to a dry run.
pub(super) fn blockers(answer: &Value) -> Vec<&str> {
    answer["blockers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What a dry run says beside: nothing of it stands in the way.
pub(super) fn notes(answer: &Value) -> Vec<&str> {
    answer["notes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What to say of blockers, if there are any.
pub(super) fn blocked(blockers: &[&str], what: &str) -> Option<Failure> {
    if blockers.is_empty() {
        return None;
    }
    let list = blockers.iter().fold(what.to_owned(), |text, blocker| format!("{text}\n  - {blocker}"));
    Some(Failure::refused(list, &["Nothing was changed."]))
}

/// Looks again and again, and shows every look, until it has ended.
///
/// A member that does not answer for a moment is asked again: it may be the host that is being stopped.
pub(super) async fn wait(
    member: &Member,
    id: &str,
    limit: Duration,
    mut show: impl FnMut(&Operation),
) -> Result<Ended, Failure> {
    let path = format!("/v1/operations/{id}");
    let deadline = Instant::now() + limit;
    let mut last = "it has not ended".to_owned();
    while Instant::now() < deadline {
        match timeout_at(deadline, member.try_get::<Operation>(&path)).await {
            Err(_) => break,
            Ok(Err(silent)) => last = format!("the member does not answer: {}", silent.0),
            Ok(Ok(Err(Failure::Told { what, .. }))) => last = what,
            Ok(Ok(Err(Failure::Closed))) => return Err(Failure::Closed),
            Ok(Ok(Ok(operation))) => {
                show(&operation);
                match operation.state {
                    OperationState::Done | OperationState::Scheduled => return Ok(Ended::Done(operation)),
                    OperationState::Refused | OperationState::Failed => return Ok(Ended::Not(operation)),
                    OperationState::Pending => last = "it was accepted and has not begun".into(),
                    OperationState::Running => last = "it has begun and has not ended".into(),
                }
            }
        }
        sleep(LOOK.min(deadline - Instant::now())).await;
    }
    let look = format!("Look with `locum status`, `locum report --last 1`, or GET {}.", member.url(&path));
    Err(Failure::new(
        Exit::Unknown,
        format!("timed out after {}: {last}", humantime::format_duration(limit)),
        &["Its outcome is not known here; the leader goes on with it, or rolls it back.", &look],
    ))
}

/// Tells what is said of an operation whenever it changes; nothing unless it is wanted.
pub(super) fn talker(wanted: bool) -> impl FnMut(&Operation) {
    let mut told = Vec::new();
    move |operation| {
        if wanted && operation.messages != told {
            operation.messages.iter().for_each(|message| output::talk(&format!("  {message}")));
            told.clone_from(&operation.messages);
        }
    }
}

/// What to say of a request that was not fulfilled.
pub(super) fn refusal(operation: &Operation) -> Failure {
    let (what, hint) = match operation.state {
        OperationState::Refused => (format!("the {} was refused", operation.kind), "Nothing was changed."),
        _ => (
            format!("the {} was given up", operation.kind),
            "`locum status` shows who serves now; `locum report --last 1` says what happened.",
        ),
    };
    let text = operation.messages.iter().fold(what, |text, message| format!("{text}\n  - {message}"));
    Failure::refused(text, &[hint])
}
