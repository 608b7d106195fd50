//! The store in etcd, 3.4 and newer, for members on several hosts.
//!
//! Reads are linearizable. A call is sent to one endpoint, and after a short silence to the next one as well: a host that
//! drops packets costs a call some hundred milliseconds, once (`calls`). A guarded transaction is sent again only where
//! its own guards keep it from being made twice (`transaction`). Changes are watched at every endpoint at once, so that
//! no single one can hold news back (`watch`). Every wait has a limit; nothing polls.
//!
//! Leases are etcd's: whole seconds, [`LEASE_MIN`] at least. A fraction is rounded up: who holds one may believe in less,
//! never in more. etcd ends a lease up to a second late, and extends all of them in full when its own leader changes.
//!
//! In one transaction etcd takes one write of a key. Of several the last counts, as elsewhere; but a key cannot be
//! deleted and put anew in one, and that is refused.

mod calls;
mod endpoint;
mod failure;
mod leader;
mod transaction;
mod watch;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::{GetOptions, KeyValue, LeaseGrantOptions};

use self::{
    calls::{Again, Calls},
    transaction::Transaction,
    watch::Watches,
};
use super::fresh_lease;
use crate::{
    config,
    ports::{Entry, Guard, LeaseId, Outcome, Revision, Store, StoreError, Write},
};

/// etcd grants no shorter leases: its minimum follows from its election timeout, one second by default.
pub const LEASE_MIN: Duration = Duration::from_secs(2);

/// A store in etcd.
pub struct Etcd {
    calls: Arc<Calls>,
    watches: Watches,
}

impl Etcd {
    /// A store that connects when it is first asked: etcd need not be up yet. Certificates and password are read with
    /// every new connection, so that renewed ones are taken up.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if no endpoint is given.
    pub fn open(config: &config::Etcd) -> Result<Self, StoreError> {
        let calls = Arc::new(Calls::new(config)?);
        Ok(Self { watches: Watches::new(Arc::clone(&calls)), calls })
    }
}

/// etcd's key as an entry of ours.
fn entry(kv: &KeyValue) -> Result<Entry, StoreError> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| {
            let key = String::from_utf8_lossy(kv.key());
            StoreError::Refused(format!("{key} in etcd holds what is no text: no Locum wrote it"))
        })
    };
    Ok(Entry {
        key: text(kv.key())?,
        value: text(kv.value())?,
        created: Revision(kv.create_revision()),
        modified: Revision(kv.mod_revision()),
    })
}

/// A length in etcd's whole seconds.
fn seconds(ttl: Duration) -> i64 {
    let ttl = ttl.max(LEASE_MIN);
    let up = u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(ttl.as_secs() + up).unwrap_or(i64::MAX)
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let found = self.calls.read(key, None).await?;
        found.kvs().first().map(entry).transpose()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let options = calls::all_with(prefix, GetOptions::new());
        let found = self.calls.read(prefix, Some(options)).await?;
        // In order of key, as etcd has them.
        found.kvs().iter().map(entry).collect()
    }

    async fn commit(&self, guards: Vec<Guard>, writes: Vec<Write>) -> Result<Outcome, StoreError> {
        self.calls.transact(&Transaction::new(guards, writes)?).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        // Named by us, so that it may be asked for again: one that is there already was granted the first time.
        let lease = fresh_lease()?;
        let granted = self.calls.call(Again::Harmless, |client| async move {
            let options = LeaseGrantOptions::new().with_id(lease.0);
            client.lease_client().grant(seconds(ttl), Some(options)).await.map(drop)
        });
        match granted.await {
            Err(StoreError::Refused(why)) if why.contains("lease already exists") => Ok(lease),
            granted => granted.map(|()| lease),
        }
    }

    async fn renew(&self, lease: LeaseId) -> Result<bool, StoreError> {
        let renewed = self.calls.call(Again::Harmless, |client| async move {
            match client.lease_client().keep_alive(lease.0).await {
                Ok(_) => Ok(true),
                Err(error) if failure::says(&error, "lease not found") => Ok(false),
                Err(error) => Err(error),
            }
        });
        renewed.await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let revoked = self.calls.call(Again::Harmless, |client| async move {
            match client.lease_client().revoke(lease.0).await {
                Err(error) if failure::says(&error, "lease not found") => Ok(()),
                revoked => revoked.map(drop),
            }
        });
        revoked.await
    }

    async fn changed(&self, prefix: &str, since: Revision) -> Result<Revision, StoreError> {
        self.watches.changed(prefix, since).await
    }

    async fn keep_leader_off(&self, host: &str) -> Result<bool, StoreError> {
        leader::keep_off(&self.calls, host).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_rounded_up_to_what_etcd_grants() {
        let cases = [(0, 2), (500, 2), (2_000, 2), (2_001, 3), (3_000, 3), (59_999, 60)];
        for (ms, expected) in cases {
            assert_eq!(seconds(Duration::from_millis(ms)), expected, "{ms} ms");
        }
    }
}
