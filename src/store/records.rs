//! What members write and read, typed. Every write of the leader is guarded by the revision that created its key, so
//! a leader whose lease ran out can write nothing more, whatever it believes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    model::{ClusterName, Incident, IncidentId, Intent, LeaseRecord, NodeId, Reign},
    ports::{Entry, Guard, Lease, LeaseId, Outcome, Revision, Store, StoreError, Write},
};

/// How many incidents are kept; the oldest go first. Years of them at a failover a day, some 4 MB.
pub const INCIDENTS_KEPT: usize = 1_000;

/// The records of one cluster.
#[derive(Clone)]
pub struct Records {
    store: Arc<dyn Store>,
    prefix: String,
    /// Outside the prefix: its frequent writes must not wake those who wait for a change of the records.
    lease: String,
}

/// The right to write as the leader, for as long as the lease runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Who leads.
    pub node: NodeId,
    /// Its lease; renew it well within its length, counted from before the request.
    pub lease: LeaseId,
    /// The revision that created the leader's key.
    pub created: Revision,
}

/// What came of declaring an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It is stored, durably, with this revision: the basis of the next one.
    Stored(Revision),
    /// The leadership is gone, or the intent is not the one it was based on. Nothing was written.
    Conflict,
}

/// Where a member can be reached. Stays when the member stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The member.
    pub node: NodeId,
    /// Its public API, `host:port`.
    pub api_address: String,
    /// Its port for other members, `host:port`.
    pub peer_address: String,
    /// Its version of Locum.
    pub version: String,
}

impl Records {
    /// The records of `cluster` in `store`, under `/locum/<cluster>/`.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over a name they made for this")]
    pub fn new(store: Arc<dyn Store>, cluster: ClusterName) -> Self {
        Self { store, prefix: format!("/locum/{cluster}/"), lease: format!("/locum/{cluster}.lease") }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Ends the leadership of this member, if it leads: for a stop that leaves the others no lease to wait for.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn step_down(&self, node: &NodeId) -> Result<(), StoreError> {
        let key = self.key("leader");
        let Some(entry) = self.store.get(&key).await?.filter(|entry| entry.value == node.as_str()) else {
            return Ok(());
        };
        self.store.commit(vec![Guard::Created(key.clone(), entry.created)], vec![Write::Delete(key)]).await?;
        Ok(())
    }

    /// Tries to become the leader, with a lease of `ttl`. None: somebody leads already, possibly an earlier life of
    /// this very member.
    ///
    /// # Errors
    /// Those of the store. After [`StoreError::Outage`] it may lead without knowing, until the lease runs out.
    pub async fn campaign(&self, node: &NodeId, ttl: Duration) -> Result<Option<Leadership>, StoreError> {
        let key = self.key("leader");
        // Looking is cheaper than a lease in vain.
        if self.store.get(&key).await?.is_some() {
            return Ok(None);
        }
        let lease = self.store.grant(ttl).await?;
        let put = Write::Put { key: key.clone(), value: node.as_str().to_owned(), lease: Some(lease) };
        match self.store.commit(vec![Guard::Absent(key)], vec![put]).await? {
            Outcome::Committed(created) => Ok(Some(Leadership { node: node.clone(), lease, created })),
            Outcome::GuardFailed => {
                self.store.revoke(lease).await?;
                Ok(None)
            }
        }
    }

    /// Renews the lease. False: it has run out, and with it the leadership.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn renew(&self, leadership: &Leadership) -> Result<bool, StoreError> {
        self.store.renew(leadership.lease).await
    }

