//! The stop of a member beside the primary is written down before nothing watches that primary any more: from then on its
//! lease is not renewed, and a promotion would find it still serving.

use crate::{
    model::{Intent, NodeId, Stamp},
    ports::StoreError,
    store::{Declared, Records},
};

/// How often it is tried when others write at the same time.
const TRIES: u32 = 5;

/// Declares the primary of this node unattended; nothing if it is not the primary. True: nobody is promoted until this
/// member is back, or a person asks; only then may the guard be disarmed.
///
/// A store that was put back says less than this member has `known`. Written on, it would come to the number of what it
/// lacks, and be believed by everybody.
pub async fn leave_unattended(records: &Records, node: &NodeId, known: Option<Stamp>) -> bool {
    for _ in 0..TRIES {
        match try_once(records, node, known).await {
            Ok(Some(left)) => return left,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the store could not be told that this primary is left alone; its guard stays armed");
                return false;
            }
        }
    }
    tracing::warn!("others write the intent all the time; the guard of this primary stays armed");
    false
}

/// None: somebody else wrote first.
async fn try_once(
    records: &Records,
    node: &NodeId,
    known: Option<Stamp>,
) -> Result<Option<bool>, StoreError> {
    let Some((intent, revision)) = records.intent().await? else { return Ok(Some(true)) };
    if known > Some(intent.stamp()) {
        tracing::warn!(store = %intent.stamp(), "the store is older than what this member remembers; the guard stays armed");
        return Ok(Some(false));
    }
    if intent.primary.as_ref() != Some(node) {
        return Ok(Some(true));
    }
    // Written anew even if it stands there: a slow "it is back" of this very member may still be under way, and only a
    // later version stops that.
    let next = Intent { attended: false, ..intent.clone() }.raised();
    match records.amend((&intent, revision), &next).await? {
        Declared::Stored(_) => {
            tracing::info!("nobody is promoted until this member is back, or a person asks for it");
            Ok(Some(true))
        }
        Declared::Conflict => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        clock::SystemClock,
        model::{ClusterName, Durability, Epoch, Incarnation},
        store::Memory,
    };

    #[tokio::test]
    async fn a_store_that_says_less_than_is_known_here_is_not_written_on() {
        let node = NodeId::new("seoul").expect("a good name");
        let store = Arc::new(Memory::new(Arc::new(SystemClock)));
        let records = Records::new(store, ClusterName::new("test").expect("a good name"));
        let leadership = records.campaign(&node, Duration::from_secs(60)).await.expect("an answer");
        let intent = Intent::first(Incarnation(1), Epoch(1), node.clone(), Durability::Sync);
        records.declare(&leadership.expect("leads"), None, &intent).await.expect("declared");

        let more = intent.clone().raised().stamp();
        assert!(!leave_unattended(&records, &node, Some(more)).await, "the guard stays armed");
        let (stands, _) = records.intent().await.expect("an answer").expect("an intent");
        assert_eq!(stands, intent, "raised, it would have the number of the intent that it lacks");

        assert!(leave_unattended(&records, &node, Some(intent.stamp())).await);
        let (stands, _) = records.intent().await.expect("an answer").expect("an intent");
        assert!(!stands.attended);
    }
}
