//! Failsafe time: while the store is silent, a primary serves on by the word of everybody who could be promoted, and tells every
//! member how far everybody is, because no renewal of the lease does.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::inner::Inner;
use crate::model::{Floors, Mono, NodeId, Note, Reached, Renewals, Stamp, lease};

/// How long those who could be promoted may take over their word.
const ASK: Duration = Duration::from_millis(500);
/// So many renewals of an earlier life may not have been written down by who remembers them. More: what was told in failsafe time
/// counts for some renewals longer. Fewer: not long enough.
const UNWRITTEN: u64 = 20;

impl Inner {
    /// Asks everybody who could be promoted. Until when it may serve by their word; None: somebody did not give it.
    pub(super) async fn ask_for_word(&self, stamp: Stamp) -> Option<Mono> {
        let note = self.note(stamp).await;
        let (asked, ttl) = (self.now(), self.serving.ttl);
        let words = self.words(stamp, ttl, note.as_ref()).await?;
        if !words.into_iter().all(|word| word == Some(true)) {
            return None;
        }
        self.known.lock().await.failsafe = true;
        note.iter().for_each(|note| self.send(note));
        Some(lease::holder_until(asked, ttl))
    }

    /// True if somebody who could be promoted knows of a higher epoch: then the store that grants this one was put back from a
    /// copy, and another may serve. Asked where the right had run out, or this member was not there; nobody has to answer.
    pub(super) async fn is_contradicted(&self, stamp: Stamp) -> bool {
        let words = self.words(stamp, Duration::ZERO, None).await;
        words.is_some_and(|words| words.contains(&Some(false)))
    }

    /// What everybody answers who could be promoted; None of them: no answer. None: nobody was noted in this epoch.
    ///
    /// Whoever gives it has noted before how far everybody is.
    async fn words(&self, stamp: Stamp, ttl: Duration, note: Option<&Note>) -> Option<Vec<Option<bool>>> {
        // A list that may be an old one could lack whoever was promoted.
        let whole = self.board.read(|s| s.memory_is_whole);
        let noted = self.held().await.admitted.filter(|(since, _)| whole && since.same_epoch(stamp));
        let (_, nodes) = noted?;
        let ask = |node: NodeId| async move {
            let member = self.serving.peers.member(&node)?;
            let word = async {
                if let Some(note) = note {
                    member.note(note.clone()).await.ok()?;
                }
                member.vouch(stamp, ttl).await.ok()
            };
            timeout(ASK, word).await.ok()?
        };
        Some(join_all(nodes.into_iter().map(ask)).await)
    }

    /// What the others are told while the store is silent. None: the server has not been looked at yet, and they go by what they
    /// were told before.
    async fn note(&self, stamp: Stamp) -> Option<Note> {
        // One renewal more may have been taken, whose answer was lost.
        let renewed = self.known.lock().await.renewed.filter(|(epoch, _)| *epoch == stamp.epoch);
        let own = renewed.map(|(_, last)| Renewals { count: last.count + 1, ..last });
        let remembered = self.serving.remembered.as_ref().and_then(|it| it.borrow().renewals);
        let earlier = remembered
            .filter(|last| last.incarnation == stamp.incarnation)
            .map(|last| Renewals { count: last.count + UNWRITTEN, ..last });
        let reached = self.board.read(super::board::State::reached)?;
        Some(Note {
            node: self.node.clone(),
            stamp,
            renewals: own.or(earlier),
            reached: Some(reached.at),
            floors: reached.floors,
        })
    }

    /// In failsafe time: whoever is promoted or started after this must have what everybody has now. Nobody is waited for.
    pub(super) async fn goes_on_telling(self: &Arc<Self>, stamp: Stamp) {
        let failsafe = self.known.lock().await.failsafe;
        if failsafe {
            self.note(stamp).await.iter().for_each(|note| self.send(note));
        }
    }

    /// The last renewal has carried everything: what was told before counts no more.
    pub(super) async fn stops_telling(self: &Arc<Self>, stamp: Stamp) {
        let mut known = self.known.lock().await;
        if std::mem::take(&mut known.failsafe) {
            let renewals = known.renewed.map(|(_, renewed)| renewed);
            let (reached, floors) = (None, Floors::default());
            self.send(&Note { node: self.node.clone(), stamp, renewals, reached, floors });
        }
    }

    fn send(&self, note: &Note) {
        if let Some(notes) = &self.serving.notes {
            notes.take(note.clone());
        }
        let peers = &self.serving.peers;
        for member in peers.all().iter().filter_map(|node| peers.member(node)) {
            let note = note.clone();
            tokio::spawn(async move { timeout(ASK, member.note(note)).await });
        }
    }

    /// What this node noted in this term itself, too: a postmaster that was found since has seen no standby confirm it.
    pub(super) fn with_notes(&self, mut reached: Reached, stamp: Stamp) -> Reached {
        let own = self.serving.notes.as_ref().and_then(|notes| notes.get()).map(|noted| noted.note);
        if let Some(mut note) = own.filter(|note| note.node == self.node && note.stamp.same_epoch(stamp)) {
            note.floors.cap(reached.at);
            reached.floors.merge(&note.floors);
        }
        reached
    }
}
