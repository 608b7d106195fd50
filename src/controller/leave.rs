//! The stop of a member beside the primary is written down before nothing watches that primary any more: from then on its
//! lease is not renewed, and a promotion would find it still serving.

use crate::{
    model::{Intent, NodeId},
    ports::StoreError,
    store::{Declared, Records},
};

/// How often it is tried when others write at the same time.
const TRIES: u32 = 5;

/// Declares the primary of this node unattended; nothing if it is not the primary. True: nobody is promoted until this
/// member is back, or a person asks; only then may the guard be disarmed.
pub async fn leave_unattended(records: &Records, node: &NodeId) -> bool {
    for _ in 0..TRIES {
        match try_once(records, node).await {
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
async fn try_once(records: &Records, node: &NodeId) -> Result<Option<bool>, StoreError> {
    let Some((intent, revision)) = records.intent().await? else { return Ok(Some(true)) };
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
