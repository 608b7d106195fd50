//! The postmaster of the primary died: which is sooner, crash recovery in its place or a promotion? Pure.
//!
//! Both replay WAL: the one from its last checkpoint's redo point on, the other what it has received and not replayed.

use std::time::Duration;

use super::{candidate, case::Case};
use crate::model::{Intent, Lsn, NodeId, ReplayEffort, Server};

/// WAL replayed in a second where nothing was ever measured. Less: what replays more seems slower than it is.
/// More: it seems faster, and a long recovery is begun where a promotion would have been over sooner; that is the dearer
/// mistake, so this is what a small virtual machine does from its page cache.
const RATE: u64 = 64 << 20;
/// What a start in place takes beside replay: the start itself, and in a sync mode the proof that the names are in force.
/// Less: a start is chosen where both are close. More: a promotion is.
const START: Duration = Duration::from_millis(400);
/// What a promotion takes beside replay: the fence or the recruit, the promotion, the way of the endpoints.
const PROMOTION: Duration = Duration::from_millis(200);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Start it again in its place.
    Start,
    /// Promote.
    Promote,
}

/// How fast WAL is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Bytes in a second.
    pub(super) bytes: u64,
    /// What that rests on.
    pub(super) basis: Basis,
}

/// What a rate rests on, the best first: how fast WAL is replayed depends on what it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// A standby replayed that very WAL.
    Same,
    /// The node replayed as much before it.
    Before,
    /// The last crash recoveries of the node.
    Recovery,
    /// It was never measured.
    Assumed,
}

impl Rate {
    /// Of that WAL on that node.
    fn of(case: &Case<'_>, node: &NodeId, from: Lsn, to: Lsn) -> Self {
        let efforts = case.others(None).into_iter().filter_map(|other| effort(case, other));
        let same =
            || efforts.filter(|effort| effort.knows(from, to)).find_map(|effort| effort.rate(from, to));
        let earlier = Lsn(from.0.saturating_sub(to.bytes_since(from)));
        let before = || effort(case, node).and_then(|effort| effort.rate(earlier, from));
        let recovery = || case.view.agent(node).and_then(|agent| agent.recovery_rate);
        let measured = (same().map(|bytes| (bytes, Basis::Same)))
            .or_else(|| Some((before()?, Basis::Before)))
            .or_else(|| Some((recovery()?, Basis::Recovery)));
        let (bytes, basis) = measured.unwrap_or((RATE, Basis::Assumed));
        Self { bytes, basis }
    }
}

fn effort<'a>(case: &Case<'a>, node: &NodeId) -> Option<&'a ReplayEffort> {
    match &case.view.agent(node)?.server.value {
        Server::Standby(standby) => Some(&standby.effort),
        _ => None,
    }
}

/// What one way costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// WAL to be replayed, in bytes.
    pub(super) bytes: u64,
    /// How fast.
    pub(super) rate: Rate,
    /// Everything else.
    pub(super) fixed: Duration,
}

impl Cost {
    pub(super) fn took(self) -> Duration {
        self.fixed + Duration::from_millis(self.bytes.saturating_mul(1000) / self.rate.bytes.max(1))
    }

    fn says(self) -> String {
        let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, (bytes >> 10) % 1024 * 10 / 1024);
        let (took, bytes, rate) = (self.took(), mib(self.bytes), mib(self.rate.bytes));
        let basis = match self.rate.basis {
            Basis::Same => "as a standby replayed it",
            Basis::Before => "as it replayed what was before",
            Basis::Recovery => "as in its last recovery",
            Basis::Assumed => "as is assumed",
        };
        format!("{took:.1?} ({bytes} of WAL to replay at {rate}/s, {basis})")
    }
}

/// The sooner way. A start in place leaves everything where it is, so it wins where both take equally long; what is not
/// known is not hoped for.
pub(super) fn sooner(start: Option<Cost>, promotion: Option<Cost>) -> Way {
    match (start, promotion) {
        (_, None) => Way::Start,
        (None, Some(_)) => Way::Promote,
        (Some(start), Some(promotion)) if start.took() <= promotion.took() => Way::Start,
        (Some(_), Some(_)) => Way::Promote,
    }
}

