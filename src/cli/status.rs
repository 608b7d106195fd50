//! `locum status`, once or every second.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{Exit, Failure, args::StatusArgs, client::Member, output, status_page::page};
use crate::{model::Snapshot, report::Paint};

/// Time between two drawings.
const EVERY: Duration = Duration::from_secs(1);
/// Cursor to the upper left corner.
const HOME: &str = "\x1b[H";
/// Clear from the cursor to the end of the line; to the end of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Shows the cluster. Refused if no node serves.
pub(super) async fn execute(args: &StatusArgs) -> Result<Exit, Failure> {
    let member = Member::find(&args.connect)?;
    if args.watch {
        tokio::select! {
            failure = watch(args, &member) => Err(failure),
            _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
        }
    } else {
        let snapshot: Snapshot = member.get("/v1/status").await?;
        output::data(&render(args, &snapshot)?)?;
        Ok(if snapshot.nodes.iter().any(|node| node.serving) { Exit::Done } else { Exit::Refused })
    }
}

/// Draws until it cannot any more. A member that does not answer is shown as such and asked again.
async fn watch(args: &StatusArgs, member: &Member) -> Failure {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let screen = output::is_terminal() && !args.json;
    if screen && output::raw(&format!("{HOME}{CLEAR_BELOW}")).is_err() {
        return Failure::Closed;
    }
    loop {
        ticks.tick().await;
        let text = match member.try_get::<Snapshot>("/v1/status").await {
            Ok(Ok(snapshot)) => match render(args, &snapshot) {
                Ok(text) => text,
                Err(failure) => return failure,
            },
            Ok(Err(failure)) => return failure,
            Err(silent) => {
                let text = format!("{} does not answer: {}", member.url(""), silent.0);
                if args.json {
                    output::talk(&text);
                    continue;
                }
                text
            }
        };
        if draw(&text, screen).is_err() {
            return Failure::Closed;
        }
    }
}

fn render(args: &StatusArgs, snapshot: &Snapshot) -> Result<String, Failure> {
    if args.json {
        serde_json::to_string(snapshot)
            .map_err(|error| Failure::refused(format!("cannot print the status: {error}"), &[]))
    } else {
        Ok(page(snapshot, Paint::when(output::is_coloured())))
    }
}

/// Over what is there, line by line, so that nothing flickers.
fn draw(text: &str, screen: bool) -> Result<(), output::Closed> {
    if !screen {
        return output::data(text);
    }
    let lines: String = text.lines().map(|line| format!("{line}{CLEAR_LINE}\n")).collect();
    output::raw(&format!("{HOME}{lines}{CLEAR_BELOW}"))
}
