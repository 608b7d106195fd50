//! Where members agree: leadership, intent, registrations and incidents, behind [`crate::ports::Store`].
//!
//! Three back ends keep one contract (`tests/it/store/contract.rs` runs it against all): [`Etcd`], for members on several
//! hosts; [`Embedded`], a SQLite file that several processes on one machine share; and [`Memory`], for tests and
//! simulations. [`Records`] is the typed layer everybody above uses. [`RpoHistory`] is a file of its own that people may query with SQL; nothing is
//! decided from it.
//!
//! Nothing here knows what the records are for: no policy, no planner, no other adapter.

mod database;
mod embedded;
mod etcd;
mod history_rows;
mod memory;
mod records;
mod rpo_history;
mod tables;
mod worker;

use std::time::Duration;

pub use embedded::Embedded;
pub use etcd::{Etcd, LEASE_MIN};
pub use memory::Memory;
pub use records::{Declared, INCIDENTS_KEPT, Leadership, Records, Registration};
pub use rpo_history::{RpoHistory, RpoMinute, Spread};

use crate::ports::{LeaseId, StoreError};

/// How often somebody who waits for a change looks for the writes of other processes, and for leases that ran out.
/// Most of a look is waking up for it: twenty a second were measured at 0.3 % of a core (on a 2-core virtual machine,
/// where waking up alone costs 0.23 %). Rarer looks would delay what another member learns; what matters within a
/// failover goes over the members' own streams, not through the store.
const POLL: Duration = Duration::from_millis(50);

/// A new lease's identifier: random, so that whoever held a lease of a store that was removed and made anew does
/// not, by a repeated number, renew somebody else's.
fn fresh_lease() -> Result<LeaseId, StoreError> {
    let random = getrandom::u64().map_err(|error| StoreError::Outage(format!("draw a lease id: {error}")))?;
    Ok(LeaseId((random >> 1).cast_signed()))
}

/// What whoever puts a key under a lease that is gone is told.
fn lease_gone(lease: LeaseId) -> StoreError {
    StoreError::Refused(format!("lease {:x} has run out or was revoked; nothing was written", lease.0))
}
