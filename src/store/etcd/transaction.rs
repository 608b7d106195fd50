//! A guarded transaction in etcd's terms, and when it may be sent twice.
//!
//! A transaction whose own writes end one of its guards cannot be made twice: the second copy finds the guard gone. So
//! it is sent to another endpoint when the first is silent. If then a guard fails, a copy may have been made unnoticed:
//! that is so if the keys hold exactly what was to be written, all of one revision. (Somebody else who wrote the very
//! same from the same basis has brought about the same; what must tell writers apart carries their name or lease.)

use std::collections::{BTreeMap, BTreeSet};

use etcd_client::{Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::calls::{Again, Calls};
use crate::ports::{Guard, Outcome, Revision, StoreError, Write};

/// A transaction, ready to be sent any number of times.
pub(super) struct Transaction {
    guards: Vec<Guard>,
    /// One write per key.
    writes: BTreeMap<String, Kind>,
}

/// What becomes of a key.
enum Kind {
    Put { value: String, lease: i64 },
    Delete,
}

impl Transaction {
    /// # Errors
    /// [`StoreError::Refused`] if a key is to be deleted and put anew: etcd takes one write of a key.
    pub(super) fn new(guards: Vec<Guard>, writes: Vec<Write>) -> Result<Self, StoreError> {
        let mut deleted = BTreeSet::new();
        let mut last = BTreeMap::new();
        for write in writes {
            match write {
                Write::Delete(key) => {
                    deleted.insert(key.clone());
                    last.insert(key, Kind::Delete);
                }
                Write::Put { key, .. } if deleted.contains(&key) => {
                    let why =
                        format!("{key} is to be deleted and put in one transaction, which etcd cannot do");
                    return Err(StoreError::Refused(why));
                }
                Write::Put { key, value, lease } => {
                    let lease = lease.map_or(0, |lease| lease.0);
                    last.insert(key, Kind::Put { value, lease });
                }
            }
        }
        Ok(Self { guards, writes: last })
    }

    /// What a second copy would do.
    fn again(&self) -> Again {
        let ended = |guard: &Guard| match guard {
            Guard::Absent(key) | Guard::Modified(key, _) if self.puts(key) => true,
            Guard::Modified(key, _) | Guard::Created(key, _) => self.deletes(key),
            Guard::Holds(key, value) => self.deletes(key) || self.replaces(key, value),
            Guard::Absent(_) => false,
        };
        if self.writes.is_empty() || self.guards.iter().any(ended) { Again::Harmless } else { Again::Harmful }
    }

    fn puts(&self, key: &str) -> bool {
        matches!(self.writes.get(key), Some(Kind::Put { .. }))
    }

    fn replaces(&self, key: &str, value: &str) -> bool {
        matches!(self.writes.get(key), Some(Kind::Put { value: next, .. }) if next != value)
    }

    fn deletes(&self, key: &str) -> bool {
        matches!(self.writes.get(key), Some(Kind::Delete))
    }

    /// The same for etcd. Where guards fail it returns the keys that were to be put.
    fn request(&self) -> Txn {
        let mut compares = Vec::new();
        for guard in &self.guards {
            match guard {
                Guard::Absent(key) => {
                    compares.push(Compare::create_revision(key.as_str(), CompareOp::Equal, 0));
                }
                // A key that is not there has revision 0 in etcd's eyes, and must fail all the same.
                Guard::Created(key, at) => {
                    compares.push(Compare::create_revision(key.as_str(), CompareOp::Equal, at.0));
                    compares.push(Compare::version(key.as_str(), CompareOp::Greater, 0));
                }
                Guard::Modified(key, at) => {
                    compares.push(Compare::mod_revision(key.as_str(), CompareOp::Equal, at.0));
                    compares.push(Compare::version(key.as_str(), CompareOp::Greater, 0));
                }
                Guard::Holds(key, value) => {
                    compares.push(Compare::value(key.as_str(), CompareOp::Equal, value.as_str()));
                    compares.push(Compare::version(key.as_str(), CompareOp::Greater, 0));
                }
            }
        }
        let mut then: Vec<TxnOp> = self.writes.iter().map(|(key, kind)| operation(key, kind)).collect();
        let put_keys = self.writes.iter().filter(|(_, kind)| matches!(kind, Kind::Put { .. }));
        let mut otherwise: Vec<TxnOp> = put_keys.map(|(key, _)| TxnOp::get(key.as_str(), None)).collect();
        if then.is_empty() {
            // etcd answers a transaction that does nothing from the member's own state, however old that is; a read in
            // it makes it ask the others.
            let any = self.guards.first().map_or("/locum/", Guard::key);
            then.push(TxnOp::get(any, None));
            otherwise.push(TxnOp::get(any, None));
        }
        Txn::new().when(compares).and_then(then).or_else(otherwise)
    }

    /// The revision at which a copy of this was made, if what was found is exactly what it writes.
    fn made_at(&self, found: &[KeyValue]) -> Option<Revision> {
        let made = Revision(found.first()?.mod_revision());
        let puts = self.writes.iter().filter_map(|(key, kind)| match kind {
            Kind::Put { value, lease } => Some((key, value, *lease)),
            Kind::Delete => None,
        });
        let mut left = found.iter();
        for (key, value, lease) in puts {
            let kv = left.next()?;
            let same = (kv.key(), kv.value(), kv.lease()) == (key.as_bytes(), value.as_bytes(), lease);
            if !same || Revision(kv.mod_revision()) != made {
                return None;
            }
        }
        Some(made)
    }
}

fn operation(key: &str, kind: &Kind) -> TxnOp {
    match kind {
        Kind::Put { value, lease } => {
            let options = PutOptions::new().with_lease(*lease);
            TxnOp::put(key, value.as_str(), Some(options))
        }
        Kind::Delete => TxnOp::delete(key, None),
    }
}

impl Guard {
    fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Created(key, _) | Self::Modified(key, _) | Self::Holds(key, _) => key,
        }
    }
}