/// Both ways for a primary, with where its redo point and its end of WAL are: the sooner one, and what both would take.
pub(super) fn weigh(
    case: &Case<'_>,
    intent: &Intent,
    node: &NodeId,
    redo: Option<Lsn>,
    end: Option<Lsn>,
) -> (Way, Vec<String>) {
    let (fit, _) = candidate::survey(case, intent, Some(node));
    let standbys = fit.iter().filter_map(|other| match &case.heard(other)?.server.value {
        Server::Standby(standby) => Some((other, standby.flushed, standby.replayed)),
        _ => None,
    });
    let best = standbys.max_by_key(|(_, flushed, _)| *flushed);
    // What the standby has, the primary had.
    let read = case.view.rpo.as_ref().map(|rpo| rpo.primary);
    let end = end.max(read).max(best.map(|(_, flushed, ..)| flushed));
    let start = redo.zip(end).map(|(redo, end)| Cost {
        bytes: end.bytes_since(redo),
        rate: Rate::of(case, node, redo, end),
        fixed: START,
    });
    let promotion = best.map(|(other, flushed, replayed)| Cost {
        bytes: flushed.bytes_since(replayed),
        rate: Rate::of(case, other, replayed, flushed),
        fixed: PROMOTION,
    });
    let mut said = vec![match start {
        Some(cost) => format!("{node} started in its place would serve in about {}", cost.says()),
        None => {
            format!("how long {node} would take to start in its place is not known: no control file was read")
        }
    }];
    said.push(match (best, promotion) {
        (Some((other, ..)), Some(cost)) => format!("{other} promoted would serve in about {}", cost.says()),
        _ => "nobody can be promoted".to_owned(),
    });
    (sooner(start, promotion), said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_way_is_taken() {
        let cost = |mib: u64, rate: u64, ms| Cost {
            bytes: mib << 20,
            rate: Rate { bytes: rate << 20, basis: Basis::Same },
            fixed: Duration::from_millis(ms),
        };
        let (start, promotion) = (|mib| Some(cost(mib, 64, 400)), |mib| Some(cost(mib, 64, 200)));
        for (start, promotion, way, why) in [
            (start(1024), promotion(0), Way::Promote, "a second per 64 MiB"),
            (start(1), promotion(64), Way::Start, "a second behind"),
            (start(0), promotion(0), Way::Promote, "nothing to replay: the fixed costs decide"),
            (start(64), promotion(64), Way::Promote, "the same to replay"),
            (Some(cost(0, 64, 200)), promotion(0), Way::Start, "equal: everything stays where it is"),
            (Some(cost(1024, 1024, 400)), Some(cost(128, 64, 200)), Way::Start, "quickly replayed"),
            (Some(cost(64, 8, 400)), Some(cost(128, 64, 200)), Way::Promote, "slowly replayed"),
            (None, promotion(1 << 20), Way::Promote, "what is not known is not hoped for"),
            (start(1 << 20), None, Way::Start, "nobody can be promoted"),
            (None, None, Way::Start, "the same"),
            (Some(cost(1, 0, 1)), promotion(0), Way::Promote, "no division by zero"),
            (start(u64::MAX >> 20), promotion(0), Way::Promote, "no overflow"),
        ] {
            assert_eq!(sooner(start, promotion), way, "{why}");
        }
    }

    #[test]
    fn a_cost_is_told_with_what_it_rests_on() {
        for (basis, mib, said) in [
            (Basis::Assumed, 64, "2.0s (100.0 MiB of WAL to replay at 64.0 MiB/s, as is assumed)"),
            (Basis::Same, 100, "1.4s (100.0 MiB of WAL to replay at 100.0 MiB/s, as a standby replayed it)"),
            (
                Basis::Before,
                50,
                "2.4s (100.0 MiB of WAL to replay at 50.0 MiB/s, as it replayed what was before)",
            ),
            (
                Basis::Recovery,
                200,
                "900.0ms (100.0 MiB of WAL to replay at 200.0 MiB/s, as in its last recovery)",
            ),
        ] {
            let rate = Rate { bytes: mib << 20, basis };
            let cost = Cost { bytes: 100 << 20, rate, fixed: Duration::from_millis(400) };
            assert_eq!(cost.says(), said);
        }
    }
}
