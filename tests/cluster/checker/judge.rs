//! What is wrong with a history. Pure: it looks at what clients saw and at what survived, and at nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use super::{Attempt, History, Outcome, Read, Survivor};

/// How many examples of each kind are printed.
const SHOWN: usize = 5;

/// A row: who wrote it, and its number.
pub(crate) type Row = (u32, u64);

/// One timeline on which more than one node acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// The timeline.
    pub(crate) timeline: u32,
    /// The nodes.
    pub(crate) nodes: Vec<Arc<str>>,
}

/// A read that did not show what had been acknowledged before it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    /// It.
    pub(crate) read: Read,
    /// For how long the first row that it lacks had been acknowledged.
    pub(crate) age_us: u64,
}

/// The judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Acknowledged commits.
    pub(crate) acknowledged: usize,
    /// Acknowledged with a warning: reported, and not counted as acknowledged.
    pub(crate) warned: usize,
    /// Of these, rows that are not there.
    pub(crate) warned_missing: usize,
    /// Refused or never sent.
    pub(crate) failed: usize,
    /// Of unknown outcome.
    pub(crate) unknown: usize,
    /// Of these, rows that are there.
    pub(crate) unknown_there: usize,
    /// Acknowledged, and not there.
    pub(crate) lost: Vec<Row>,
    /// There more than once.
    pub(crate) duplicated: Vec<Row>,
    /// Refused, and there all the same.
    pub(crate) ghosts: Vec<Row>,
    /// There, and never attempted.
    pub(crate) foreign: Vec<Row>,
    /// Two nodes acknowledged on one timeline.
    pub(crate) split: Vec<Split>,
    /// Told committed by a server that had left recovery by hand, until it was frozen: the one exception. It judges nothing
    /// else.
    pub(crate) stray: Vec<Attempt>,
    /// Of these, rows that are not there.
    pub(crate) stray_missing: usize,
    /// Sent to the old node after the new one had acknowledged, and acknowledged by the old one without a warning.
    pub(crate) after_fence: Vec<Attempt>,
    /// The same with the warning that nobody waited for a standby: the client was told that it may be lost. An isolated
    /// primary does that until its right to serve runs out, and no longer: see [`Verdict::warned_after_fence_ms`].
    pub(crate) warned_after_fence: Vec<(Attempt, u64)>,
    /// Sent before, and told after: a commit that was held. Only reported: whether its row was lost is said above.
    pub(crate) late: usize,
    /// Reads that showed an older state than was acknowledged.
    pub(crate) stale: Vec<Stale>,
}

/// What an old primary tells with a warning ends with its right to serve: at the latest one `lease_ttl` (the default, which
/// the laboratory uses) after its last renewal, which was before the new one's first acknowledgement.
const LEASE_TTL_MS: u64 = 3_000;

impl Verdict {
    /// What must not be, whatever the mode.
    #[must_use]
    pub(crate) fn is_sound(&self) -> bool {
        let Self { duplicated, ghosts, foreign, split, after_fence, .. } = self;
        duplicated.is_empty()
            && ghosts.is_empty()
            && foreign.is_empty()
            && split.is_empty()
            && after_fence.is_empty()
            && self.warned_after_fence_ms().is_none_or(|ms| ms <= LEASE_TTL_MS)
    }

    /// Sound, and nothing acknowledged is lost.
    #[must_use]
    pub(crate) fn is_lossless(&self) -> bool {
        self.is_sound() && self.lost.is_empty()
    }

    /// For how long after the fence the old node went on telling warned commits, in milliseconds.
    #[must_use]
    pub(crate) fn warned_after_fence_ms(&self) -> Option<u64> {
        self.warned_after_fence.iter().map(|(_, after_us)| after_us / 1000).max()
    }

    /// For how long a server that was promoted by hand acknowledged, in milliseconds: from when the first of these was sent to when
    /// the last was told. None: it acknowledged nothing.
    #[must_use]
    pub(crate) fn stray_ms(&self) -> Option<u64> {
        let first = self.stray.iter().map(|attempt| attempt.start_us).min()?;
        let last = self.stray.iter().map(|attempt| attempt.end_us).max()?;
        Some((last - first) / 1000)
    }

    /// The age of the oldest state that was read, in milliseconds.
    #[must_use]
    pub(crate) fn stalest_ms(&self) -> Option<u64> {
        self.stale.iter().map(|stale| stale.age_us / 1000).max()
    }
}

