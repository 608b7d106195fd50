//! The fencing token: a number that grows with every declared primary, and what refines it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Grows by one with every declared primary. Every effect carries it; every target refuses a lower one.
    Epoch
}
counter! {
    /// Grows with every change of the stored intent, so that a late message of the *same* epoch is refused too.
    Version
}
counter! {
    /// The life of a store. A wiped or restored store that a person accepts begins a new one.
    Incarnation
}

/// What every effect carries and every target remembers: ordered by incarnation, then epoch, then version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The life of the store that the effect was decided in.
    pub incarnation: Incarnation,
    /// The declared primary that the effect belongs to.
    pub epoch: Epoch,
    /// The exact intent that the effect was decided on.
    pub version: Version,
}

impl Stamp {
    /// The stamp that begins a new life of the store, after everything that anybody remembers: no intent has it, because
    /// their versions begin at one. If a new life is being begun already, it is that one.
    #[must_use]
    pub const fn new_life(self) -> Self {
        if self.version.0 == 0 {
            return self;
        }
        Self { incarnation: self.incarnation.next(), epoch: self.epoch, version: Version(0) }
    }

    /// True if both belong to the same declared primary.
    #[must_use]
    pub fn same_epoch(self, other: Self) -> bool {
        (self.incarnation, self.epoch) == (other.incarnation, other.epoch)
    }
}

impl FromStr for Stamp {
    type Err = BadStamp;

    /// What `Display` prints.
    fn from_str(text: &str) -> Result<Self, BadStamp> {
        let mut parts = text.split('.').map(str::parse);
        let mut next = || parts.next().and_then(Result::ok).ok_or(BadStamp);
        let stamp =
            Self { incarnation: Incarnation(next()?), epoch: Epoch(next()?), version: Version(next()?) };
        if parts.next().is_none() { Ok(stamp) } else { Err(BadStamp) }
    }
}

/// It is no stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a stamp: three numbers with points between them are expected")]
pub struct BadStamp;

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.incarnation, self.epoch, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_is_printed() {
        let stamp = Stamp { incarnation: Incarnation(1), epoch: Epoch(2), version: Version(30) };
        assert_eq!(stamp.to_string().parse(), Ok(stamp));
        for bad in ["", "1.2", "1.2.3.4", "1.2.x", "1..3"] {
            assert_eq!(bad.parse::<Stamp>(), Err(BadStamp), "{bad}");
        }
    }

    #[test]
    fn a_later_epoch_outranks_any_version_of_an_earlier_one() {
        let stamp = |i, e, v| Stamp { incarnation: Incarnation(i), epoch: Epoch(e), version: Version(v) };
        assert!(stamp(1, 2, 1) > stamp(1, 1, 99));
        assert!(stamp(2, 1, 1) > stamp(1, 9, 99));
        assert!(stamp(1, 1, 2) > stamp(1, 1, 1));
    }
}
