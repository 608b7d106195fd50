//! A standby that left recovery without an order.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Stamp;

/// A standby became writable, and Locum had not ordered it: a person, a trigger file, or a setting did. It is stopped, and
/// what it wrote since is saved and counted before its data directory follows the primary again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// What its agent had promised by then.
    pub under: Stamp,
    /// When the agent noticed. For people, and to tell one from the next.
    pub at: Timestamp,
}