/// Judges.
#[must_use]
pub(crate) fn judge(history: &History, survivor: &Survivor) -> Verdict {
    let mut verdict = Verdict::default();
    let mut attempted = BTreeSet::new();
    for attempt in &history.attempts {
        let row = (attempt.writer, attempt.seq);
        attempted.insert(row);
        let there = survivor.rows.contains_key(&row);
        if attempt.is_told_committed() && history.is_stray(attempt) {
            verdict.stray.push(attempt.clone());
            verdict.stray_missing += usize::from(!there);
            continue;
        }
        match attempt.outcome {
            Outcome::Acknowledged => {
                verdict.acknowledged += 1;
                verdict.lost.extend((!there).then_some(row));
            }
            Outcome::Warned => {
                verdict.warned += 1;
                verdict.warned_missing += usize::from(!there);
            }
            Outcome::Failed => {
                verdict.failed += 1;
                verdict.ghosts.extend(there.then_some(row));
            }
            Outcome::Unknown => {
                verdict.unknown += 1;
                verdict.unknown_there += usize::from(there);
            }
        }
    }
    verdict.duplicated = survivor.rows.iter().filter(|(_, count)| **count > 1).map(|(row, _)| *row).collect();
    verdict.foreign = survivor.rows.keys().filter(|row| !attempted.contains(row)).copied().collect();
    verdict.duplicated.sort_unstable();
    verdict.foreign.sort_unstable();
    let lawful: Vec<_> = history.attempts.iter().filter(|attempt| !history.is_stray(attempt)).collect();
    verdict.split = split(&lawful);
    after_fence(&lawful, &mut verdict);
    verdict.stale = stale(history);
    verdict
}

/// A promotion begins a timeline, and one node alone writes on it.
fn split(attempts: &[&Attempt]) -> Vec<Split> {
    let mut by_timeline: BTreeMap<u32, BTreeSet<Arc<str>>> = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.is_told_committed()) {
        if let (Some(timeline), Some(node)) = (attempt.timeline, &attempt.node) {
            by_timeline.entry(timeline).or_default().insert(Arc::clone(node));
        }
    }
    let two = by_timeline.into_iter().filter(|(_, nodes)| nodes.len() > 1);
    two.map(|(timeline, nodes)| Split { timeline, nodes: nodes.into_iter().collect() }).collect()
}

/// What was told committed on a timeline after a later one had its first acknowledgement.
fn after_fence(attempts: &[&Attempt], verdict: &mut Verdict) {
    let told = || attempts.iter().filter(|attempt| attempt.is_told_committed());
    let mut first: BTreeMap<u32, u64> = BTreeMap::new();
    for attempt in told() {
        if let Some(timeline) = attempt.timeline {
            let at = first.entry(timeline).or_insert(attempt.end_us);
            *at = (*at).min(attempt.end_us);
        }
    }
    for attempt in told() {
        let Some(timeline) = attempt.timeline else { continue };
        let Some(fence) = first.range(timeline + 1..).map(|(_, at)| *at).min() else { continue };
        if attempt.start_us < fence {
            verdict.late += usize::from(attempt.end_us > fence);
        } else if attempt.outcome == Outcome::Warned {
            verdict.warned_after_fence.push(((*attempt).clone(), attempt.end_us - fence));
        } else {
            verdict.after_fence.push((*attempt).clone());
        }
    }
}