    /// Renews the lease of a leadership that was given up because the store did not answer, if it has never run out:
    /// nobody else can have led since.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn resume(&self, leadership: &Leadership) -> Result<bool, StoreError> {
        if !self.store.renew(leadership.lease).await? {
            return Ok(false);
        }
        // The lease may live on without its key.
        let entry = self.store.get(&self.key("leader")).await?;
        Ok(entry.is_some_and(|entry| entry.created == leadership.created))
    }

    /// Stops leading at once, so that nobody has to wait for the lease to run out.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn resign(&self, leadership: Leadership) -> Result<(), StoreError> {
        self.store.revoke(leadership.lease).await
    }

    /// Who leads.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn leader(&self) -> Result<Option<NodeId>, StoreError> {
        let Some(entry) = self.store.get(&self.key("leader")).await? else { return Ok(None) };
        NodeId::new(entry.value.as_str()).map(Some).map_err(|error| unreadable(&entry, &error))
    }

    /// The intent, and the revision that last changed it. None: there never was one.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Refused`] if it cannot be read as one.
    pub async fn intent(&self) -> Result<Option<(Intent, Revision)>, StoreError> {
        let entry = self.store.get(&self.key("intent")).await?;
        entry.map(|entry| Ok((parse(&entry)?, entry.modified))).transpose()
    }

    /// Replaces the intent that was read as `basis` (None: there was none) by `next`. The reign changes with it, in the
    /// same transaction: from then on nobody of the old one renews the primary lease.
    ///
    /// # Errors
    /// Those of the store. After [`StoreError::Outage`] it may be stored or not: read it again.
    pub async fn declare(
        &self,
        leadership: &Leadership,
        basis: Option<(&Intent, Revision)>,
        next: &Intent,
    ) -> Result<Declared, StoreError> {
        self.replace(vec![self.leads(leadership)], basis, next).await
    }

    /// The same for a member that does not lead, where the rules allow it: the primary's own agent that empties its sync
    /// set, and a member that stops in order. Never for another reign.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Refused`] if the reign would change.
    pub async fn amend(&self, basis: (&Intent, Revision), next: &Intent) -> Result<Declared, StoreError> {
        if Reign::of(basis.0) != Reign::of(next) {
            return Err(StoreError::Refused("only the leader declares another primary".to_owned()));
        }
        self.replace(Vec::new(), Some(basis), next).await
    }

    async fn replace(
        &self,
        mut guards: Vec<Guard>,
        basis: Option<(&Intent, Revision)>,
        next: &Intent,
    ) -> Result<Declared, StoreError> {
        let key = self.key("intent");
        match basis {
            Some((before, revision)) => {
                guards.push(Guard::Modified(key.clone(), revision));
                // A store that was put back from a copy counts its revisions anew: one that is still under way from an earlier
                // life of it must not meet its own again.
                guards.push(Guard::Holds(self.key("epoch"), json("epoch", &Reign::of(before))?));
            }
            None => guards.push(Guard::Absent(key.clone())),
        }
        let mut writes = vec![put(key, next)?];
        let reign = Reign::of(next);
        if basis.is_none_or(|(before, _)| Reign::of(before) != reign) {
            writes.push(put(self.key("epoch"), &reign)?);
        }
        Ok(match self.store.commit(guards, writes).await? {
            Outcome::Committed(revision) => Declared::Stored(revision),
            Outcome::GuardFailed => Declared::Conflict,
        })
    }

    /// Who reigns, and the revision that renewals of the primary lease are guarded by. None: nobody was ever declared.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Refused`] if it cannot be read as one.
    pub async fn reign(&self) -> Result<Option<(Reign, Revision)>, StoreError> {
        let entry = self.store.get(&self.key("epoch")).await?;
        entry.map(|entry| Ok((parse(&entry)?, entry.modified))).transpose()
    }

    /// The last renewal of the primary lease, and its revision. None: there was none.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Refused`] if it cannot be read as one.
    pub async fn lease(&self) -> Result<Option<(LeaseRecord, Revision)>, StoreError> {
        let entry = self.store.get(&self.lease).await?;
        entry.map(|entry| Ok((parse(&entry)?, entry.modified))).transpose()
    }

    /// Renews the primary lease, if the reign that was read with revision `reign` still stands and nobody has renewed
    /// since `last` (None: the key was not there).
    ///
    /// # Errors
    /// Those of the store. After [`StoreError::Outage`] it may be renewed or not: read it again.
    pub async fn renew_primary(
        &self,
        reign: Revision,
        last: Option<Revision>,
        record: &LeaseRecord,
    ) -> Result<Outcome, StoreError> {
        let own = match last {
            Some(revision) => Guard::Modified(self.lease.clone(), revision),
            None => Guard::Absent(self.lease.clone()),
        };
        let guards = vec![Guard::Modified(self.key("epoch"), reign), own];
        self.store.commit(guards, vec![put(self.lease.clone(), record)?]).await
    }

    /// Waits until the primary lease may have been renewed beyond `since`; returns the store's revision.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn lease_changed(&self, since: Revision) -> Result<Revision, StoreError> {
        self.store.changed(&self.lease, since).await
    }

    /// Moves what leads the store itself off `host` (a name or an address), if it is there; for the leader, so that the
    /// loss of the primary's host costs no election of the store's. True if it was moved.
    ///
    /// # Errors
    /// Those of the store. Nothing depends on it: try again some time.
    pub async fn keep_store_leader_off(&self, host: &str) -> Result<bool, StoreError> {
        self.store.keep_leader_off(host).await
    }

    fn leads(&self, leadership: &Leadership) -> Guard {
        Guard::Created(self.key("leader"), leadership.created)
    }

    /// Writes down where a member can be reached, unless that is what is written already.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn register(&self, registration: &Registration) -> Result<(), StoreError> {
        let key = self.key(&format!("member/{}", registration.node));
        let known = self.store.get(&key).await?;
        if known.is_some_and(|entry| parse(&entry).is_ok_and(|known: Registration| known == *registration)) {
            return Ok(());
        }
        self.store.commit(Vec::new(), vec![put(key, registration)?]).await.map(drop)
    }

    /// Every member that ever registered, in order of name.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Refused`] if a registration cannot be read as one.
    pub async fn members(&self) -> Result<Vec<Registration>, StoreError> {
        self.store.list(&self.key("member/")).await?.iter().map(parse).collect()
    }

    /// Writes an incident down, or what became of it. [`INCIDENTS_KEPT`] are kept.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn save_incident(
        &self,
        leadership: &Leadership,
        incident: &Incident,
    ) -> Result<Outcome, StoreError> {
        let key = self.key(&format!("incident/{}", sortable(&incident.id)));
        // Every member looks at the last one with every change: that must not cost a reading of all.
        let is_new = self.store.get(&key).await?.is_none();
        let mut writes = vec![put(key.clone(), incident)?];
        // An earlier one is completed when its old primary comes back, and stays an earlier one.
        if is_new || self.last_incident().await?.is_none_or(|last| last.id == incident.id) {
            writes.push(put(self.key("last_incident"), incident)?);
        }
        // Only a new one makes it one too many.
        if is_new {
            let kept = self.stored_incidents().await?;
            let surplus = (kept.len() + 1).saturating_sub(INCIDENTS_KEPT);
            writes.extend(kept.into_iter().take(surplus).map(|entry| Write::Delete(entry.key)));
        }
        self.store.commit(vec![self.leads(leadership)], writes).await
    }

    /// The incident written last, if this version can read it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn last_incident(&self) -> Result<Option<Incident>, StoreError> {
        let entry = self.store.get(&self.key("last_incident")).await?;
        Ok(entry.and_then(|entry| {
            parse(&entry).inspect_err(|error| tracing::warn!(%error, "the last incident")).ok()
        }))
    }

    /// The last incidents, `last` at most, oldest first. One that this version cannot read is left out, with a
    /// warning: it must not hide the others.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn incidents(&self, last: usize) -> Result<Vec<Incident>, StoreError> {
        let entries = self.stored_incidents().await?;
        let readable = |entry: &Entry| match parse(entry) {
            Ok(incident) => Some(incident),
            Err(error) => {
                tracing::warn!(key = entry.key, %error, "an incident is left out");
                None
            }
        };
        let mut newest: Vec<Incident> = entries.iter().rev().filter_map(readable).take(last).collect();
        newest.reverse();
        Ok(newest)
    }

    /// In the order they were first written: wall clocks, which name them, may have been set back.
    async fn stored_incidents(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = self.store.list(&self.key("incident/")).await?;
        entries.sort_by_key(|entry| entry.created);
        Ok(entries)
    }

    /// Waits until a record may have changed beyond `since`; returns the store's revision.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn changed(&self, since: Revision) -> Result<Revision, StoreError> {
        self.store.changed(&self.prefix, since).await
    }
}

