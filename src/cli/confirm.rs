//! A person's word before something is changed.

use super::{Failure, output};

/// Somebody must be there to be asked: `what` says what would be done without, `shown` what a dry run shows.
pub(super) fn askable(what: &str, shown: &str) -> Result<(), Failure> {
    if output::can_ask() {
        return Ok(());
    }
    let hint = format!("Nothing was changed. Add --yes if that is meant, or --dry-run to see {shown}.");
    Err(Failure::refused(format!("nobody can be asked here, and {what}"), &[&hint]))
}

/// Asks, and refuses unless the answer is yes.
pub(super) fn agreed(question: &str) -> Result<(), Failure> {
    match output::ask(question).as_deref() {
        Some("y" | "Y" | "yes" | "Yes") => Ok(()),
        _ => Err(Failure::refused("not confirmed", &["Nothing was changed."])),
    }
}