fn stale(history: &History) -> Vec<Stale> {
    // Per writer, ascending: a writer sends one row after the other.
    let mut acknowledged: HashMap<u32, Vec<(u64, u64)>> = HashMap::new();
    let told = |attempt: &&Attempt| attempt.outcome == Outcome::Acknowledged && !history.is_stray(attempt);
    for attempt in history.attempts.iter().filter(told) {
        acknowledged.entry(attempt.writer).or_default().push((attempt.seq, attempt.end_us));
    }
    acknowledged.values_mut().for_each(|all| all.sort_unstable());
    let judge = |read: &Read| {
        let all = acknowledged.get(&read.writer)?;
        let (_, known) = *all.get(all.partition_point(|(seq, _)| *seq <= read.seen))?;
        (known < read.start_us).then(|| Stale { read: read.clone(), age_us: read.start_us - known })
    };
    history.reads.iter().filter_map(judge).collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} acknowledged, {} with a warning ({} of these are not there), {} failed, {} unknown ({} of these are there), {} told late",
            self.acknowledged,
            self.warned,
            self.warned_missing,
            self.failed,
            self.unknown,
            self.unknown_there,
            self.late
        )?;
        for (what, rows) in [
            ("LOST", &self.lost),
            ("DUPLICATED", &self.duplicated),
            ("REFUSED, AND THERE", &self.ghosts),
            ("NEVER ATTEMPTED, AND THERE", &self.foreign),
        ] {
            if !rows.is_empty() {
                writeln!(f, "{what}: {}, such as {:?}", rows.len(), &rows[..rows.len().min(SHOWN)])?;
            }
        }
        for Split { timeline, nodes } in &self.split {
            writeln!(f, "SPLIT BRAIN: on timeline {timeline} there acknowledged {}", nodes.join(" and "))?;
        }
        if !self.after_fence.is_empty() {
            writeln!(f, "ACKNOWLEDGED AFTER THE FENCE: {}, such as", self.after_fence.len())?;
            self.after_fence.iter().take(SHOWN).try_for_each(|attempt| writeln!(f, "  {attempt:?}"))?;
        }
        if let Some(ms) = self.warned_after_fence_ms() {
            let count = self.warned_after_fence.len();
            writeln!(
                f,
                "told with a warning by the old node after the fence: {count}, the last {ms} ms after it"
            )?;
        }
        if let Some(ms) = self.stray_ms() {
            let (count, missing) = (self.stray.len(), self.stray_missing);
            writeln!(
                f,
                "acknowledged by a server that was promoted by hand: {count}, within {ms} ms; {missing} of these are not there"
            )?;
        }
        if let Some(ms) = self.stalest_ms() {
            writeln!(f, "stale reads: {}, the stalest by {ms} ms", self.stale.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Via;

    fn ack(writer: u32, seq: u64, node: &str, timeline: u32, at: u64) -> Attempt {
        Attempt {
            writer,
            seq,
            via: Arc::new(Via::Endpoint("seoul".into())),
            start_us: at,
            end_us: at + 5,
            outcome: Outcome::Acknowledged,
            node: Some(node.into()),
            timeline: Some(timeline),
            server: None,
            error: None,
        }
    }

    fn history(attempts: Vec<Attempt>) -> History {
        History { attempts, ..History::default() }
    }

    fn holds(rows: &[(Row, u32)]) -> Survivor {
        Survivor { node: "tokyo".into(), rows: rows.iter().copied().collect() }
    }

    #[test]
    fn a_clean_failover_is_clean() {
        let seen = history(vec![ack(1, 1, "seoul", 1, 0), ack(1, 2, "tokyo", 2, 100)]);
        let verdict = judge(&seen, &holds(&[((1, 1), 1), ((1, 2), 1)]));
        assert!(verdict.is_lossless(), "{verdict}");
        assert_eq!(verdict.acknowledged, 2);
    }

    #[test]
    fn a_lost_row_is_found() {
        let seen = history(vec![ack(1, 1, "seoul", 1, 0), ack(1, 2, "seoul", 1, 10)]);
        let verdict = judge(&seen, &holds(&[((1, 1), 1)]));
        assert_eq!(verdict.lost, [(1, 2)]);
        assert!(verdict.is_sound() && !verdict.is_lossless());
    }

    #[test]
    fn a_row_that_is_there_twice_is_found() {
        let seen = history(vec![ack(1, 1, "seoul", 1, 0)]);
        let verdict = judge(&seen, &holds(&[((1, 1), 2)]));
        assert_eq!(verdict.duplicated, [(1, 1)]);
        assert!(!verdict.is_sound());
    }

    #[test]
    fn two_nodes_on_one_timeline_are_a_split_brain_even_if_every_row_is_there() {
        let seen = history(vec![ack(1, 1, "seoul", 2, 0), ack(2, 1, "tokyo", 2, 50)]);
        let verdict = judge(&seen, &holds(&[((1, 1), 1), ((2, 1), 1)]));
        assert_eq!(verdict.split, [Split { timeline: 2, nodes: vec!["seoul".into(), "tokyo".into()] }]);
        assert!(!verdict.is_sound());
    }

    #[test]
    fn an_acknowledgement_of_the_old_node_after_the_new_ones_first_is_found() {
        let stray = ack(1, 9, "seoul", 1, 200);
        let seen = history(vec![ack(2, 1, "tokyo", 2, 100), stray.clone()]);
        let verdict = judge(&seen, &holds(&[((1, 9), 1), ((2, 1), 1)]));
        assert_eq!(verdict.after_fence, [stray]);
        assert!(!verdict.is_sound());
    }

    #[test]
    fn what_a_server_acknowledged_that_was_promoted_by_hand_is_counted_apart_and_nothing_else_is_excused() {
        use crate::checker::history::Server;
        let by = |began: &str, attempt: Attempt| Attempt { server: Some(began.into()), ..attempt };
        let attempts = vec![
            by("10", ack(1, 1, "seoul", 1, 0)),
            by("20", ack(2, 1, "tokyo", 2, 100)),
            by("10", ack(1, 2, "seoul", 1, 200)),
            // A later run of the same node, on the same timeline: nobody promoted that one by hand.
            by("30", ack(2, 2, "tokyo", 2, 300)),
        ];
        let strays = vec![Server { node: "tokyo".into(), began: "20".into() }];
        let seen = History { strays, attempts: attempts[..3].to_vec(), ..History::default() };
        let verdict = judge(&seen, &holds(&[((1, 1), 1), ((1, 2), 1)]));
        assert!(verdict.is_lossless(), "{verdict}");
        assert_eq!((verdict.acknowledged, verdict.stray.len(), verdict.stray_missing), (2, 1, 1));
        assert_eq!(verdict.stray_ms(), Some(0));
        let verdict =
            judge(&History { strays: Vec::new(), ..seen.clone() }, &holds(&[((1, 1), 1), ((1, 2), 1)]));
        assert_eq!((verdict.lost.as_slice(), verdict.after_fence.len()), ([(2, 1)].as_slice(), 1));
        let verdict = judge(&History { attempts, ..seen }, &holds(&[((1, 1), 1), ((1, 2), 1)]));
        assert_eq!(verdict.lost, [(2, 2)]);
    }

    #[test]
    fn for_how_long_the_old_node_told_warned_commits_after_the_new_ones_first_is_reported() {
        let stray = Attempt { outcome: Outcome::Warned, ..ack(1, 9, "seoul", 1, 5_100) };
        let seen = history(vec![ack(2, 1, "tokyo", 2, 100), stray]);
        let verdict = judge(&seen, &holds(&[((2, 1), 1)]));
        assert_eq!((verdict.after_fence.len(), verdict.warned_after_fence_ms()), (0, Some(5)));
        assert!(verdict.is_sound());
    }

    #[test]
    fn beyond_its_lease_the_old_node_may_not_even_tell_warned_commits() {
        let stray = Attempt { outcome: Outcome::Warned, ..ack(1, 9, "seoul", 1, 3_101_000) };
        let seen = history(vec![ack(2, 1, "tokyo", 2, 100), stray]);
        assert!(!judge(&seen, &holds(&[((2, 1), 1)])).is_sound());
    }

    #[test]
    fn a_commit_that_was_held_and_is_told_late_is_only_reported() {
        let held = Attempt { start_us: 50, end_us: 120, ..ack(1, 1, "seoul", 1, 0) };
        let seen = history(vec![held, ack(2, 1, "tokyo", 2, 100)]);
        let verdict = judge(&seen, &holds(&[((1, 1), 1), ((2, 1), 1)]));
        assert!(verdict.is_lossless(), "{verdict}");
        assert_eq!(verdict.late, 1);
    }

    #[test]
    fn a_cancelled_wait_is_reported_and_not_counted_as_acknowledged() {
        let warned = Attempt { outcome: Outcome::Warned, ..ack(1, 1, "seoul", 1, 0) };
        let verdict = judge(&history(vec![warned]), &holds(&[]));
        assert_eq!((verdict.warned, verdict.warned_missing, verdict.acknowledged), (1, 1, 0));
        assert!(verdict.is_lossless(), "{verdict}");
    }

    #[test]
    fn a_refused_row_must_not_be_there_and_an_unknown_one_may() {
        let refused = Attempt { outcome: Outcome::Failed, ..ack(1, 1, "seoul", 1, 0) };
        let unknown = Attempt { outcome: Outcome::Unknown, ..ack(1, 2, "seoul", 1, 0) };
        let verdict = judge(&history(vec![refused, unknown]), &holds(&[((1, 1), 1), ((1, 2), 1)]));
        assert_eq!((verdict.ghosts.as_slice(), verdict.unknown_there), ([(1, 1)].as_slice(), 1));
        assert!(!verdict.is_sound());
    }

    #[test]
    fn a_row_that_nobody_wrote_is_found() {
        assert_eq!(judge(&history(Vec::new()), &holds(&[((7, 7), 1)])).foreign, [(7, 7)]);
    }

    #[test]
    fn a_stale_read_is_as_old_as_the_first_acknowledged_row_that_it_lacks() {
        let read = |seen, start_us| Read {
            via: Arc::new(Via::Endpoint("seoul".into())),
            writer: 1,
            seen,
            start_us,
            end_us: start_us + 1,
            node: None,
        };
        let attempts = vec![ack(1, 1, "seoul", 1, 0), ack(1, 3, "seoul", 1, 10), ack(1, 4, "seoul", 1, 20)];
        let reads = vec![read(4, 100), read(1, 12), read(1, 100)];
        let verdict = judge(&History { attempts, reads, ..History::default() }, &holds(&[]));
        // Acknowledged at 15: after the second read was sent, and 85 before the third was.
        assert_eq!(verdict.stale, [Stale { read: read(1, 100), age_us: 85 }]);
    }
}