#[async_trait]
impl Lease for Records {
    async fn reign(&self) -> Result<Option<(Reign, Revision)>, StoreError> {
        self.reign().await
    }

    async fn last(&self) -> Result<Option<(LeaseRecord, Revision)>, StoreError> {
        self.lease().await
    }

    async fn renew(
        &self,
        reign: Revision,
        last: Option<Revision>,
        record: &LeaseRecord,
    ) -> Result<Outcome, StoreError> {
        self.renew_primary(reign, last, record).await
    }
}

fn put<T: Serialize>(key: String, value: &T) -> Result<Write, StoreError> {
    let value = json(&key, value)?;
    Ok(Write::Put { key, value, lease: None })
}

fn json<T: Serialize>(what: &str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Refused(format!("{what} cannot be written as JSON: {error}")))
}

fn parse<T: DeserializeOwned>(entry: &Entry) -> Result<T, StoreError> {
    serde_json::from_str(&entry.value).map_err(|error| unreadable(entry, &error))
}

fn unreadable(entry: &Entry, error: &dyn std::error::Error) -> StoreError {
    StoreError::Refused(format!(
        "{} is not what this version of Locum expects ({error}): run the version that wrote it",
        entry.key
    ))
}

/// The identifier with every number padded, so that whoever lists the keys finds epoch 10 after epoch 9 of the same
/// second.
fn sortable(id: &IncidentId) -> String {
    let mut key = String::new();
    for part in id.0.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        if !digits.is_empty() {
            key.push_str(&format!("{digits:0>20}"));
        }
        key.push_str(&part[digits.len()..]);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_incidents_sort_by_number() {
        let key = |id: &str| sortable(&IncidentId(id.to_owned()));
        assert_eq!(key("7-e2"), "00000000000000000007-e00000000000000000002");
        assert!(key("20261122-084030-e9") < key("20261122-084030-e10"));
        assert!(key("20261122-084030-e10") < key("20261122-084031-e1"));
    }
}
