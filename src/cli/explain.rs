//! `locum explain`: placeholder.

use super::{Exit, Failure, args::ExplainArgs};

pub(super) async fn execute(_: &ExplainArgs) -> Result<Exit, Failure> {
    Err(Failure::refused("not yet", &[]))
}
