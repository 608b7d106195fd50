//! Faults that cannot be healed by looking alone: what was done is written down until it is undone.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{Fault, plan::Plan};

fn file(plan: &Plan) -> PathBuf {
    plan.folder.join("faults.json")
}

/// Those that have begun and are not healed, in their order.
///
/// # Errors
/// The file is none of these.
pub(crate) fn all(plan: &Plan) -> Result<Vec<Fault>> {
    match fs::read_to_string(file(plan)) {
        Ok(text) => serde_json::from_str(&text).context("read the faults that have begun"),
        Err(_) => Ok(Vec::new()),
    }
}

fn write(plan: &Plan, all: &[Fault]) -> Result<()> {
    fs::write(file(plan), serde_json::to_string(all)?).context("write the faults that have begun")
}

const fn is_noted(fault: &Fault) -> bool {
    matches!(fault, Fault::DiskBack(..) | Fault::BothLost(..) | Fault::Directory(..) | Fault::Deed(..))
}

/// Writes one down that begins.
///
/// # Errors
/// The file system refuses.
pub(super) fn note(plan: &Plan, fault: &Fault) -> Result<()> {
    if !is_noted(fault) {
        return Ok(());
    }
    let mut begun = all(plan)?;
    begun.push(fault.clone());
    write(plan, &begun)
}

/// Takes one out that is healed, or a part of it.
///
/// # Errors
/// The file system refuses.
pub(super) fn forget(plan: &Plan, fault: &Fault) -> Result<()> {
    if !is_noted(fault) {
        return Ok(());
    }
    let mut begun = all(plan)?;
    begun.retain(|one| !(one == fault || one.in_turn().contains(fault)));
    write(plan, &begun)
}