impl Calls {
    /// Makes a transaction.
    pub(super) async fn transact(&self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let before = self.seen();
        let answer = self
            .race(transaction.again(), |mut client| {
                let request = transaction.request();
                async move { client.txn(request).await }
            })
            .await?;
        let revision = answer.value.header().map(|header| Revision(header.revision()));
        self.note(before, revision)?;
        if answer.value.succeeded() {
            return Ok(Outcome::Committed(revision.unwrap_or_default()));
        }
        if !answer.others || transaction.writes.is_empty() {
            return Ok(Outcome::GuardFailed);
        }
        match transaction.made_at(&found(&answer.value)) {
            Some(made) => Ok(Outcome::Committed(made)),
            None => Err(StoreError::Outage(
                "an endpoint of etcd fell silent, and a copy sent elsewhere met a failed guard".to_owned(),
            )),
        }
    }
}

fn found(response: &TxnResponse) -> Vec<KeyValue> {
    let kvs = |response: TxnOpResponse| match response {
        TxnOpResponse::Get(mut get) => get.take_kvs(),
        _ => Vec::new(),
    };
    response.op_responses().into_iter().flat_map(kvs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::LeaseId;

    fn put(key: &str) -> Write {
        Write::Put { key: key.to_owned(), value: String::new(), lease: Some(LeaseId(1)) }
    }

    fn again(guards: Vec<Guard>, writes: Vec<Write>) -> Again {
        Transaction::new(guards, writes).expect("a good one").again()
    }

    #[test]
    fn only_what_ends_its_own_guard_is_sent_twice() {
        let at = Revision(5);
        assert_eq!(again(vec![Guard::Absent("a".into())], vec![put("a"), put("b")]), Again::Harmless);
        assert_eq!(again(vec![Guard::Modified("a".into(), at)], vec![put("a")]), Again::Harmless);
        assert_eq!(
            again(vec![Guard::Created("a".into(), at)], vec![Write::Delete("a".into())]),
            Again::Harmless
        );
        assert_eq!(
            again(vec![Guard::Created("a".into(), at)], vec![put("a")]),
            Again::Harmful,
            "it outlives a put"
        );
        assert_eq!(again(vec![Guard::Modified("a".into(), at)], vec![put("b")]), Again::Harmful);
        assert_eq!(again(vec![Guard::Absent("a".into())], vec![Write::Delete("a".into())]), Again::Harmful);
        let holds = |value: &str| vec![Guard::Holds("a".into(), value.into())];
        let Write::Put { value: same, .. } = put("a") else { panic!("a put") };
        assert_eq!(again(holds("another"), vec![put("a")]), Again::Harmless);
        assert_eq!(again(holds(&same), vec![put("a")]), Again::Harmful, "it holds still");
        assert_eq!(again(holds("another"), vec![put("b")]), Again::Harmful);
        assert_eq!(again(vec![], vec![put("a")]), Again::Harmful);
        assert_eq!(again(vec![], vec![]), Again::Harmless);
    }

    #[test]
    fn a_key_is_not_deleted_and_put_in_one() {
        let both = Transaction::new(vec![], vec![Write::Delete("a".into()), put("a")]);
        assert!(matches!(both, Err(StoreError::Refused(_))));
        assert!(Transaction::new(vec![], vec![put("a"), Write::Delete("a".into())]).is_ok());
    }
}
