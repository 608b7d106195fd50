//! `locum status`: placeholder.

use super::{Exit, Failure, args::StatusArgs};

pub(super) async fn execute(_: &StatusArgs) -> Result<Exit, Failure> {
    Err(Failure::refused("not yet", &[]))
}
