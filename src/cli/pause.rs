//! `locum pause` and `locum resume`: placeholder.

use super::{Exit, Failure, args::PauseArgs};

pub(super) enum Verb {
    Pause,
    Resume,
}

pub(super) async fn execute(_: &PauseArgs, _: Verb) -> Result<Exit, Failure> {
    Err(Failure::refused("not yet", &[]))
}
