//! Whether a fact stream is open, why not, and when to try again.

use std::{fmt, time::Duration};

use crate::model::NodeId;

/// The first wait before another try, and the longest: a network that is back is noticed within a second, connecting
/// included.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Why a fact stream is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// No connection, or it broke.
    Unreachable(String),
    /// It answered, and will not: another token, another cluster, another node.
    Refused(String),
    /// Nothing came for too long.
    Silent,
    /// What came had been on its way for too long.
    Late(Duration),
    /// The member closed it.
    Closed,
    /// What came are no facts.
    Malformed(String),
    /// What came are another node's facts.
    Foreign(NodeId),
}

impl Lost {
    /// True if both are the same to an operator. The words of a broken connection change from try to try.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused(one), Self::Refused(two)) => one == two,
            (Self::Foreign(one), Self::Foreign(two)) => one == two,
            (
                Self::Unreachable(_) | Self::Silent | Self::Late(_) | Self::Closed,
                Self::Unreachable(_) | Self::Silent | Self::Late(_) | Self::Closed,
            )
            | (Self::Malformed(_), Self::Malformed(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Self::Refused(why) => write!(f, "it refuses: {why}"),
            Self::Silent => f.write_str("it is silent"),
            Self::Late(by) => write!(f, "its messages come late, by {by:.1?}"),
            Self::Closed => f.write_str("it closed the connection"),
            Self::Malformed(why) => write!(f, "what it says cannot be read: {why}"),
            Self::Foreign(node) => write!(f, "{node} answers at its address"),
        }
    }
}

/// The state that was last told to the operator, and the wait before the next try.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// None: not known yet. Some(None): open.
    told: Option<Option<Lost>>,
    failures: u32,
}

impl Link {
    /// The stream is open. True if that is news.
    pub(super) fn opened(&mut self) -> bool {
        self.failures = 0;
        let news = self.told != Some(None);
        self.told = Some(None);
        news
    }

    /// The stream is not open. True if that is news: once per reason, not per try.
    pub(super) fn lost(&mut self, why: &Lost) -> bool {
        self.failures = self.failures.saturating_add(1);
        let news = !matches!(&self.told, Some(Some(told)) if told.same(why));
        self.told = Some(Some(why.clone()));
        news
    }

    /// How long to wait before the next try: twice as long after every failure, less up to a half by chance, so that
    /// members do not try in step.
    pub(super) fn wait(&self) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        let wait = doubled.min(LONGEST_WAIT);
        let chance = getrandom::u32().unwrap_or(0);
        wait - wait / 2 * (chance >> 16) / (1 << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once() {
        let mut link = Link::default();
        let wrong = Lost::Refused("the token is not the one of this cluster".into());
        assert!(link.lost(&wrong));
        assert!((0..5).all(|_| !link.lost(&wrong)), "the same again is no news");
        assert!(link.opened() && !link.opened());
        assert!(link.lost(&Lost::Silent));
        assert!(!link.lost(&Lost::Unreachable("connection refused".into())), "gone is gone");
        assert!(link.lost(&wrong), "another reason is");
    }

    #[test]
    fn waits_grow_to_half_a_second_and_begin_anew() {
        let mut link = Link::default();
        let between = |wait: Duration, most: u64| {
            let most = Duration::from_millis(most);
            assert!(wait > most / 2 - Duration::from_millis(1) && wait <= most, "{wait:?} of {most:?}");
        };
        for most in [50, 100, 200, 400, 500, 500, 500] {
            link.lost(&Lost::Silent);
            between(link.wait(), most);
        }
        for _ in 0..100 {
            link.lost(&Lost::Silent);
        }
        between(link.wait(), 500);
        link.opened();
        link.lost(&Lost::Silent);
        between(link.wait(), 50);
    }
}
