//! `locum report`: placeholder.

use super::{Exit, Failure, args::ReportArgs};

pub(super) async fn execute(_: &ReportArgs) -> Result<Exit, Failure> {
    Err(Failure::refused("not yet", &[]))
}
