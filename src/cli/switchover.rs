//! `locum switchover`: placeholder.

use super::{Exit, Failure, args::SwitchoverArgs};

pub(super) async fn execute(_: &SwitchoverArgs) -> Result<Exit, Failure> {
    Err(Failure::refused("not yet", &[]))
}
