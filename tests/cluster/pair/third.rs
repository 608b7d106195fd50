//! A third node beside the pair.

use locum::model::Snapshot;

use super::{Host, LivePair, Wish};
use crate::fixture::Node;

/// Its name.
pub(crate) const THIRD: &str = "gamma";

/// It. Dropping it ends what its member has begun.
pub(crate) struct Third(pub(crate) Host);

impl Drop for Third {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A pair as wished, and a third node that has no data directory and whose member was not started yet; of the wish it
/// has what is set.
pub(crate) async fn joined(wish: &Wish) -> (LivePair, Third) {
    let mut pair = LivePair::wished(wish).await;
    let third = Third(pair.further(Node::new(THIRD), wish));
    (pair, third)
}

/// One primary, and so many standbys that stream and are waited for.
pub(crate) fn well(snapshot: &Snapshot, standbys: usize) -> bool {
    let Some(intent) = &snapshot.intent else { return false };
    let stream = snapshot.nodes.iter().filter(|status| status.streaming && status.sync).count();
    let serves = snapshot.nodes.iter().filter(|status| status.serving).count();
    let settled = intent.sync == intent.sync_next;
    serves == 1 && stream == standbys && settled
}
